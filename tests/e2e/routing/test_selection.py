"""Which deployments may serve a request at all: tags, names, sizes, places in flight, budgets, sessions, time limits."""

import collections
import json
import time

import pytest
from harness import BACKENDS, Gateway, assert_envelope, chat, in_threads, marked
from project import wait_for
from world import FACTS, add, ask, client_of, config_of, expect, settled

LONG = [{"role": "user", "content": "word " * 800}]  # about a thousand tokens
HUGE = [{"role": "user", "content": "word " * 80_000}]


def selection_config():
    config = config_of(enable_tag_filtering=True, enable_pre_call_checks=True,
                       optional_pre_call_checks=["session_affinity"])
    config["model_list"].clear()
    add(config, "se-tags", ("se-free", {"tags": ["free", "cheap"]}), ("se-paid", {"tags": ["paid"]}),
        ("se-default", {"tags": ["default"]}))
    add(config, "se-strict", ("se-strict-a", {"tags": ["free"]}), ("se-strict-b", {"tags": ["paid"]}))
    add(config, "openai/*", "se-wild", model="openai/*")
    add(config, "openai/gpt-5*", "se-wild-5", model="openai/gpt-5*")
    add(config, "openai/gpt-5-exact", "se-exact", model="openai/gpt-5")
    add(config, "claude-*", "se-claude", model="openai/anthropic-*")
    add(config, "se-beta", "se-beta", info={"access_groups": ["beta"]})
    add(config, "se-beta-too", "se-beta-too", info={"access_groups": ["beta", "gamma"]})
    add(config, "se-ids", *(f"se-id-{n}" for n in range(3)))
    add(config, "se-size", ("se-small", {"info": {"max_input_tokens": 200}}),
        ("se-large", {"info": {"max_input_tokens": 50_000}}))
    add(config, "se-tiny", ("se-tiny", {"info": {"max_input_tokens": 200}}))
    add(config, "se-tiny-helped", ("se-tiny-helped", {"info": {"max_input_tokens": 200}}))
    add(config, "se-region", ("se-eu", {"region_name": "eu"}), ("se-us", {"region_name": "us"}))
    add(config, "se-places", "se-places", max_parallel_requests=3)
    add(config, "se-places-pair", ("se-places-a", {"weight": 1, "max_parallel_requests": 2}), ("se-places-b", {"weight": 0}))
    add(config, "se-places-falls", "se-places-falls", max_parallel_requests=1, fallbacks=["se-ok"])
    add(config, "se-ok", "se-ok")
    priced = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.001}
    add(config, "se-budget", "se-budget", max_budget=0.5, budget_duration="1d", **priced)
    add(config, "se-budget-pair", ("se-budget-a", {"weight": 1, "max_budget": 0.5, "budget_duration": "1d"}),
        ("se-budget-b", {"weight": 0}), **priced)
    add(config, "se-provider", ("se-groq", {"model": "groq/llama", "weight": 1}),
        ("se-mistral", {"model": "mistral/large", "weight": 0}), **priced)
    add(config, "se-session", *(f"se-session-{n}" for n in range(4)))
    add(config, "se-time", "se-time", timeout=20)
    add(config, "se-first", "se-first", stream_timeout=0.5, timeout=20, fallbacks=["se-ok"])
    add(config, "se-mirror", "se-mirror", mirror="se-shadow")
    add(config, "se-shadow", "se-shadow")
    router = config["router_settings"]
    router["context_window_fallbacks"] = [{"se-tiny-helped": ["se-ok"]}]
    router["provider_budget_config"] = {"groq": {"budget_limit": 0.5, "time_period": "1d"}}
    return config


@pytest.fixture(scope="module", params=BACKENDS)
def gateway(request):
    with Gateway("selection", request.param, config=selection_config()) as gateway:
        yield gateway


def used(outcome):
    return outcome.headers["x-litellm-model-id"]


# -- tags --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["metadata", "body", "header"])
@pytest.mark.parametrize("tags, upstream", [(["free"], "se-free"), (["paid"], "se-paid"), (["paid", "cheapest"], "se-paid"),
                                            (["unheard-of"], "se-default")])
def test_tags(gateway, tags, upstream, way):
    for _ in range(3):
        options = {"metadata": {"metadata": {"tags": tags}}, "body": {"tags": tags},
                   "header": {"headers": {"x-litellm-tags": ", ".join(tags)}}}[way]
        expect(ask(gateway, "se-tags", **options), 200, [upstream])


def test_no_tags(gateway):
    assert {used(expect(ask(gateway, "se-tags"), 200)) for _ in range(6)} == {"se-default"}


