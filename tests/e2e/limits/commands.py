"""The `attache` binary beside a running gateway."""

import subprocess
import time

from harness import chat
from project import ATTACHE


def run(gateway, *arguments, status=0, **environment):
    """Standard output of a command in the gateway's environment; standard error of one that fails."""
    done = subprocess.run([str(part) for part in (ATTACHE, *arguments)], text=True, capture_output=True, check=False,
                          env={**gateway.stack.environment, **environment}, timeout=120)
    assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout if status == 0 else done.stderr


def of_stack(gateway):
    """Where a command finds the gateway's own database."""
    return "--config", gateway.stack.config, "--data-dir", gateway.stack.data


def twin(gateway, *arguments, **options):
    """A command that talks to the gateway through Envoy."""
    return run(gateway, *arguments, "--url", gateway.url, "--master-key", gateway.master_key, **options)


def answered(gateway, key, status, model="lim", seconds=5):
    """The answer of this status: within a second of a change everyone knows; some more for slow machines."""
    end = time.monotonic() + seconds
    while (answer := gateway.post(chat(model), key=key)).status_code != status:
        assert time.monotonic() < end, f"{answer.status_code} instead of {status}: {answer.text}"
        time.sleep(0.05)
    return answer
