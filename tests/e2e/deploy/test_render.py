"""`attache render envoy`: a bootstrap without xDS, in the Envoy that it is for."""

import json
import time

import httpx
import openai
import pytest
import yaml
from harness import QUESTION, UPSTREAM_KEYS, chat, content, deployment, marked
from rendered import Rendered, render
from stack import Stack, http, wait_for

MODELS = [
    deployment("gpt-4o", "one"),
    deployment("gpt-4o-mini", "two", "openai/gpt-4o-mini"),
    deployment("gpt-4o-azure", "azure", "azure/gpt-4o"),
    deployment("down", "down", api_base="http://127.0.0.1:9/v1"),
    # Never asked: what a real provider's cluster looks like.
    {"model_name": "real", "litellm_params": {"model": "openai/gpt-4o", "api_key": "sk-real-0123456789"}},
    {"model_name": "signed", "litellm_params": {
        "model": "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0", "aws_region_name": "eu-west-1",
        "aws_access_key_id": "AKIAEXAMPLE00000", "aws_secret_access_key": "aws-secret-0123456789"}},
    {"model_name": "talk", "litellm_params": {"model": "openai/gpt-realtime", "api_key": "sk-talk-0123456789"}},
    {"model_name": "by-address", "litellm_params": {"model": "openai/m", "api_base": "https://127.0.0.1:8443/v1",
                                                    "api_key": "sk-address-0123456789"}},
    {"model_name": "open", "litellm_params": {"model": "openai/m", "api_base": "http://127.0.0.1:8444/v1", "api_key": "none"}},
]
SECRETS = [*UPSTREAM_KEYS, "sk-real-0123456789", "aws-secret-0123456789", "sk-talk-0123456789", "sk-address-0123456789"]


def config(models=MODELS):
    return yaml.safe_dump({
        "model_list": models,
        "router_settings": {
            "num_retries": 0, "allowed_fails": 100000,
            "fallbacks": [{"gpt-4o": ["gpt-4o-mini", "gpt-4o-azure"]}, {"down": ["gpt-4o-mini"]}],
            "context_window_fallbacks": [{"gpt-4o-mini": ["gpt-4o-azure"]}],
        },
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1,
                             "proxy_config_reload_interval_seconds": 0.2},
    }, sort_keys=False)


@pytest.fixture(scope="module", params=["1.40", "1.39"])
def stack(request):
    with Rendered(f"render-{request.param}", config(), request.param) as stack:
        yield stack


def ask(stack, body=None, script=None):
    """The answer, and which upstreams were tried with which credential."""
    headers, mark = marked(script, authorization=f"Bearer {stack.master_key}")
    answer = httpx.post(f"{stack.url}/v1/chat/completions", json=body or chat(), headers=headers, timeout=30, trust_env=False)
    tried = [(one["name"], one["headers"].get("authorization") or one["headers"].get("api-key"))
             for one in stack.provider.requests(test=mark)]
    return answer, tried


# The provider remembers the last characters of a credential.
ONE, TWO, AZURE = ("one", "...2222"), ("two", "...2222"), ("azure", "...4444")


def test_it_is_the_envoy_that_is_meant_and_has_no_xds(stack):
    version = json.loads(http("GET", f"{stack.admin_url}/server_info")[1])["version"]
    assert f"/{stack.version}." in version
    assert "ads_config" not in stack.text and "credential/" in stack.text
    dump = http("GET", f"{stack.admin_url}/config_dump")[1]
    assert "dynamic_active_clusters" not in dump


def test_no_credential_is_in_what_is_printed(stack):
    for secret in (*SECRETS, stack.master_key):
        assert secret not in stack.text
    files = list(stack.keys.iterdir())
    assert files and all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_a_request_is_answered(stack):
    answer, tried = ask(stack)
    assert answer.status_code == 200, answer.text
    assert tried == [ONE]
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.master_key, max_retries=0)
    assert content(client.chat.completions.create(model="gpt-4o", messages=QUESTION, stream=True))