def test_tags_that_nobody_has(gateway):
    outcome = ask(gateway, "se-strict", tags=["gold"])
    assert 400 <= outcome.status < 500 and outcome.names == [], outcome
    assert_envelope(outcome.answer, outcome.status)


# -- names -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("asked, upstream, sent", [
    ("openai/gpt-4o-anything", "se-wild", "gpt-4o-anything"), ("openai/gpt-5-mini", "se-wild-5", "gpt-5-mini"),
    ("openai/gpt-5-exact", "se-exact", "gpt-5"), ("claude-3-haiku", "se-claude", "anthropic-3-haiku")])
@pytest.mark.parametrize("stream", [False, True])
def test_wildcards(gateway, asked, upstream, sent, stream):
    outcome = expect(ask(gateway, asked, stream=stream), 200, [upstream])
    assert outcome.arrived[0]["body"]["model"] == sent
    first = json.loads(outcome.events[0]) if stream else outcome.answer.json()
    assert first["model"] == asked
    if asked == "claude-3-haiku":
        assert outcome.row["model"] == sent


def test_wildcards_and_keys(gateway):
    key = gateway.key(models=["openai/*"])
    expect(ask(gateway, "openai/gpt-4o-mini", key=key), 200, ["se-wild"])
    assert ask(gateway, "claude-3", key=key).status == 403


def test_access_groups(gateway):
    key = gateway.key(models=["beta"])
    expect(ask(gateway, "se-beta", key=key), 200)
    expect(ask(gateway, "se-beta-too", key=key), 200)
    assert ask(gateway, "se-ok", key=key).status == 403
    key = gateway.key(models=["gamma"])
    expect(ask(gateway, "se-beta-too", key=key), 200)
    assert ask(gateway, "se-beta", key=key).status == 403


def test_a_deployment_by_its_id(gateway):
    for n in (0, 1, 2, 2, 1):
        expect(ask(gateway, f"se-id-{n}"), 200, [f"se-id-{n}"])
    key = gateway.key(models=["se-ok"])
    assert ask(gateway, "se-id-1", key=key).status in (403, 404)
    key = gateway.key(models=["se-ids"])
    expect(ask(gateway, "se-id-1", key=key), 200, ["se-id-1"])


# -- size, place -------------------------------------------------------------------------------------------------------
def test_a_long_prompt_goes_where_it_fits(gateway):
    for _ in range(5):
        expect(ask(gateway, "se-size", messages=LONG), 200, ["se-large"])


def test_a_prompt_that_fits_nowhere(gateway):
    outcome = ask(gateway, "se-tiny", messages=LONG)
    assert_envelope(outcome.answer, 400, code="context_length_exceeded")
    assert outcome.names == []
    assert_envelope(ask(gateway, "se-size", messages=HUGE).answer, 400, code="context_length_exceeded")


def test_a_prompt_that_fits_nowhere_has_a_fallback(gateway):
    expect(ask(gateway, "se-tiny-helped", messages=LONG), 200, ["se-ok"])
    expect(ask(gateway, "se-tiny-helped"), 200, ["se-tiny-helped"])


def test_region(gateway):
    for region in ("eu", "us"):
        for _ in range(3):
            outcome = expect(ask(gateway, "se-region", allowed_model_region=region), 200, [f"se-{region}"])
            assert "allowed_model_region" not in outcome.arrived[0]["body"]


# -- places in flight --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
def test_max_parallel_requests(gateway, stream):
    client = client_of(gateway)
    outcomes = in_threads(10, lambda _: ask(gateway, "se-places", "se-places=delay:500", stream, client=client))
    assert sorted(outcome.status for outcome in outcomes) == [200] * 3 + [429] * 7
    for outcome in outcomes:
        if outcome.status == 429:
            assert_envelope(outcome.answer, 429)
            assert outcome.headers["retry-after"] == "1"
    settled(gateway)
    peak = gateway.provider.upstreams()["se-places"]["peak"]
    assert peak == 3
    outcomes = in_threads(3, lambda _: ask(gateway, "se-places", "se-places=delay:200", client=client))
    assert {outcome.status for outcome in outcomes} == {200}, "places did not come back"
    settled(gateway)


def test_places_of_failed_and_left_requests_come_back(gateway):
    for what in ("status:500", "cut", "status:429", "empty", "error:context"):
        for _ in range(4):
            ask(gateway, "se-places", f"se-places={what}")
    for _ in range(4):
        headers, _ = marked("se-places=chunk-delay:100", authorization=f"Bearer {gateway.default_key}")
        with gateway.http.stream("POST", "/v1/chat/completions", json=chat("se-places", stream=True), headers=headers) as left:
            if left.status_code == 200:
                next(left.iter_bytes())
        settled(gateway)
    settled(gateway)
    client = client_of(gateway)
    outcomes = in_threads(3, lambda _: ask(gateway, "se-places", "se-places=delay:200", client=client))
    leaked = sum(outcome.status != 200 for outcome in outcomes)
    FACTS.record("in_flight", leaked, "in-flight leaks {value}")
    assert not leaked, "places leaked"
    settled(gateway)


