"""`attache render istio` and `envoy-gateway`: the objects, and what becomes of an Envoy of that version with them."""

import copy
import json
import subprocess

import httpx
import jsonschema
import pytest
import yaml
from harness import UPSTREAM_KEYS, chat, marked
from kustomize import merge as overlay
from mesh import documents, envoy_gateway, istio, named
from rendered import Rendered, render
from schemas import check_manifest
from stack import http
from test_render import AZURE, ONE, SECRETS, TWO, ask, config

# What is asked for, how it becomes a configuration of Envoy, and who runs Envoy's container.
ISTIO = {"ingress": [], "waypoint": [], "sidecar": ["--selector", "app=chat"]}
WAYS = {
    **{name: ("istio", ["--target", name, *more], istio) for name, more in ISTIO.items()},
    "ext-proc": ("istio", ["--decisions", "ext-proc"], istio),
    "envoy-gateway": ("envoy-gateway", [], envoy_gateway),
}


@pytest.fixture(scope="module", params=WAYS)
def stack(request):
    kind, flags, change = WAYS[request.param]
    stack = Rendered(f"mesh-{request.param}", config(), "1.39", kind, flags, change)
    stack.flags += ["--port", stack.listen.rpartition(":")[2]]
    with stack:
        yield stack


# -- traffic -----------------------------------------------------------------------------------------------------------
def test_a_request_is_answered(stack):
    answer, tried = ask(stack)
    assert (answer.status_code, tried) == (200, [ONE]), answer.text
    assert "sk-real" not in stack.text and not any(secret in stack.text for secret in SECRETS)


@pytest.mark.parametrize("script, tried, status", [
    ("one=status:500", [ONE, TWO], 200),
    ("one=status:429;two=status:503", [ONE, TWO, AZURE], 200),
    ("one=status:400", [ONE], 400),
])
def test_the_plan_is_walked(stack, script, tried, status):
    answer, went = ask(stack, script=script)
    assert (answer.status_code, went) == (status, tried), answer.text


def test_a_refused_connection_is_a_step_like_any_other(stack):
    answer, tried = ask(stack, chat("down"))
    assert (answer.status_code, tried) == (200, [TWO]), answer.text


def test_another_plan_is_asked_for(stack):
    """By an internal redirect: gate and sidecar once more, and the steps of the first plan are forgotten."""
    answer, tried = ask(stack, chat("gpt-4o-mini"), script="two=error:context")
    assert (answer.status_code, tried) == (200, [TWO, AZURE]), answer.text


def test_an_error_in_the_first_event_is_replaced(stack):
    answer, tried = ask(stack, chat(stream=True), script="one=error-at:0")
    assert answer.status_code == 200 and "[DONE]" in answer.text, answer.text
    assert tried == [ONE, TWO]


def test_who_has_no_key_is_refused_and_the_admin_api_is_reached(stack):
    answer = httpx.post(f"{stack.url}/v1/chat/completions", json=chat(), trust_env=False,
                        headers={"authorization": "Bearer sk-nobody-0123456789"})
    assert answer.status_code == 401 and answer.json()["error"]["type"]
    key = stack.new_key(key_alias="mesh")
    headers, mark = marked(authorization=f"Bearer {key}")
    assert httpx.post(f"{stack.url}/v1/chat/completions", json=chat(), headers=headers, trust_env=False).status_code == 200
    assert http("GET", f"{stack.url}/internal/v1/usage")[0] == 404
    stack.call("POST", "/key/delete", {"keys": [key]})


def test_gate_and_adapters_share_a_vm(stack):
    """One per worker and one of the main thread; with one for each plugin there were many."""
    created = stack.stats("wasm.envoy.wasm.runtime.v8.active")
    assert list(created.values()) == [stack.concurrency + 1 + 1], created


# -- objects -----------------------------------------------------------------------------------------------------------
def text_of(tmp_path, kind, *flags):
    path = tmp_path / "config.yaml"
    path.write_text(config())
    environment = {"LITELLM_MASTER_KEY": "sk-master-0123456789", "FAKE_PROVIDER_URL": "http://127.0.0.1:8090"}
    status, text, complaints = render(kind, "--config", path, *flags, environment=environment)
    assert status == 0, complaints
    return text