@pytest.mark.parametrize("script, tried, status", [
    ("one=status:500", [ONE, TWO], 200),
    ("one=status:429;two=status:503", [ONE, TWO, AZURE], 200),
    ("*=status:500", [ONE, TWO, AZURE], 500),
    ("one=status:400", [ONE], 400),
])
def test_the_plan_is_walked(stack, script, tried, status):
    answer, went = ask(stack, script=script)
    assert (answer.status_code, went) == (status, tried), answer.text


def test_a_refused_connection_is_a_step_like_any_other(stack):
    answer, tried = ask(stack, chat("down"))
    assert (answer.status_code, tried) == (200, [TWO]), answer.text


def test_a_provider_learns_nothing_of_the_plan(stack):
    headers, mark = marked("one=status:500", authorization=f"Bearer {stack.master_key}")
    headers["x-attache-step-1"] = "forged"
    httpx.post(f"{stack.url}/v1/chat/completions", json=chat(), headers=headers, timeout=30, trust_env=False)
    requests = stack.provider.requests(test=mark)
    assert [one["name"] for one in requests] == ["one", "two"]
    names = {name for one in requests for name in one["headers"] if name.startswith(("x-attache", "x-envoy", "x-litellm"))}
    assert names <= {"x-envoy-attempt-count"}


def test_a_new_credential_is_used_without_a_restart(stack):
    try:
        stack.config.write_text(config().replace(UPSTREAM_KEYS[0], "sk-upstream-changed-55556666"))
        wait_for("the new key", lambda: ask(stack)[1] == [("one", "...6666")], 10, 0.1)
    finally:
        stack.config.write_text(config())
        wait_for("the old key", lambda: ask(stack)[1] == [ONE], 10, 0.1)


def test_a_model_that_envoy_does_not_have_is_not_planned(stack):
    """And everything else goes on, also for a group that has both."""
    try:
        stack.config.write_text(config([*MODELS, deployment("later", "two"), deployment("gpt-4o", "later")]))
        log = stack.sidecar.log
        wait_for("the reload", lambda: "Envoy does not have it" in log.read_text(), 10, 0.1)
        status = ask(stack, chat("later"))[0].status_code
        assert status in (429, 503), status
        assert {ask(stack)[1][0] for _ in range(10)} == {ONE}
        ready = json.loads(http("GET", f"{stack.health_url}/health/readiness")[1])
        assert len(ready["envoy"]["waiting"]) == 2, ready
    finally:
        stack.config.write_text(config())
        time.sleep(0.5)


def clusters(stack, kind, key):
    dump = json.loads(http("GET", f"{stack.admin_url}/config_dump?resource={kind}")[1])
    return {one["cluster"]["name"]: one["cluster"] for one in dump["configs"] if "/" in one["cluster"]["name"]}


def test_the_clusters_are_those_of_xds(stack):
    """In the words of Envoy, the place of the credential aside: they are written down twice in the sidecar."""
    with Stack(stack.config, stack.folder.parent / "xds", provider=stack.provider, own_provider=False,
               environment={"LITELLM_MASTER_KEY": stack.master_key},
               serve_flags=["--aws-keys-dir", stack.keys]) as other:
        static, dynamic = clusters(stack, "static_clusters", "static"), clusters(other, "dynamic_active_clusters", "dynamic")
    assert set(static) == set(dynamic) and len(static) == len(MODELS)
    for name, cluster in static.items():
        here, there = json.loads(json.dumps(cluster)), dynamic[name]
        text = json.dumps(here, sort_keys=True)
        for injector in filters(here) + filters(there):
            if "credential_injector" in injector["name"]:
                assert injector["typed_config"]["credential"]["typed_config"]["credential"].pop("sds_config")
        assert here == there, text


def filters(cluster):
    (options,) = cluster["typed_extension_protocol_options"].values()
    return options["http_filters"]


@pytest.mark.parametrize("arguments, words", [
    (["envoy", "--envoy-version", "1.38"], ["1.38", "1.39", "1.40"]),
    (["traefik"], ["traefik"]),
    (["envoy", "--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
])
def test_mistakes_are_named(arguments, words):
    status, text, complaints = render(*arguments, *([] if "--config" in arguments else ["--config", "x"]))
    assert status != 0 and text == ""
    for word in words:
        assert word in complaints, complaints
