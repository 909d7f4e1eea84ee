"""Requests, tokens and places: everyone who may have such a limit, in every dimension."""

import threading
import time

import pytest
from asking import expect, fresh_minute, seconds_left, settled
from harness import assert_envelope
from holders import EVERYONE, Holder, call, end_user, key, key_model, member, name, organization, tag, team, user

ESTIMATE = 108  # what the gate makes of the question and max_tokens 100


def refused(outcome, holder, wait=None):
    """A refusal that names who, and when it is worth asking again."""
    error = assert_envelope(outcome.answer, 429)
    assert not outcome.arrived, "the provider was asked"
    if holder.id:
        assert holder.id in error["message"], error
    assert holder.key not in outcome.text
    seconds = int(outcome.headers["retry-after"])
    if wait is None:
        assert abs(seconds - seconds_left()) <= 2, (seconds, error)
    else:
        assert seconds == wait, (seconds, error)
    return error


@pytest.mark.parametrize("make", EVERYONE)
def test_requests_per_minute(gateway, make):
    holder = make(gateway, rpm_limit=3)
    fresh_minute()
    for left in (2, 1, 0):
        headers = expect(holder.ask(gateway), 200).headers
        assert headers["x-ratelimit-limit-requests"] == "3"
        assert headers["x-ratelimit-remaining-requests"] == str(left)
    for _ in range(2):
        error = refused(holder.ask(gateway), holder)
        assert "requests" in error["message"], error


@pytest.mark.parametrize("make", [key, user, team, member, organization, end_user, tag, key_model])
def test_tokens_per_minute(gateway, make):
    """What is estimated is reserved, what was used replaces it."""
    holder = make(gateway, tpm_limit=300)
    fresh_minute()
    headers = expect(holder.ask(gateway, "*=usage:8/12", max_tokens=100), 200).headers
    assert headers["x-ratelimit-limit-tokens"] == "300"
    assert headers["x-ratelimit-remaining-tokens"] == str(300 - ESTIMATE)
    settled(gateway)
    headers = expect(holder.ask(gateway, "*=usage:8/252", max_tokens=100), 200).headers
    assert headers["x-ratelimit-remaining-tokens"] == str(300 - 20 - ESTIMATE)
    settled(gateway)
    error = refused(holder.ask(gateway, max_tokens=100), holder)
    assert "tokens" in error["message"], error


@pytest.mark.parametrize("limit, usage, room", [("input_tpm_limit", "300/1", False), ("input_tpm_limit", "1/300", True),
                                                ("output_tpm_limit", "1/300", False), ("output_tpm_limit", "300/1", True)])
def test_input_and_output_tokens_apart(gateway, limit, usage, room):
    holder = key(gateway, **{limit: 250})
    fresh_minute()
    expect(holder.ask(gateway, f"*=usage:{usage}", max_tokens=10), 200)
    settled(gateway)
    after = holder.ask(gateway, max_tokens=10)
    if room:
        expect(after, 200)
    else:
        refused(after, holder)


@pytest.mark.parametrize("limits", [{"rpd_limit": 2}, {"tpd_limit": 40}])
def test_limits_of_a_day(gateway, limits):
    holder = key(gateway, **limits)
    for _ in range(2):
        expect(holder.ask(gateway, "*=usage:10/10", max_tokens=1), 200)
        settled(gateway)
    outcome = holder.ask(gateway, max_tokens=1)
    error = assert_envelope(outcome.answer, 429)
    left = 86_400 - time.time() % 86_400
    assert abs(int(outcome.headers["retry-after"]) - left) <= 2, error
    assert outcome.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("make", [key, user, team, organization, end_user])
