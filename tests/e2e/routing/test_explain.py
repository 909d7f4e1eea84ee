"""Why did it go there?"""

import json
import subprocess

from harness import assert_envelope
from project import ATTACHE
from world import add, ask, explain, expect, fresh_minute, settled, wait_open

HEADER = {"x-attache-route": "explain"}


def configure(config):
    add(config, "ex-a", ("ex-a-1", {"rpm": 2, "order": 1}), ("ex-a-2", {"rpm": 50, "order": 2}),
        strategy="usage-based-routing-v2", fallbacks=["ex-b"])
    add(config, "ex-b", "ex-b")
    add(config, "ex-cool", ("ex-cool-a", {"weight": 1}), ("ex-cool-b", {"weight": 0}), cooldown_time=60)


def test_the_plan_without_the_request(gateway):
    outcome = ask(gateway, "ex-a", key=gateway.master_key, headers=HEADER)
    assert outcome.status == 200, outcome
    assert outcome.names == [], "an explained request was sent"
    text = json.dumps(outcome.answer.json())
    assert all(name in text for name in ("ex-a-1", "ex-a-2", "ex-b", "usage-based-routing-v2")), text


def test_nothing_is_reserved(gateway):
    fresh_minute(6)
    for _ in range(5):
        explain(gateway, "ex-a")
    assert [ask(gateway, "ex-a").names for _ in range(3)] == [["ex-a-1"], ["ex-a-1"], ["ex-a-2"]]


def test_reasons(gateway):
    ask(gateway, "ex-cool", "ex-cool-a=status:429,retry-after:40")
    wait_open(gateway, "ex-cool-a", seconds=1)
    settled(gateway)
    text = json.dumps(explain(gateway, "ex-cool"))
    assert "cool" in text and "429" in text, text
    assert "sk-upstream" not in text


def test_ordinary_keys_may_not(gateway):
    outcome = ask(gateway, "ex-b", headers=HEADER)
    assert_envelope(outcome.answer, 403)
    assert outcome.names == []


def test_unknown_model(gateway):
    outcome = ask(gateway, "no-such-model", key=gateway.master_key, headers=HEADER)
    assert_envelope(outcome.answer, 404, code="model_not_found")


def test_other_values_do_nothing(gateway):
    outcome = expect(ask(gateway, "ex-b", headers={"x-attache-route": "nonsense"}), 200, ["ex-b"])
    assert "x-attache-route" not in outcome.arrived[0]["headers"]


def test_command_line(gateway):
    command = [str(ATTACHE), "route", "explain", "--url", gateway.url, "ex-a"]
    done = subprocess.run(command, env=gateway.stack.environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("ex-a-1", "ex-a-2", "ex-b"):
        assert name in done.stdout, done.stdout
    assert gateway.master_key not in done.stdout + done.stderr
    done = subprocess.run([*command, "--json"], env=gateway.stack.environment, text=True, capture_output=True, check=True)
    assert "ex-a-1" in json.dumps(json.loads(done.stdout))
    stranger = {**gateway.stack.environment, "LITELLM_MASTER_KEY": gateway.default_key}
    done = subprocess.run(command, env=stranger, text=True, capture_output=True, check=False)
    assert done.returncode != 0 and "403" in done.stderr, done
