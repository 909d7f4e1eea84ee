#!/usr/bin/env python3
"""Starts and stops a whole gateway: fake provider, sidecar, Envoy. `make run`, the demo and the tests use it.

    scripts/stack.py --config examples/demo.yaml [--listen 127.0.0.1:4000] [--no-provider]

Every address that is not given is a free port. Logs, bootstrap and data go into one folder.
"""

import argparse
import atexit
import contextlib
import ctypes
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import ATTACHE, FAKE_PROVIDER, LOCAL, ROOT, WASM, Failure, envoy_binary, main, say, wait_for  # noqa: E402

DEMO_CONFIG = ROOT / "examples" / "demo.yaml"
# The address in sockaddr_un holds 108 bytes.
LONGEST_SOCKET_PATH = 100
# Two ticks of the filter's usage batches, and a little.
USAGE_SETTLE_SECONDS = 0.25
PR_SET_PDEATHSIG = 1
# Over this time a draining Envoy closes its connections; its own default is ten minutes.
DRAIN_SECONDS = 5
# Below those that the kernel gives to clients.
PORTS = range(20_000, 32_768)
CLAIMS = []


def free_address():
    """An address that nobody listens at, and that is ours until this process ends.

    Suites run side by side, and a server may start long after its address was chosen, or again: a port that the kernel
    gives away to whoever asks for any could be gone by then. The claim is a name that one socket at a time can have.
    """
    for port in random.sample(PORTS, 1000):
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe, contextlib.suppress(OSError):
            claim.bind(f"\0attache-port-{port}")
            probe.bind(("127.0.0.1", port))
            CLAIMS.append(claim)
            return f"127.0.0.1:{port}"
        claim.close()
    raise Failure(f"no free port in {PORTS}")


def in_use(address):
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        return probe.connect_ex((host.replace("0.0.0.0", "127.0.0.1"), int(port))) == 0


def random_key():
    return f"sk-{secrets.token_hex(16)}"


def http(method, url, body=None, headers=None, timeout=10):
    """Status and text of an HTTP request; (0, reason) when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    if data is not None:
        request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def _die_with_parent():
    # Without this, a killed test run would leave an Envoy behind. The parent is the thread that starts the child.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child with a log file. It dies with its parent and does not see the terminal's Ctrl-C."""

    def __init__(self, name, command, folder, environment):
        self.name, self.command, self.environment = name, [str(part) for part in command], environment
        self.log = folder / f"{name}.log"
        self.child = None

    def start(self):
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self.environment,
                start_new_session=True, preexec_fn=_die_with_parent,
            )
        return self

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child is not None and self.child.poll() is None

    def check(self):
        """Raises a Failure with the end of the log if the child has ended."""
        if not self.running():
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise Failure(f"{self.name} ended with status {self.child.poll()}; the end of {self.log}:\n{tail}")

    def stop(self, how=signal.SIGTERM, seconds=15):
        if not self.running():
            return
        self.child.send_signal(how)
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            say(f"{self.name} does not end by itself within {seconds} s, killing it")
            self.child.kill()
            self.child.wait()

    def cpu_seconds(self):
        """CPU time of all its threads so far."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9


class Provider:
    """The fake provider."""

    def __init__(self, folder, address="127.0.0.1:0", log=False):
        """With `log`, its own books are in `served.jsonl`: a line per attempt that it served."""
        folder.mkdir(parents=True, exist_ok=True)
        self.books = folder / "served.jsonl" if log else None
        command = [FAKE_PROVIDER, "--listen", address, *(["--log", self.books] if log else [])]
        self.process = Process("fake-provider", command, folder, dict(os.environ))
        self.url = None

    def start(self):
        offset = self.process.log.stat().st_size if self.process.log.exists() else 0
        self.process.start()

        def address():
            self.process.check()
            return re.search(r"http://\S+", self.process.log.read_text()[offset:])

        self.url = wait_for("fake provider", address, 10).group()
        return self

    def stop(self):
        self.process.stop()

    def requests(self, name=None, test=None):
        """What arrived, oldest first; of one upstream if it is named, with one test's mark if that is given."""
        query = "?" + "&".join(f"{key}={value}" for key, value in (("name", name), ("test", test)) if value)
        return json.loads(http("GET", f"{self.url}/_fake/requests{query}")[1])

    def counts(self):
        return json.loads(http("GET", f"{self.url}/_fake/active")[1])

    def upstreams(self):
        """Counts by upstream name: `minutes` (Unix minute -> requests, tokens), `active` and `peak`."""
        return json.loads(http("GET", f"{self.url}/_fake/counts")[1])

    def script(self, name, script, times=None):
        """A standing script of an upstream, for requests without `x-fake-script`; None ends it."""
        if script is None:
            status, text = http("DELETE", f"{self.url}/_fake/script?name={name}")
        else:
            status, text = http("POST", f"{self.url}/_fake/script", {"name": name, "script": script, "times": times})
        if status != 200:
            raise Failure(f"standing script of {name}: {status} {text}")

    def clear(self):
        http("DELETE", f"{self.url}/_fake/requests")


