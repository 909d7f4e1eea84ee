"""Runs what the manifests say: the real commands of bootstrap, sidecar, Envoy, probes and preStop."""

import signal
import subprocess
import threading
import time
from pathlib import Path

import psycopg
import pytest
from facts import FACTS
from harness import LOCAL, ROOT
from kustomize import build, only, with_component
from pod import Pod, made_up, secret
from schemas import documents
from servers import Postgres, Redis
from stack import Provider, http, wait_for

K8S = ROOT / "k8s"
COMPOSE = ROOT / "compose"
TAKEN = []
WHAT = ["compose", "base", "tls", *sorted(path.name for path in (K8S / "overlays").iterdir())]


def spec_of(what):
    """Containers and configuration."""
    if what == "compose":
        services = documents(COMPOSE / "compose.yaml")[0]["services"]
        return {"containers": [{"name": name, **one} for name, one in services.items()]}, (COMPOSE / "attache.yaml").read_text()
    items = with_component("tls") if what == "tls" else build(K8S / "base" if what == "base" else K8S / "overlays" / what)
    config = only(items, "ConfigMap", "attache")["data"]["config.yaml"]
    return only(items, "Deployment", "attache")["spec"]["template"]["spec"], config


@pytest.mark.parametrize("what", WHAT)
def test_the_bootstrap_is_made_and_envoy_takes_it(what):
    spec, config = spec_of(what)
    pod = Pod(spec, config, made_up(config))
    try:
        status, text = pod.run("bootstrap")
        assert (status, text) == (0, ""), text
        certificates = {"tls": ["public"], "central": ["sidecar", "sidecar_ca"]}.get(what, [])
        made = {path.name for path in (pod.folder / "bootstrap").iterdir()}
        assert made == {"envoy.yaml", *(f"attache_{name}.yaml" for name in certificates)}, "Envoy watches for new certificates"
        status, text = pod.validate()
        assert status == 0 and "OK" in text, text
        TAKEN.append(what)
        FACTS.record("bootstraps", len(TAKEN), "Envoy takes {value} bootstraps of pods")
        bootstrap = (pod.folder / "bootstrap" / "envoy.yaml").read_text()
        assert ("DownstreamTlsContext" in bootstrap) == (what == "tls")
        assert ("attache-sidecar.attache.svc.cluster.local" in bootstrap) == (what == "central")
    finally:
        pod.close()


@pytest.mark.parametrize("what", ["compose", "base"])
def test_a_bootstrap_that_cannot_be_made_leaves_none(what):
    spec, config = spec_of(what)
    pod = Pod(spec, config, {**made_up(config), "LITELLM_MASTER_KEY": ""})
    try:
        status, text = pod.run("bootstrap")
        assert status != 0 and "LITELLM_MASTER_KEY" in text, text
        assert not (pod.folder / "bootstrap" / "envoy.yaml").exists()
    finally:
        pod.close()


class Stores:
    """Redis, Postgres and the fake provider, and the variables that tell where they are."""

    def __init__(self, folder):
        self.redis, self.postgres, self.provider = Redis(folder, durable=True), Postgres(folder), Provider(folder)

    def __enter__(self):
        try:
            self.redis.start(), self.postgres.start(), self.provider.start()
        except BaseException:
            self.__exit__()
            raise
        self.environment = {"REDIS_HOST": self.redis.host, "REDIS_PORT": str(self.redis.port),
                            "REDIS_PASSWORD": self.redis.password, "DATABASE_URL": self.postgres.url}
        return self

    def __exit__(self, *_):
        self.provider.stop(), self.redis.stop(), self.postgres.remove()


def smoke(pod, key):
    return subprocess.run([ROOT / "scripts" / "smoke.sh", pod.url, key], text=True, capture_output=True, timeout=60, check=False)


@pytest.fixture
def demo():
    """The demo overlay's pod, with real stores and the fake provider, all in the order of a kubelet."""
    with Stores(LOCAL / "run" / "e2e" / "deploy-pod") as stores:
        items = build(K8S / "overlays" / "demo")
        config = only(items, "ConfigMap", "attache")["data"]["config.yaml"].replace("http://fake-provider:8090", stores.provider.url)
        environment = secret(only(items, "Secret", "attache")) | stores.environment
        pod = Pod(only(items, "Deployment", "attache")["spec"]["template"]["spec"], config, environment)
        try:
            pod.postgres = stores.postgres
            status, text = pod.run("bootstrap")
            assert status == 0, text
            for name in ("attache", "envoy"):
                pod.start(name)
                pod.wait(name, "startupProbe")
            for name in ("attache", "envoy"):
                pod.wait(name, "readinessProbe")
            yield pod
        finally:
            pod.close()


def rows(pod):
    with psycopg.connect(pod.postgres.url) as connection:
        return connection.execute("SELECT count(*) FROM attache_spend").fetchone()[0]


