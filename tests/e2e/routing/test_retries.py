"""How often, and after how long, the same group is asked again."""

import pytest
from harness import assert_envelope, content_of
from world import add, ask, expect

POLICY = {"RateLimitErrorRetries": 0, "InternalServerErrorRetries": 3, "BadRequestErrorRetries": 1,
          "AuthenticationErrorRetries": 0, "DefaultRetries": 2}


def configure(config):
    add(config, "rt-lone", "rt-lone", num_retries=2)
    add(config, "rt-once", "rt-once", num_retries=1)
    add(config, "rt-falls", "rt-falls", num_retries=1, fallbacks=["rt-ok"])
    add(config, "rt-ok", "rt-ok")
    add(config, "rt-none", "rt-none")
    add(config, "rt-pair", ("rt-pair-a", {"weight": 1}), ("rt-pair-b", {"weight": 0}), num_retries=3)
    # No cooldowns here: the same deployments are asked in every test.
    add(config, "rt-policy", ("rt-policy-a", {"weight": 1}), ("rt-policy-b", {"weight": 0}), cooldown_time=0)
    add(config, "rt-policy-falls", ("rt-policy-falls-a", {"weight": 1}), ("rt-policy-falls-b", {"weight": 0}),
        cooldown_time=0, fallbacks=["rt-ok"])
    config["router_settings"]["model_group_retry_policy"].update({"rt-policy": POLICY, "rt-policy-falls": POLICY})


@pytest.fixture
def script(gateway):
    """Standing scripts that end with the test."""
    names = []

    def set_script(name, directives, times=None):
        names.append(name)
        gateway.provider.script(name, directives, times)

    yield set_script
    for name in names:
        gateway.provider.script(name, None)


# An error inside HTTP 200 is the answer, when it is no stream.
@pytest.mark.parametrize("what, stream", [
    (what, stream) for what in ("status:500", "cut", "empty", "error-at:0") for stream in (False, True)
    if stream or what != "error-at:0"])
def test_a_lone_deployment_is_asked_again(gateway, script, what, stream):
    script("rt-lone", what, times=2)
    expect(ask(gateway, "rt-lone", None, stream), 200, ["rt-lone"] * 3, retries=2, fallbacks=0)


def test_retries_end(gateway):
    outcome = expect(ask(gateway, "rt-lone", "rt-lone=status:500"), 500, ["rt-lone"] * 3, retries=2)
    row = outcome.row
    assert (row["attempts"], row["status_code"], row["status"]) == (3, 500, "failure"), row


@pytest.mark.parametrize("value", [0, 1, 3])
def test_retries_of_the_request(gateway, value):
    """Body member or header, over everything configured."""
    expect(ask(gateway, "rt-lone", "rt-lone=status:500", num_retries=value), 500, ["rt-lone"] * (value + 1), value)
    headers = {"x-litellm-num-retries": str(value)}
    expect(ask(gateway, "rt-none", "rt-none=status:500", headers=headers), 500, ["rt-none"] * (value + 1), value)


def test_retries_go_round(gateway):
    outcome = ask(gateway, "rt-pair", "*=status:500")
    expect(outcome, 500, ["rt-pair-a", "rt-pair-b", "rt-pair-a", "rt-pair-b"], retries=3)
    assert outcome.seconds < 1.0, "no wait where another deployment comes next"


# -- per class ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what, status, attempts", [("status:429", 429, 1), ("status:401", 401, 1), ("status:500", 500, 4),
                                                    ("error:badrequest", 400, 2), ("cut", 503, 3), ("status:404", 404, 3),
                                                    ("status:408", 408, 3)])
def test_policy(gateway, what, status, attempts, stream):
    outcome = expect(ask(gateway, "rt-policy", f"*={what}", stream), status, retries=attempts - 1)
    assert outcome.names == ["rt-policy-a", "rt-policy-b", "rt-policy-a", "rt-policy-b"][:attempts]


@pytest.mark.parametrize("what, retries", [("status:429", 0), ("status:500", 3), ("cut", 2)])
def test_policy_then_fallback(gateway, what, retries):
    script = f"rt-policy-falls-a={what};rt-policy-falls-b={what}"
    outcome = expect(ask(gateway, "rt-policy-falls", script), 200, retries=retries, fallbacks=1)
    own = ["rt-policy-falls-a", "rt-policy-falls-b", "rt-policy-falls-a", "rt-policy-falls-b"][:retries + 1]
    assert outcome.names == [*own, "rt-ok"]


def test_the_class_of_each_attempt_counts(gateway):
    """500 would go on three times, but the second attempt is a 429, which may not."""
    expect(ask(gateway, "rt-policy", "rt-policy-a=status:500;rt-policy-b=status:429"), 429,
           ["rt-policy-a", "rt-policy-b"], retries=1)


def test_the_request_is_over_the_policy(gateway):
    expect(ask(gateway, "rt-policy", "*=status:429", num_retries=1), 429, ["rt-policy-a", "rt-policy-b"], retries=1)


# -- waits -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
def test_retry_after_is_waited_for(gateway, script, stream):
    script("rt-once", "status:429,retry-after:2", times=1)
    outcome = expect(ask(gateway, "rt-once", None, stream), 200, ["rt-once"] * 2, retries=1)
    assert 2.0 <= outcome.seconds < 4.0, outcome.seconds


@pytest.mark.parametrize("what", ["status:429", "status:503"])
def test_a_wait_of_its_own(gateway, script, what):
    """Nobody said how long: about a second, so that a lone deployment is not hammered."""
    script("rt-once", what, times=1)
    outcome = expect(ask(gateway, "rt-once"), 200, ["rt-once"] * 2, retries=1)
    assert 0.8 <= outcome.seconds < 3.0, outcome.seconds


def test_a_retry_after_of_minutes_is_the_clients(gateway, script):
    script("rt-once", "status:429,retry-after:300")
    outcome = ask(gateway, "rt-once")
    assert_envelope(outcome.answer, 429)
    assert outcome.names == ["rt-once"] and outcome.seconds < 1.0
    assert outcome.headers["retry-after"] == "300"


def test_a_fallback_is_better_than_a_wait(gateway, script):
    script("rt-falls", "status:429,retry-after:2")
    outcome = expect(ask(gateway, "rt-falls"), 200, ["rt-falls", "rt-ok"], retries=0, fallbacks=1)
    assert outcome.seconds < 1.0


# -- never after the first event ---------------------------------------------------------------------------------------
def test_a_committed_answer_is_not_retried(gateway):
    outcome = expect(ask(gateway, "rt-lone", "rt-lone=error-at:3", stream=True), 200, ["rt-lone"])
    assert content_of(outcome.text) == "Envoys carry"


def test_a_json_answer_that_breaks_off_is_retried(gateway, script):
    """Whole answers are held until they are whole: nothing has reached the client."""
    script("rt-lone", "cut-at:0", times=1)
    expect(ask(gateway, "rt-lone"), 200, ["rt-lone"] * 2, retries=1)
    outcome = ask(gateway, "rt-lone", "rt-lone=cut-at:0")
    assert outcome.names == ["rt-lone"] * 3
    assert_envelope(outcome.answer, outcome.status, code=str(outcome.status))
    assert outcome.status in (502, 503)