class Stack:
    """Sidecar and Envoy for one configuration file, with a fake provider of their own if none is given."""

    def __init__(self, config, folder, *, provider=None, own_provider=True, concurrency=2, listen=None, admin=None,
                 health=None, environment=None, fresh=True, serve_flags=(), envoy_flags=(), provider_log=False,
                 ready_seconds=30):
        self.config, self.folder = Path(config).resolve(), Path(folder)
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.listen, self.admin = listen or free_address(), admin or free_address()
        self.health, self.concurrency = health or free_address(), concurrency
        self.environment = {**os.environ, **(environment or {})}
        self.master_key = self.environment.setdefault("LITELLM_MASTER_KEY", random_key())
        self.provider, self.owns_provider = provider, provider is None and own_provider
        self.provider_log, self.ready_seconds = provider_log, ready_seconds
        self.serve_flags, self.envoy_flags = list(serve_flags), list(envoy_flags)
        self.envoy_program = None
        self.socket = self._socket_path()
        self.sidecar = self.envoy = None
        atexit.register(self.kill)

    def _socket_path(self):
        path = (self.data / "attache.sock").resolve()
        if len(str(path)) > LONGEST_SOCKET_PATH:
            path = Path(tempfile.mkdtemp(prefix="attache-")) / "attache.sock"
        return path

    # -- addresses -------------------------------------------------------------------------------------------------
    @property
    def url(self):
        return f"http://{self.listen.replace('0.0.0.0', '127.0.0.1')}"

    @property
    def admin_url(self):
        return f"http://{self.admin}"

    @property
    def health_url(self):
        return f"http://{self.health}"

    # -- start -----------------------------------------------------------------------------------------------------
    def start(self):
        for needed in (ATTACHE, WASM, *([FAKE_PROVIDER] if self.owns_provider else [])):
            if not needed.exists():
                raise Failure(f"{needed} is missing: run `make build`")
        for address in (self.listen, self.admin, self.health):
            # Envoy would share the port with another Envoy instead of complaining.
            if in_use(address):
                raise Failure(f"{address} is in use: stop what runs there first")
        if self.owns_provider:
            self.provider = Provider(self.folder, log=self.provider_log).start()
        if self.provider:
            self.environment["FAKE_PROVIDER_URL"] = self.provider.url
        self.start_sidecar()
        self.start_envoy()
        self.wait_ready()
        return self

    def start_sidecar(self):
        # One file per start would hide what came before a crash; the log is appended to.
        command = [ATTACHE, "serve", "--config", self.config, "--data-dir", self.data, "--socket", self.socket,
                   "--health-listen", self.health, "--wasm", WASM, *self.serve_flags]
        self.sidecar = Process("attache", command, self.folder, self.environment).start()

    def restart_sidecar(self, how=signal.SIGTERM):
        self.sidecar.stop(how)
        self.start_sidecar()
        self.wait_ready()

    def bootstrap(self):
        """The bootstrap that `attache envoy` prints, in a file."""
        command = [ATTACHE, "envoy", "--config", self.config, "--wasm", WASM, "--listen", self.listen, "--admin",
                   self.admin, "--socket", self.socket, "--sds-dir", self.folder / "sds", *self.envoy_flags]
        done = subprocess.run([str(part) for part in command], env=self.environment, text=True, capture_output=True,
                              check=False)
        if done.returncode != 0:
            raise Failure(f"`attache envoy` ended with status {done.returncode}:\n{done.stderr}")
        path = self.folder / "envoy.yaml"
        path.write_text(done.stdout)
        return path

    def start_envoy(self, bootstrap=None):
        """With another text in place of the bootstrap that `attache envoy` prints."""
        binary = self.envoy_program or envoy_binary()
        if not binary:
            raise Failure("Envoy is missing: run `make setup`")
        # Without hot restart there is no shared memory that two Envoys on one machine could fight over.
        path = self.bootstrap()
        if bootstrap:
            path.write_text(bootstrap)
        command = [binary, "-c", path, "--disable-hot-restart", "--concurrency", self.concurrency,
                   "--log-level", "info", "--drain-time-s", str(DRAIN_SECONDS)]
        self.envoy = Process("envoy", command, self.folder, self.environment).start()

    def wait_ready(self, seconds=None):
        """Waits until the sidecar says that an Envoy has its clusters, and the listener accepts."""
        seconds = seconds or self.ready_seconds

        def ready():
            self.sidecar.check()
            self.envoy.check()
            return http("GET", f"{self.health_url}/health/readiness")[0] == 200

        def listening():
            self.envoy.check()
            return in_use(self.listen)

        try:
            wait_for("readiness of the sidecar", ready, seconds, 0.05)
        except Failure as failure:
            reason = http("GET", f"{self.health_url}/health/readiness")[1]
            raise Failure(f"{failure}: {reason}; see {self.folder}") from failure
        wait_for(f"Envoy on {self.listen}", listening, seconds, 0.05)

    # -- stop ------------------------------------------------------------------------------------------------------
    def drain(self, seconds=30):
        """Lets Envoy finish what runs and hand over its usage; False if it did not within the time."""
        http("POST", f"{self.admin_url}/drain_listeners?graceful")
        def done():
            return not self.envoy.running() or (self.active() == 0 and self.pending() == 0)

        try:
            wait_for("drain", done, seconds)
            # The usage of the last request is told with the next tick.
            time.sleep(USAGE_SETTLE_SECONDS)
            wait_for("the last usage", done, seconds)
        except Failure:
            return False
        return True

    def active(self):
        """Requests in progress on the public listener."""
        stats = self.stats("downstream_rq_active")
        return sum(value for name, value in stats.items() if not name.startswith("http.admin."))

    def pending(self):
        """Usage records that the sidecar has not acknowledged."""
        return sum(self.stats("attache.usage_pending").values())

    def stop(self, seconds=30):
        """Graceful end: Envoy drains and hands over its usage, then the sidecar writes it, then the provider goes."""
        try:
            if self.envoy and self.envoy.running():
                if not self.drain(seconds):
                    say(f"requests still run after {seconds} s, ending them")
                self.envoy.stop()
            if self.sidecar:
                self.sidecar.stop()
        finally:
            self.kill()

    def kill(self):
        for process in (self.envoy, self.sidecar, self.provider.process if self.owns_provider and self.provider else None):
            if process:
                process.stop(signal.SIGKILL)
        atexit.unregister(self.kill)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, kind, *_):
        self.stop() if kind is None else self.kill()

    # -- use -------------------------------------------------------------------------------------------------------
    def stats(self, pattern=""):
        """Counters and gauges of Envoy by name."""
        _, text = http("GET", f"{self.admin_url}/stats?filter={pattern}")
        pairs = (line.rsplit(": ", 1) for line in text.splitlines() if ": " in line)
        return {name: int(value) for name, value in pairs if value.lstrip("-").isdigit()}

    def call(self, method, path, body=None, key=None):
        """An admin call through Envoy; its JSON. A Failure if the answer is not 200."""
        headers = {"authorization": f"Bearer {key or self.master_key}"}
        status, text = http(method, f"{self.url}{path}", body, headers)
        if status != 200:
            raise Failure(f"{method} {path} was answered {status}: {text}")
        return json.loads(text)

    def new_key(self, **options):
        return self.call("POST", "/key/generate", options)["key"]


