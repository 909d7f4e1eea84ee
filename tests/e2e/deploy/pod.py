"""The processes of a pod, with the commands of its manifest, in folders and at ports that are free."""

import base64
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from harness import ROOT
from project import ATTACHE, WASM, envoy_binary, wait_for
from stack import Process, free_address, http

TESTDATA = ROOT / "ext-proc" / "src" / "server" / "testdata"
FOLDERS = {"/etc/attache/": "etc", "/etc/attache-tls/": "tls", "/run/attache": "run", "/run/bootstrap": "bootstrap",
           "/var/lib/attache": "data", "/opt/attache": "image"}
# What listens: gateway, sidecar's health, probes of Envoy, Envoy's admin interface, a central sidecar.
PORTS = {"http": "0.0.0.0:4000", "health": "0.0.0.0:4001", "probes": "0.0.0.0:9902", "admin": "127.0.0.1:9901",
         "control": "0.0.0.0:4443"}


class Pod:
    """`spec` is a pod's; other containers than Envoy and sidecar are not started.

    `certificate` is one of the sidecar's test data, `known` what else is elsewhere: there -> here."""

    def __init__(self, spec, config, environment, certificate="client", known=None):
        # A socket's path holds 108 bytes: not below the test's own folder.
        self.folder = Path(tempfile.mkdtemp(prefix="attache-pod-"))
        self.containers = {one["name"]: one for one in [*spec.get("initContainers", []), *spec["containers"]]}
        self.environment, self.known = environment, known or {}
        self.addresses = {name: free_address() for name in PORTS}
        self.processes = {}
        for name in (*FOLDERS.values(), "bin", "logs"):
            (self.folder / name).mkdir()
        (self.folder / "etc" / "config.yaml").write_text(config)
        for name, file in (("ca.crt", "ca.pem"), ("tls.crt", f"{certificate}.pem"), ("tls.key", f"{certificate}.key")):
            shutil.copy(TESTDATA / file, self.folder / "tls" / name)
        for path in (ROOT / "compose" / "image").iterdir():
            copy = Path(shutil.copy(path, self.folder / "image"))
            copy.write_text(self.here(copy.read_text()))
        (self.folder / "image" / "attache_filter.wasm").symlink_to(WASM)
        for path in (ATTACHE, envoy_binary()):
            (self.folder / "bin" / path.name).symlink_to(path)

    def here(self, text):
        """Paths and addresses of the image as they are on this machine."""
        for there, here in self.known.items():
            text = text.replace(there, here)
        for there, name in FOLDERS.items():
            text = text.replace(there, f"{self.folder / name}{'/' if there.endswith('/') else ''}")
        for name, there in PORTS.items():
            text = text.replace(there, self.addresses[name])
            # In probes.yaml address and port are apart.
            host, port = there.split(":")
            text = text.replace(f"address: {host}, port_value: {port}", "address: {}, port_value: {}".format(
                *self.addresses[name].split(":")))
        return text

    def command(self, name, what=None):
        """The command of a container, or another one that runs in it."""
        one = self.containers[name]
        entry = ["/usr/local/bin/attache"] if one["image"].startswith("attache/sidecar") else []
        words = what or [*one.get("command", entry), *one.get("args", [])]
        return [self.here(word).replace("/usr/local/bin", str(self.folder / "bin")) for word in words]

    def variables(self, name):
        given = self.environment if self.containers[name].get("envFrom") or self.containers[name].get("environment") else {}
        return {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", **given}

    def run(self, name, what=None, seconds=60):
        """Runs to its end; status and output."""
        done = subprocess.run(self.command(name, what), env=self.variables(name), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds, check=False)
        return done.returncode, done.stdout

    def start(self, name):
        self.processes[name] = Process(name, self.command(name), self.folder / "logs", self.variables(name)).start()

    def probe(self, name, kind):
        """Status of a probe."""
        request = self.containers[name][kind]["httpGet"]
        return http("GET", f"http://{self.addresses[request['port']]}{request['path']}")[0]

    def wait(self, name, kind, seconds=30):
        def good():
            self.processes[name].check()
            return self.probe(name, kind) == 200

        probe = self.containers[name][kind]
        for _ in range(probe.get("successThreshold", 1) - 1):
            wait_for(f"{kind} of {name} ({self.folder})", good, seconds, 0.05)
            time.sleep(probe["periodSeconds"])
        wait_for(f"{kind} of {name} ({self.folder})", good, seconds, 0.05)

    def validate(self):
        """What Envoy says to its command line, without starting."""
        return self.run("envoy", [*self.containers["envoy"]["command"], "--mode", "validate"])

    @property
    def url(self):
        return f"http://{self.addresses['http']}"

    def close(self):
        for process in self.processes.values():
            process.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def secret(item):
    return {name: base64.b64decode(value).decode() for name, value in item["data"].items()}


def made_up(config):
    """A value for each variable that a configuration names."""
    values = {name: f"sk-{name.lower()}-0123456789abcdef" for name in re.findall(r"\$\{(\w+)", config)}
    return values | {"REDIS_HOST": "redis", "REDIS_PORT": "6379", "DATABASE_URL": "postgres://a:b@postgres:5432/attache",
                     "FAKE_PROVIDER_URL": "http://fake-provider:8090"}
