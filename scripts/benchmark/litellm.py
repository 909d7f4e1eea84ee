"""LiteLLM's proxy from PyPI, in an environment of its own: installed when it is first needed."""

import json
import os
import sys

from project import LOCAL, Failure, output, run, say, wait_for
from stack import Process, free_address, http, random_key

VERSION = "1.109.1"
VENV = LOCAL / "litellm-venv"
PYTHON = VENV / "bin" / "python"
# Pins of its `proxy` extra that an index may not hold; neither is in the path of a request.
LOOSE = ("litellm-proxy-extras", "certifi")
# Prints the requirements of the extra, those above without their versions.
WANTED = f"""
import importlib.metadata
from pip._vendor.packaging.requirements import Requirement
for text in importlib.metadata.requires("litellm"):
    wanted = Requirement(text)
    if wanted.marker is None or wanted.marker.evaluate({{"extra": "proxy"}}):
        wanted.marker = None
        print(wanted.name if wanted.name in {LOOSE!r} else wanted)
"""


def installed():
    """The version that is installed, or None."""
    if not (VENV / "bin" / "litellm").exists():
        return None
    return output([PYTHON, "-c", "import importlib.metadata as m; print(m.version('litellm'))"])


def install():
    """Installs it unless it is there. Returns None, or why it could not be."""
    if installed() == VERSION:
        return None
    say(f"installing LiteLLM {VERSION} into {VENV.name} (some minutes, once)")
    try:
        run([sys.executable, "-m", "venv", "--clear", VENV])
        pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if output([*pip, f"litellm[proxy]=={VERSION}"], timeout=1200) is None:
            run([*pip, "--no-deps", f"litellm=={VERSION}"])
            wanted = output([PYTHON, "-c", WANTED])
            if not wanted:
                raise Failure(f"the requirements of litellm {VERSION} cannot be read")
            run([*pip, *wanted.splitlines()])
    except Failure as failure:
        return f"LiteLLM {VERSION} cannot be installed: {failure}"
    return None if installed() == VERSION else f"LiteLLM {VERSION} is not there after its installation"


class LiteLlm:
    """One worker with a master key, and the fake provider as its only deployment."""

    def __init__(self, folder, provider_url):
        folder.mkdir(parents=True, exist_ok=True)
        self.listen, self.key = free_address(), random_key()
        params = {"model": "openai/gpt-4o", "api_base": f"{provider_url}/litellm/v1", "api_key": "sk-upstream-litellm-1111"}
        config = {"model_list": [{"model_name": "gpt-4o", "litellm_params": params}],
                  "litellm_settings": {"telemetry": False}, "general_settings": {"master_key": self.key}}
        path = folder / "litellm.json.yaml"
        path.write_text(json.dumps(config, indent=1))  # JSON is YAML
        host, port = self.listen.split(":")
        command = [VENV / "bin" / "litellm", "--config", path, "--host", host, "--port", port, "--num_workers", "1"]
        # Without this it asks the internet for prices at its start.
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1",
                       "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}
        self.process = Process("litellm", command, folder, environment)

    def start(self):
        self.process.start()

        def ready():
            self.process.check()
            return http("GET", f"http://{self.listen}/health/liveliness")[0] == 200

        wait_for("LiteLLM", ready, 180, 0.2)
        return self
