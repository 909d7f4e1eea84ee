"""The pipelines that are compared. Each has an address, a key, and processes whose CPU counts."""

import json
import os
import re

from benchmark import envoys, litellm
from project import RELEASE, Failure, envoy_binary, say, wait_for
from servers import Postgres, Redis
from stack import DEMO_CONFIG, Process, Stack, free_address, http, random_key

NOOP_PROCESSOR = RELEASE / "noop-processor"
# The fake provider's upstreams that any of the pipelines asks.
UPSTREAMS = ("openai", "azure", "litellm", "spare", *(f"deployment-{number}" for number in range(10)))
# No limit of the measured key or deployment is ever reached, and each is checked.
PLENTY = 1_000_000_000
# Seconds until spend rows are on their way to the database, and a little to get there.
WRITE_SECONDS, WRITTEN_SECONDS = 1, 1.2


class Variant:
    """One pipeline. Titles are in `TITLES`."""

    name, model, settle_seconds = "", "gpt-4o", 0.0
    listen = key = None

    def __init__(self):
        self.processes, self.beside = {}, {}

    def settled(self):
        return True

    def stop(self):
        for process in (*self.processes.values(), *self.beside.values()):
            process.stop()


class Plain(Variant):
    """One Envoy worker that only forwards to the provider."""

    name, title = "plain", "plain Envoy"

    def __init__(self, folder, provider, bootstrap=None):
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self.listen, self.key, admin = free_address(), random_key(), free_address()
        address = provider.url.removeprefix("http://")
        config = bootstrap(self.listen, admin, address) if bootstrap else envoys.plain(self.listen, admin, address)
        path = envoys.write(config, folder / f"{self.name}.yaml")
        command = [envoy_binary(), "-c", path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        envoy = Process(f"{self.name}-envoy", command, folder, dict(os.environ)).start()
        self.processes["Envoy"] = envoy
        wait_for(f"Envoy of {self.name}", lambda: envoy.check() or http("GET", f"http://{admin}/ready")[0] == 200, 15)


class TwoPhases(Plain):
    """ext_proc before routing and per attempt, both with a processor that does nothing."""

    name, title = "two-phase", "two ext_proc phases, no-op"

    def __init__(self, folder, provider):
        folder.mkdir(parents=True, exist_ok=True)
        if not NOOP_PROCESSOR.exists():
            raise Failure(f"{NOOP_PROCESSOR} is missing: run `make build`")
        socket = folder / "noop.sock"
        processor = Process("noop-processor", [NOOP_PROCESSOR, "--socket", socket], folder, dict(os.environ)).start()
        wait_for("the no-op processor", lambda: processor.check() or socket.exists(), 10)
        super().__init__(folder, provider, lambda *addresses: envoys.two_phases(*addresses, socket))
        self.processes["processor"] = processor


class Gateway(Variant):
    """Attaché: Envoy with the filter, and the sidecar."""

    settle_seconds = WRITTEN_SECONDS

    def __init__(self, name, title, config, folder, provider, environment=None, ready_seconds=30):
        super().__init__()
        self.name, self.title = name, title
        # The others write none either.
        flags = ["--access-log", "off"]
        self.stack = Stack(config, folder, provider=provider, concurrency=1, environment=environment,
                           ready_seconds=ready_seconds, envoy_flags=flags)
        self.stack.__enter__()
        self.listen = self.stack.listen
        self.processes = {"Envoy": self.stack.envoy, "sidecar": self.stack.sidecar}

    def new_key(self, **options):
        self.key = self.stack.new_key(**options)
        return self

    def settled(self):
        """Whether all usage is with the sidecar and all rows are in the database."""
        text = http("GET", f"{self.stack.health_url}/metrics")[1]
        waiting = re.search(r"^attache_ledger_queue_rows(?:\{[^}]*\})? ([0-9.e+]+)$", text, re.MULTILINE)
        if not waiting:
            raise Failure("the sidecar's metrics do not tell attache_ledger_queue_rows")
        return float(waiting.group(1)) == 0 and self.stack.pending() == 0

    def stop(self):
        self.stack.kill()


def deployment(group, upstream, model="openai/gpt-4o", **more):
    """A deployment with limits; its name is that of its upstream."""
    base = "${FAKE_PROVIDER_URL}/" + upstream
    params = {"model": model, "api_base": base if model.startswith("azure/") else f"{base}/v1",
              "api_key": "sk-upstream-bench-1111", "rpm": PLENTY, "tpm": PLENTY, **more}
    return {"model_name": group, "litellm_params": params, "model_info": {"id": f"{group}-{upstream}"}}


def full_config(deployments=4, group_size=10):
    """Everything on. The group that is asked for has up to ten deployments; further ones are in groups of their own."""
    first = min(deployments, group_size)
    models = [deployment("gpt-4o", f"deployment-{number}") for number in range(first)]
    for number in range(first, deployments):
        models.append(deployment(f"other-{number // group_size}", f"deployment-{number % group_size}"))
        models[-1]["model_info"]["id"] = f"other-{number}"
    models.append(deployment("spare", "spare", "azure/gpt-4o", api_version="2024-10-21"))
    return {
        "model_list": models,
        "router_settings": {
            "routing_strategy": "usage-based-routing-v2", "num_retries": 2, "fallbacks": [{"gpt-4o": ["spare"]}],
            "redis_host": "os.environ/REDIS_HOST", "redis_port": "os.environ/REDIS_PORT",
            "redis_password": "os.environ/REDIS_PASSWORD"},
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "database_url": "${DATABASE_URL}",
                             "proxy_batch_write_at": WRITE_SECONDS},
    }


