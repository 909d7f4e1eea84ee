"""Two Envoys and two sidecars, each a host of its own."""

import contextlib
import itertools
import json
import os
import signal
import subprocess

import yaml
from harness import deployment
from network import Network
from project import ATTACHE, WASM, envoy_binary, wait_for
from servers import Postgres, Redis
from stack import Process, Provider, http, random_key

ENVOYS, SIDECARS = ("envoy-1", "envoy-2"), ("sidecar-a", "sidecar-b")
NAME = "sidecars.test"
LINKS = [("hub", name) for name in (*ENVOYS, *SIDECARS)] + list(itertools.product(ENVOYS, SIDECARS))
PRICE = {"input_cost_per_token": 0.00001, "output_cost_per_token": 0.00002}


def configuration():
    """As overlays/central has it: a sidecar is ready before an Envoy has found it."""
    return {
        "model_list": [deployment("gpt-4o", "main", info={"id": "main"}, **PRICE)],
        "router_settings": {"num_retries": 0, "redis_host": "${REDIS_HOST}", "redis_port": "${REDIS_PORT}",
                            "redis_password": "${REDIS_PASSWORD}"},
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "database_url": "${DATABASE_URL}", "proxy_batch_write_at": 1,
                             "use_redis_transaction_buffer": True, "readiness_requires": []},
    }


class Certificates:
    """An authority, a sidecar's certificate and an Envoy's."""

    def __init__(self, folder):
        self.folder = folder
        self._make("ca", "/CN=drill", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
        for name, usage in (("sidecar", "serverAuth"), ("envoy", "clientAuth")):
            self._make(name, f"/CN={name}", f"subjectAltName=DNS:{NAME}", f"extendedKeyUsage={usage}",
                       "basicConstraints=critical,CA:FALSE",
                       signed=("-CA", self["ca.pem"], "-CAkey", self["ca.key"]))

    def __getitem__(self, name):
        return self.folder / name

    def _make(self, name, subject, *extensions, signed=()):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                   "-subj", subject, "-keyout", self[f"{name}.key"], "-out", self[f"{name}.pem"], *signed]
        subprocess.run(command + [part for one in extensions for part in ("-addext", one)], check=True, capture_output=True)


class Drill:
    """Network, stores, provider, sidecars and Envoys."""

    def __init__(self, folder):
        self.folder, self.master_key = folder, random_key()
        self.network = Network(folder, [*ENVOYS, *SIDECARS], LINKS)
        self.processes = {}
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.stop(signal.SIGKILL)
        self.stack.close()

    def _start(self):
        self.stack.enter_context(self.network)
        hub = self.network.hub.address
        self.redis, self.postgres = Redis(self.folder, durable=True, host=hub), Postgres(self.folder, host=hub)
        self.provider = Provider(self.folder, f"{hub}:0", log=True)
        self.stack.callback(self.redis.stop), self.stack.callback(self.postgres.remove), self.stack.callback(self.provider.stop)
        self.redis.start(), self.postgres.start(), self.provider.start()
        self.certificates = Certificates(self.folder)
        self.config = self.folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(configuration(), sort_keys=False))
        self.environment = {"PATH": "/usr/bin:/bin", "LITELLM_MASTER_KEY": self.master_key, "FAKE_PROVIDER_URL": self.provider.url,
                            "DATABASE_URL": self.postgres.url, "REDIS_HOST": hub, "REDIS_PORT": str(self.redis.port),
                            "REDIS_PASSWORD": self.redis.password}
        for name in SIDECARS:
            self.start(name)
            self.wait(name)
        for name in ENVOYS:
            self.network[name].know([(NAME, self.network[sidecar].address) for sidecar in SIDECARS])
        self._bootstrap()
        for name in ENVOYS:
            self.start(name)
        for name in ENVOYS:
            self.wait(name)

    def _bootstrap(self):
        pem = self.certificates
        command = [ATTACHE, "envoy", "--config", self.config, "--wasm", WASM, "--listen", "0.0.0.0:4000", "--admin", "0.0.0.0:9901",
                   "--sidecar", f"{NAME}:4443", "--sidecar-ca", pem["ca.pem"], "--sidecar-cert", pem["envoy.pem"],
                   "--sidecar-key", pem["envoy.key"]]
        done = subprocess.run(command, env=self.environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        (self.folder / "envoy.yaml").write_text(done.stdout)

    def command(self, name):
        if name in ENVOYS:
            return [envoy_binary(), "-c", self.folder / "envoy.yaml", "--disable-hot-restart", "--concurrency", "1"]
        pem, data = self.certificates, self.folder / f"{name}-data"
        return [ATTACHE, "serve", "--config", self.config, "--data-dir", data, "--socket", self.folder / f"{name}.sock",
                "--wasm", WASM, "--health-listen", "0.0.0.0:4001", "--listen-tls", "0.0.0.0:4443", "--tls-cert", pem["sidecar.pem"],
                "--tls-key", pem["sidecar.key"], "--tls-client-ca", pem["ca.pem"]]

    def start(self, name):
        command = self.network[name].command(self.command(name))
        self.processes[name] = Process(name, command, self.folder, self.environment).start()

    def kill(self, name):
        self.processes[name].stop(signal.SIGKILL)

    def signal(self, name, which):
        os.kill(self.processes[name].pid, which)

    def address(self, name):
        return f"{self.network[name].address}:{4000 if name in ENVOYS else 4001}"

    def wait(self, name, seconds=20):
        """Until it is ready: what a load balancer asks."""
        def ready():
            self.processes[name].check()
            return http("GET", f"http://{self.address(name)}/health/readiness", timeout=1)[0] == 200

        wait_for(f"readiness of {name} ({self.folder})", ready, seconds, 0.05)

    @property
    def addresses(self):
        return {name: self.address(name) for name in ENVOYS}

    def call(self, path, body):
        headers = {"authorization": f"Bearer {self.master_key}"}
        status, text = http("POST", f"http://{self.address(ENVOYS[0])}{path}", body, headers)
        assert status == 200, f"{path}: {status} {text}"
        return json.loads(text)

    def stat(self, envoy, name):
        """The sum of an Envoy's statistics with that in their name."""
        text = http("GET", f"http://{self.network[envoy].address}:9901/stats?filter={name}")[1]
        return sum(int(line.rsplit(": ", 1)[1]) for line in text.splitlines() if line.rsplit(": ", 1)[-1].isdigit())

    def questions(self, sidecar):
        text = http("GET", f"http://{self.address(sidecar)}/metrics")[1]
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("attache_questions_total"))