def test_a_pod_lives_and_ends_without_losing_anything(demo):
    key = demo.environment["LITELLM_MASTER_KEY"]
    done = smoke(demo, key)
    assert done.returncode == 0, done.stderr
    for name in ("attache", "envoy"):
        assert {demo.probe(name, kind) for kind in ("startupProbe", "livenessProbe", "readinessProbe")} == {200}, name
    ask = [demo.folder / "image" / "ask.sh", "GET"]
    for path in ("/ready", "/stats/prometheus"):
        assert http("GET", f"http://{demo.addresses['probes']}{path}?usedonly")[0] == 200
        assert subprocess.run([*ask, demo.addresses["probes"], path], capture_output=True, check=False).returncode == 0
    for method, path in (("GET", "/config_dump"), ("GET", "/"), ("POST", "/quitquitquit"), ("POST", "/ready")):
        assert http(method, f"http://{demo.addresses['probes']}{path}")[0] == 404, "the rest of the admin interface is shut"
    assert subprocess.run([*ask, demo.addresses["admin"], "/nowhere"], capture_output=True, check=False).returncode == 1

    # One request runs when the pod is told to go, and one comes after that: not everybody has heard yet.
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    answers = []

    def request(delay):
        script = {"x-fake-script": f"*=delay:{delay}"}
        answers.append(http("POST", f"{demo.url}/v1/chat/completions", body, {**headers, **script}, timeout=30)[0])

    running = threading.Thread(target=request, args=(3000,))
    running.start()
    time.sleep(0.3)
    late = threading.Timer(0.7, request, (0,))
    late.start()
    began = time.monotonic()
    command = demo.containers["envoy"]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[1:] == ["600", "15"]
    status, text = demo.run("envoy", [command[0], "20", "2"])
    took = time.monotonic() - began
    running.join(), late.join()
    assert (status, text, answers) == (0, "drain: done\n", [200, 200])
    assert 2.5 < took < 10, took
    demo.processes["envoy"].stop(signal.SIGTERM)
    # Spend may still wait in Redis: the sidecar writes it before it ends.
    demo.processes["attache"].stop(signal.SIGTERM)
    assert demo.processes["attache"].child.returncode == 0
    assert "ledger flushed" in demo.processes["attache"].log.read_text()
    assert rows(demo) == 3


def test_a_drain_gives_up_in_time_and_never_fails(demo):
    status, text = demo.run("envoy", ["/opt/attache/drain.sh", "5", "0", "127.0.0.1:9"])
    assert status == 0 and "Envoy does not answer" in text, text
    key = demo.environment["LITELLM_MASTER_KEY"]
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {key}", "x-fake-script": "*=delay:6000"}
    running = threading.Thread(target=http, args=("POST", f"{demo.url}/v1/chat/completions", body, headers, 30))
    running.start()
    active = [Path(demo.folder, "image", "ask.sh"), "GET", demo.addresses["admin"], "/stats?filter=public.downstream_rq_active"]
    wait_for("the request", lambda: "active: 1" in subprocess.run(active, capture_output=True, text=True, check=True).stdout, 10)
    began = time.monotonic()
    status, text = demo.run("envoy", ["/opt/attache/drain.sh", "2", "0"])
    assert status == 0 and text == "drain: 1 requests and usage records left after 2 s\n", text
    assert time.monotonic() - began < 4
    running.join()


def test_a_central_sidecar_serves_an_envoy_elsewhere():
    """Over mutual TLS, with the commands of both Deployments. The sidecar is ready before any Envoy has found it."""
    with Stores(LOCAL / "run" / "e2e" / "deploy-central") as stores:
        items = build(K8S / "overlays" / "central")
        config = only(items, "ConfigMap", "attache")["data"]["config.yaml"]
        assert "readiness_requires: []" in config
        key = "api_key: ${OPENAI_API_KEY}"
        config = config.replace(key, f"{key}\n      api_base: {stores.provider.url}/openai/v1")
        environment = made_up(config) | stores.environment
        specs = {name: only(items, "Deployment", name)["spec"]["template"]["spec"] for name in ("attache", "attache-sidecar")}
        sidecar = Pod(specs["attache-sidecar"], config, environment, "server")
        host = sidecar.addresses["control"].replace("127.0.0.1", "localhost")
        envoy = Pod(specs["attache"], config, environment, "client", {"attache-sidecar.attache.svc.cluster.local:4443": host})
        try:
            sidecar.start("attache")
            sidecar.wait("attache", "readinessProbe")
            status, text = envoy.run("bootstrap")
            assert status == 0, text
            envoy.start("envoy")
            envoy.wait("envoy", "readinessProbe")
            done = smoke(envoy, environment["LITELLM_MASTER_KEY"])
            assert done.returncode == 0, done.stderr
            sidecar.processes["attache"].stop(signal.SIGTERM)
            wait_for("Envoy misses the sidecar", lambda: envoy.probe("envoy", "readinessProbe") == 503, 10)
            assert envoy.probe("envoy", "livenessProbe") == 200, "a sidecar that is away is no reason to restart Envoy"
            sidecar.start("attache")
            envoy.wait("envoy", "readinessProbe")
            wait_for("the next answer", lambda: smoke(envoy, environment["LITELLM_MASTER_KEY"]).returncode == 0, 10)
        finally:
            envoy.close(), sidecar.close()