@pytest.mark.parametrize("kind, flags", [
    *(("istio", ["--target", name, *more]) for name, more in ISTIO.items()),
    ("istio", ["--tls-secret", "attache-tls", "--allow", "cluster.local/ns/a/sa/b"]),
    ("istio", ["--target", "waypoint", "--allow", "cluster.local/ns/a/sa/b"]),
    ("envoy-gateway", []),
    ("envoy-gateway", ["--tls-secret", "attache-tls"]),
])
def test_every_object_has_its_schema(tmp_path, kind, flags):
    objects = documents(text_of(tmp_path, kind, *flags))
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))
    for item in objects:
        check_manifest(item)
        assert item["metadata"]["namespace"] == "attache"
        broken = copy.deepcopy(item)
        broken.setdefault("spec", {})["nonsense"] = {"of": "mine"}
        with pytest.raises(jsonschema.ValidationError):
            check_manifest(broken)


@pytest.mark.parametrize("target", ISTIO)
def test_the_patch_makes_a_pod_of_a_deployment(tmp_path, target):
    text = text_of(tmp_path, "istio", "--target", target, "--part", "pod", *ISTIO[target])
    check_pod(yaml.safe_load(text), "istio-proxy", 1337, injected=target == "sidecar")


def test_envoy_gateways_pod_has_the_sidecar(tmp_path):
    (proxy,) = named(documents(text_of(tmp_path, "envoy-gateway")), "EnvoyProxy")
    check_pod(proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"]["patch"]["value"], "envoy", 65532)


def test_a_waypoint_is_laid_over_by_istio(tmp_path):
    objects = documents(text_of(tmp_path, "istio", "--target", "waypoint"))
    (parameters,), (gateway,) = named(objects, "ConfigMap"), named(objects, "Gateway")
    assert gateway["spec"]["infrastructure"]["parametersRef"]["name"] == parameters["metadata"]["name"]
    check_pod(yaml.safe_load(parameters["data"]["deployment"]), "istio-proxy", 1337)
    (service,) = named(objects, "Service")
    assert service["metadata"]["labels"]["istio.io/use-waypoint"] == gateway["metadata"]["name"]


def check_pod(patch, envoy, user, injected=False):
    """Over a Deployment of theirs it is one that Kubernetes takes, and all that Envoy reads is in what the two share."""
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
            "containers": [{"name": envoy, "image": "auto"}]}}}}
    overlay(deployment, patch)
    check_manifest(deployment)
    spec = deployment["spec"]["template"]["spec"]
    filter_copy, sidecar = spec["initContainers"]
    assert {one["securityContext"]["runAsUser"] for one in (filter_copy, sidecar)} == {user}
    assert "--static-clusters" in sidecar["args"] and sidecar["restartPolicy"] == "Always"
    volumes = {one["name"] for one in spec["volumes"]}
    mounts = [mount for one in (filter_copy, sidecar, *spec["containers"]) for mount in one.get("volumeMounts", [])]
    assert {mount["name"] for mount in mounts} == volumes
    if injected:
        (mount,) = json.loads(deployment["spec"]["template"]["metadata"]["annotations"]["sidecar.istio.io/userVolumeMount"])
    else:
        (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount == {"name": "attache-run", "mountPath": "/run/attache"}


def test_no_credential_is_in_what_is_printed(tmp_path):
    for kind in ("istio", "envoy-gateway"):
        text = text_of(tmp_path, kind)
        for secret in (*SECRETS, *UPSTREAM_KEYS, "sk-master-0123456789"):
            assert secret not in text


@pytest.mark.parametrize("arguments, word", [
    (["istio", "--target", "egress"], "waypoint"),
    (["istio", "--target", "sidecar"], "--selector"),
    (["istio", "--target", "waypoint", "--selector", "a=b"], "--selector"),
    (["istio", "--target", "sidecar", "--selector", "a=b", "--allow", "x"], "--allow"),
    (["istio", "--target", "waypoint", "--tls-secret", "x"], "--tls-secret"),
    (["istio", "--selector", "nonsense"], "app=chat"),
    (["envoy-gateway", "--target", "ingress"], "--target"),
])
def test_mistakes_are_named(tmp_path, arguments, word):
    path = tmp_path / "config.yaml"
    path.write_text(config())
    environment = {"LITELLM_MASTER_KEY": "sk-master-0123456789", "FAKE_PROVIDER_URL": "http://127.0.0.1:8090"}
    status, text, complaints = render(*arguments, "--config", path, environment=environment)
    assert status != 0 and text == "" and word in complaints, complaints


def test_kubectl_reads_it_too(tmp_path):
    """Where it is installed: what comes twice is written once, with YAML's anchors."""
    import shutil
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    text = text_of(tmp_path, "istio")
    done = subprocess.run(["kubectl", "create", "--dry-run=client", "--validate=false", "-o", "name", "-f", "-"], input=text,
                          text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 or "connection refused" in done.stderr, done.stderr