def test_the_rest_goes_to_the_other_deployment(gateway):
    client = client_of(gateway)
    outcomes = in_threads(8, lambda _: ask(gateway, "se-places-pair", "*=delay:400", client=client))
    assert collections.Counter(map(used, outcomes)) == {"se-places-a": 2, "se-places-b": 6}
    outcomes = in_threads(3, lambda _: ask(gateway, "se-places-falls", "*=delay:300", client=client))
    assert collections.Counter(map(used, outcomes)) == {"se-places-falls": 1, "se-ok": 2}


# -- money -------------------------------------------------------------------------------------------------------------
def test_a_deployments_budget(gateway):
    expect(ask(gateway, "se-budget", "*=usage:400/200"), 200)  # 0.60 dollars of 0.50
    settled(gateway)
    outcome = ask(gateway, "se-budget")
    assert_envelope(outcome.answer, 429)
    assert outcome.names == [] and int(outcome.headers["retry-after"]) <= 86_400


def test_over_its_budget_the_other_serves(gateway):
    expect(ask(gateway, "se-budget-pair", "*=usage:400/200"), 200, ["se-budget-a"])
    settled(gateway)
    for _ in range(3):
        expect(ask(gateway, "se-budget-pair", "*=usage:400/200"), 200, ["se-budget-b"])


def test_a_providers_budget(gateway):
    expect(ask(gateway, "se-provider", "*=usage:400/200"), 200, ["se-groq"])
    settled(gateway)
    for _ in range(3):
        expect(ask(gateway, "se-provider", "*=usage:400/200"), 200, ["se-mistral"])


# -- sessions ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["header", "body", "metadata", "cache-key"])
def test_a_session_stays_where_it_is(gateway, way):
    seen = set()
    for number in range(8):
        session = f"{way}-{number}"
        options = {"header": {"headers": {"x-litellm-session-id": session}}, "body": {"litellm_session_id": session},
                   "metadata": {"metadata": {"session_id": session}}, "cache-key": {"prompt_cache_key": session}}[way]
        places = {used(expect(ask(gateway, "se-session", **options), 200)) for _ in range(4)}
        assert len(places) == 1, places
        seen |= places
    assert len(seen) >= 2, "all sessions are on one deployment"


def test_without_a_session_all_serve(gateway):
    assert len({used(ask(gateway, "se-session")) for _ in range(120)}) == 4


# -- time --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["body", "header"])
def test_the_timeout_of_a_request(gateway, way):
    options = {"timeout": 0.4} if way == "body" else {"headers": {"x-litellm-timeout": "0.4"}}
    outcome = ask(gateway, "se-time", "se-time=delay:5000", **options)
    assert_envelope(outcome.answer, 504)
    assert 0.3 < outcome.seconds < 2
    assert "timeout" not in outcome.arrived[0]["body"]
    expect(ask(gateway, "se-time", "se-time=delay:700", timeout=5), 200)


@pytest.mark.parametrize("way", ["configured", "body", "header"])
def test_a_late_first_event_moves_on(gateway, way):
    options = {"configured": {}, "body": {"stream_timeout": 0.2},
               "header": {"headers": {"x-litellm-stream-timeout": "0.2"}}}[way]
    outcome = ask(gateway, "se-first", "se-first=delay:5000", stream=True, **options)
    expect(outcome, 200, ["se-first", "se-ok"], fallbacks=1)
    assert outcome.seconds < (2 if way == "configured" else 0.48), outcome.seconds
    # A stream that has begun may take its time.
    expect(ask(gateway, "se-first", "se-first=chunk-delay:80", stream=True), 200, ["se-first"])


# -- mirror ------------------------------------------------------------------------------------------------------------
def test_mirror(gateway):
    """The shadow sees what the deployment sees, and the client sees nothing of the shadow."""
    outcome = expect(ask(gateway, "se-mirror", "se-shadow=status:500"), 200)
    assert used(outcome) == "se-mirror"
    names = wait_for("the shadow's request", lambda: (n := outcome.names) and len(n) == 2 and n, 3)
    assert sorted(names) == ["se-mirror", "se-shadow"]
    time.sleep(0.2)
    assert len(outcome.names) == 2, "a mirrored request was repeated"