class Full(Gateway):
    """Attaché with Redis and Postgres of its own, or a replica on those of another one."""

    def __init__(self, folder, provider, name="full", title="Attaché, Redis and Postgres", deployments=4, sibling=None,
                 ready_seconds=30):
        folder.mkdir(parents=True, exist_ok=True)
        self.sibling = sibling
        self.redis = sibling.redis if sibling else Redis(folder / "redis").start()
        self.postgres = sibling.postgres if sibling else Postgres(folder / "postgres").start()
        environment = {"DATABASE_URL": self.postgres.url, "REDIS_HOST": self.redis.host,
                       "REDIS_PORT": str(self.redis.port), "REDIS_PASSWORD": self.redis.password}
        if sibling:
            environment["LITELLM_MASTER_KEY"] = sibling.stack.master_key
        path = folder / "config.yaml"
        path.write_text(json.dumps(full_config(deployments), indent=1))  # JSON is YAML
        try:
            super().__init__(name, title, path, folder / "stack", provider, environment, ready_seconds)
        except BaseException:
            self._stop_servers()
            raise
        if sibling:
            self.key = sibling.key
        else:
            self.beside = {"Redis": self.redis.process, "Postgres": self.postgres.process}
            self.new_key(key_alias=f"bench-{name}", rpm_limit=PLENTY, tpm_limit=PLENTY, max_budget=1e6)

    def stop(self):
        super().stop()
        self._stop_servers()

    def _stop_servers(self):
        if not self.sibling:
            self.redis.stop()
            self.postgres.remove()


class LiteLlm(Variant):
    """LiteLLM's proxy with one worker and a master key."""

    name, title = "litellm", "LiteLLM, 1 worker"

    def __init__(self, folder, provider):
        super().__init__()
        server = litellm.LiteLlm(folder, provider.url).start()
        self.listen, self.key, self.processes = server.listen, server.key, {"LiteLLM": server.process}


def _embedded(folder, provider):
    gateway = Gateway("embedded", TITLES["embedded"], DEMO_CONFIG, folder, provider)
    return gateway.new_key(key_alias="bench")


# In the order of tables and charts.
TITLES = {"plain": Plain.title, "two-phase": TwoPhases.title, "embedded": "Attaché, embedded stores",
          "full": "Attaché, Redis and Postgres", "litellm": LiteLlm.title}
MAKERS = {"plain": Plain, "two-phase": TwoPhases, "embedded": _embedded, "full": Full, "litellm": LiteLlm}


class Contest:
    """Variants that run beside each other, all stopped at the end."""

    def __init__(self, names, folder, provider):
        self.names, self.folder, self.provider = list(names), folder, provider
        self.variants, self.missing = {}, {}

    def __enter__(self):
        try:
            for name in self.names:
                self._start(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, name):
        why = litellm.install() if name == "litellm" else None
        if why:
            self.missing[name] = why
            say(f"{TITLES[name]} is left out: {why}")
            return
        say(f"starting {TITLES[name]}")
        self.variants[name] = MAKERS[name](self.folder / name, self.provider)

    def __exit__(self, *_):
        for variant in self.variants.values():
            variant.stop()