def test_places(gateway, make):
    """As many at once as are allowed, and a place is free again when its request is over."""
    holder, slow = make(gateway, max_parallel_requests=2), []
    threads = [threading.Thread(target=lambda: slow.append(holder.ask(gateway, "*=delay:1200")), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.6)
    error = refused(holder.ask(gateway), holder, wait=1)
    assert "max_parallel_requests" in error["message"], error
    for thread in threads:
        thread.join(10)
    assert [outcome.status for outcome in slow] == [200, 200]
    settled(gateway)
    expect(holder.ask(gateway), 200)


def test_all_or_nothing(gateway):
    """What the team refuses costs the key nothing."""
    team_id = call(gateway, "/team/new", {"team_id": name("team"), "rpm_limit": 2})["team_id"]
    holder = Holder("key", gateway.key(team_id=team_id, rpm_limit=10))
    fresh_minute()
    for _ in range(2):
        expect(holder.ask(gateway), 200)
    for _ in range(4):
        assert holder.ask(gateway).status == 429
    call(gateway, "/team/update", {"team_id": team_id, "rpm_limit": 100})
    time.sleep(1)
    headers = expect(holder.ask(gateway), 200).headers
    assert headers["x-ratelimit-api_key-remaining-requests"] == "7", dict(headers)


def test_the_provider_fails(gateway):
    """Tokens come back, the request is counted: it was one."""
    holder = key(gateway, rpm_limit=10, tpm_limit=1000)
    fresh_minute()
    assert holder.ask(gateway, "*=status:500", max_tokens=100).status == 500
    settled(gateway)
    headers = expect(holder.ask(gateway, max_tokens=100), 200).headers
    assert headers["x-ratelimit-api_key-remaining-requests"] == "8"
    assert headers["x-ratelimit-api_key-remaining-tokens"] == str(1000 - ESTIMATE)


def test_the_client_leaves(gateway):
    """A stream that the client cut is over: its place is free."""
    holder = key(gateway, max_parallel_requests=1)
    body = {"model": "lim", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {holder.key}", "x-fake-script": "*=chunks:50,chunk-delay:100"}
    with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(lines)
        # Without a name the iterator would be gone by now, and the connection with it.
        assert holder.ask(gateway).status == 429
    settled(gateway)
    expect(holder.ask(gateway), 200)


def test_streams_count_like_other_answers(gateway):
    holder = key(gateway, tpm_limit=300)
    fresh_minute()
    expect(holder.ask(gateway, "*=usage:8/262", stream=True, max_tokens=100), 200)
    settled(gateway)
    refused(holder.ask(gateway, max_tokens=100), holder)


def test_a_limit_of_nothing(gateway):
    assert key(gateway, rpm_limit=0).ask(gateway).status == 429


def test_a_changed_limit_holds_within_a_second(gateway):
    holder = key(gateway, rpm_limit=1)
    fresh_minute()
    expect(holder.ask(gateway), 200)
    assert holder.ask(gateway).status == 429
    call(gateway, "/key/update", {"key": holder.key, "rpm_limit": 5})
    time.sleep(1)
    expect(holder.ask(gateway), 200)


def test_a_fallback_is_no_second_request(gateway):
    """The sidecar decides twice, what the first decision reserved is held and told."""
    holder = key(gateway, rpm_limit=5, max_parallel_requests=1)
    holder.model = "lim-fails"
    fresh_minute()
    for left in ("4", "3"):
        outcome = expect(holder.ask(gateway, "lim-fails=error:context"), 200, ["lim-fails", "lim-cheap"])
        assert outcome.headers["x-ratelimit-remaining-requests"] == left, dict(outcome.headers)
        settled(gateway)


# -- models ------------------------------------------------------------------------------------------------------------
def test_model_lists_of_key_and_team(gateway):
    """Both must allow the model."""
    team_id = call(gateway, "/team/new", {"team_id": name("team"), "models": ["lim", "lim-cheap"]})["team_id"]
    made = gateway.key(team_id=team_id, models=["lim"])
    expect(Holder("key", made).ask(gateway), 200)
    for model in ("lim-cheap", "lim-other"):
        assert Holder("key", made, model=model).ask(gateway).status == 403
    everything = Holder("key", gateway.key(team_id=team_id, models=["all-team-models"]), model="lim-cheap")
    expect(everything.ask(gateway), 200)


def test_access_groups(gateway):
    holder = Holder("key", gateway.key(models=["beta"]), model="lim-beta")
    expect(holder.ask(gateway), 200)
    assert Holder("key", holder.key).ask(gateway).status == 403


def test_renamed_models(gateway):
    """A key's alias, then its team's."""
    team_id = call(gateway, "/team/new", {"team_id": name("team"), "model_aliases": {"fast": "lim-cheap", "mine": "lim-other"}})["team_id"]
    made = gateway.key(team_id=team_id, aliases={"mine": "lim"})
    for asked, served in (("mine", "lim"), ("fast", "lim-cheap"), ("lim-other", "lim-other")):
        assert expect(Holder("key", made, model=asked).ask(gateway), 200).names == [served]


# -- who is blocked ----------------------------------------------------------------------------------------------------
def test_a_blocked_team(gateway):
    holder = team(gateway)
    expect(holder.ask(gateway), 200)
    call(gateway, "/team/block", {"team_id": holder.id})
    time.sleep(1)
    error = assert_envelope(holder.ask(gateway).answer, 401)
    assert holder.id in error["message"]
    call(gateway, "/team/unblock", {"team_id": holder.id})
    time.sleep(1)
    expect(holder.ask(gateway), 200)


def test_a_blocked_customer(gateway):
    holder = end_user(gateway)
    expect(holder.ask(gateway), 200)
    call(gateway, "/customer/block", {"user_ids": [holder.id]})
    time.sleep(1)
    assert_envelope(holder.ask(gateway).answer, 401)


def test_routes_of_a_key(gateway):
    """A key for management calls may not ask models, one for models may not manage."""
    assert Holder("key", gateway.key(allowed_routes=["management_routes"])).ask(gateway).status == 403
    holder = Holder("key", gateway.key(allowed_routes=["llm_api_routes"]))
    expect(holder.ask(gateway), 200)
    answer = gateway.http.get("/key/list", headers={"authorization": f"Bearer {holder.key}"})
    assert answer.status_code == 403, answer.text
