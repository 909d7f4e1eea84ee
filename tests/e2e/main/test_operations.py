"""What the people who run it rely on."""

import httpx
import pytest
from harness import chat, marked


@pytest.mark.parametrize("chunks", [1, 300])
def test_one_question_and_one_answer_per_request(gateway, chunks):
    """However long the stream, the sidecar is asked once and answers once."""
    names = ("attache_questions_total", "attache_answers_total")
    before = [gateway.metric(name) for name in names]
    headers, _ = marked(f"one=chunks:{chunks};two=chunks:{chunks}")
    for _ in range(10):
        assert gateway.post(chat(stream=True), headers=headers).status_code == 200
    assert [gateway.metric(name) for name in names] == [value + 10 for value in before]


def test_fallbacks_cost_no_further_question(gateway):
    name = "attache_questions_total"
    before = gateway.metric(name)
    assert gateway.post(headers=marked("one=status:500;two=status:500")[0]).status_code == 200
    assert gateway.metric(name) == before + 1


def test_refused_keys_cost_no_question(gateway):
    name = "attache_questions_total"
    before = gateway.metric(name)
    for _ in range(5):
        gateway.post(key="sk-nobody-knows-this-one")
    assert gateway.metric(name) == before


def test_stats(gateway):
    def now():
        return {
            "success": gateway.stat("attache.requests.", "outcome.success"),
            "refused": gateway.stat("attache.requests.", "outcome.refused"),
            "upstream_error": gateway.stat("attache.requests.", "outcome.upstream_error"),
            "fallbacks": gateway.stat("attache.fallbacks."),
            "tokens": gateway.stat("attache.tokens_output."),
            "spend": gateway.stat("attache.spend_nanodollars."),
            "ok": gateway.stat("auth.result.ok"),
        }

    before = now()
    assert gateway.post().status_code == 200
    assert gateway.post(headers=marked("one=status:500")[0]).status_code == 200
    assert gateway.post(chat("solo"), headers=marked("solo=status:500")[0]).status_code == 500
    key = gateway.key(models=["gpt-4o"])
    assert gateway.post(chat("reserved"), key=key).status_code == 403
    change = {name: value - before[name] for name, value in now().items()}
    assert change["success"] == 2
    assert change["refused"] == 1
    assert change["upstream_error"] == 1
    assert change["fallbacks"] == 1
    assert change["tokens"] == 24
    assert change["spend"] > 24 * 600
    assert change["ok"] == 4


def test_prometheus(gateway):
    gateway.post()
    text = httpx.get(f"{gateway.stack.admin_url}/stats/prometheus?usedonly", trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("attache_requests{")]
    assert any('model_group="gpt-4o"' in line and 'outcome="success"' in line for line in lines), lines


def test_health(gateway):
    assert httpx.get(f"{gateway.stack.health_url}/health/liveliness", trust_env=False).status_code == 200
    assert httpx.get(f"{gateway.stack.health_url}/health/readiness", trust_env=False).status_code == 200


def test_no_secret_shows(gateway):
    """Logs, bootstrap, statistics, metadata and stores never hold a whole key."""
    gateway.post(key="sk-a-mistyped-key-12345678")
    gateway.post(chat("sk-a-key-as-the-model-12345678"))
    gateway.post(headers=marked("*=status:500")[0])
    secrets = [*gateway.keys, gateway.master_key, "sk-a-mistyped-key-12345678"]
    admin = gateway.stack.admin_url
    places = {path: httpx.get(f"{admin}{path}", trust_env=False).text
              for path in ("/config_dump?include_eds", "/stats", "/clusters", "/listeners")}
    places["metrics"] = httpx.get(f"{gateway.stack.health_url}/metrics", trust_env=False).text
    for path in gateway.folder.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            places[str(path)] = path.read_bytes().decode(errors="replace")
    for place, text in places.items():
        for secret in [*secrets, "sk-upstream-openai-11112222", "azure-upstream-33334444"]:
            assert secret not in text, f"{secret[:6]}...{secret[-4:]} shows in {place}"


def test_bootstrap_is_private(gateway):
    text = (gateway.stack.folder / "envoy.yaml").read_text()
    assert gateway.master_key not in text