def expand(value, environment):
    """A configuration value with LiteLLM's placeholders filled in."""
    if not isinstance(value, str):
        return None
    if value.startswith("os.environ/"):
        return environment.get(value.removeprefix("os.environ/"))
    return re.sub(r"\$\{(\w+)\}", lambda match: environment.get(match.group(1), ""), value)


def master_key_of(config, environment):
    import yaml  # in the virtual environment

    settings = (yaml.safe_load(config.read_text()) or {}).get("general_settings") or {}
    return expand(settings.get("master_key"), environment)


def show(stack, arguments):
    """What a person wants to know when the gateway is up."""
    models = [model["id"] for model in stack.call("GET", "/v1/models")["data"]]
    key = stack.new_key(key_alias=f"make-run-{secrets.token_hex(3)}")
    body = json.dumps({"model": models[0] if models else "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]})
    print(f"""
Attaché is up on {stack.url}/v1 with {arguments.config} ({', '.join(models) or 'no models'})

  curl {stack.url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{body}'

  stats   curl -s '{stack.admin_url}/stats?filter=attache'        metrics  {stack.admin_url}/stats/prometheus?usedonly
  health  {stack.health_url}/health/readiness    logs     {stack.folder}
  master key  {stack.master_key}

Ctrl-C drains and stops.
""", flush=True)


def command_line():
    parser = argparse.ArgumentParser(description="Runs the gateway until Ctrl-C, then drains it.")
    parser.add_argument("--config", type=Path, default=DEMO_CONFIG)
    parser.add_argument("--folder", type=Path, default=LOCAL / "run" / "gateway", help="data and logs")
    parser.add_argument("--listen", default="127.0.0.1:4000")
    parser.add_argument("--admin", default="127.0.0.1:9901")
    parser.add_argument("--health", default="127.0.0.1:4001")
    parser.add_argument("--concurrency", type=int, default=os.cpu_count() or 2, help="Envoy workers")
    parser.add_argument("--no-provider", action="store_true", help="do not start the fake provider")
    arguments = parser.parse_args()
    if not arguments.config.exists():
        raise Failure(f"{arguments.config} does not exist")
    # A shell that starts this in the background has Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stack = Stack(arguments.config, arguments.folder, concurrency=arguments.concurrency, listen=arguments.listen,
                  admin=arguments.admin, health=arguments.health, fresh=False,
                  own_provider=not arguments.no_provider and "FAKE_PROVIDER_URL" in arguments.config.read_text())
    stack.master_key = master_key_of(arguments.config, stack.environment) or stack.master_key
    try:
        stack.start()
        show(stack, arguments)
        while True:
            stack.envoy.check()
            stack.sidecar.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("draining (Ctrl-C again kills)")
        stack.stop()
    finally:
        stack.kill()


if __name__ == "__main__":
    main(command_line)
