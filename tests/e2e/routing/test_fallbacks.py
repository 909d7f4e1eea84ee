"""Where a request goes when its group fails: lists, chains, the caller's own wishes, and what a key may not use."""

import json

import openai
import pytest
from harness import ANSWER, QUESTION, Gateway, assert_envelope, content
from world import add, ask, config_of, expect

CHAIN = ["fb-a", "fb-b", "fb-c", "fb-d", "fb-x"]


def configure(config):
    # a -> b -> (b's own) d, then c.
    add(config, "fb-a", "fb-a", fallbacks=["fb-b", "fb-c"])
    add(config, "fb-b", "fb-b", fallbacks=["fb-d"])
    for name in ("fb-c", "fb-d", "fb-x", "fb-y", "fb-general", "fb-big", "fb-bigger", "fb-lenient"):
        add(config, name, name)
    add(config, "fb-pair", ("fb-pair-a", {"weight": 1}), ("fb-pair-b", {"weight": 0}), fallbacks=["fb-x"])
    add(config, "fb-loop", "fb-loop", fallbacks=["fb-loop", "fb-loop-back"])
    add(config, "fb-loop-back", "fb-loop-back", fallbacks=["fb-loop", "fb-x"])
    add(config, "fb-small", "fb-small", fallbacks=["fb-general"])
    add(config, "fb-strict", "fb-strict", fallbacks=["fb-general"])
    add(config, "fb-azure", "fb-azure", model="azure/gpt-4o", fallbacks=["fb-general"])
    add(config, "fb-listless", "fb-listless", fallbacks=["fb-general"])
    add(config, "fb-wild", "fb-wild", fallbacks=["anyone/gpt-4o-wild"])
    add(config, "anyone/*", "fb-anyone", model="openai/*")
    add(config, "fb-alias", "fb-alias", fallbacks=["fb-other-name"])
    router = config["router_settings"]
    router["model_group_alias"]["fb-other-name"] = "fb-y"
    router["context_window_fallbacks"] = router.get("context_window_fallbacks", []) + [
        {"fb-small": ["fb-big"]}, {"fb-big": ["fb-bigger"]}]
    router["content_policy_fallbacks"] = [{"fb-strict": ["fb-lenient"]}, {"fb-azure": ["fb-lenient"]}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failing", range(1, 5))
def test_chain(gateway, failing, stream):
    """Depth first: the fallbacks of a fallback come before the next entry of the list."""
    order = ["fb-a", "fb-b", "fb-d", "fb-c"]
    script = ";".join(f"{name}=status:500" for name in order[:failing])
    outcome = ask(gateway, "fb-a", script, stream)
    if failing == len(order):
        expect(outcome, 500, order, retries=0, fallbacks=3)
    else:
        expect(outcome, 200, order[:failing + 1], retries=0, fallbacks=failing)
        assert outcome.headers["x-litellm-model-id"] == order[failing]
        if stream or failing == 1:
            return
        row = outcome.row
        assert (row["model_group"], row["attempts"], row["fallbacks"]) == (order[failing], failing + 1, failing), row
        assert row["requested_model"] == "fb-a"


def test_each_group_once(gateway):
    expect(ask(gateway, "fb-loop", "*=status:503"), 503, ["fb-loop", "fb-loop-back", "fb-x"])


def test_mixed_classes_on_the_way(gateway):
    """Each failure of another kind; the last one is what the client sees."""
    outcome = ask(gateway, "fb-a", "fb-a=status:429;fb-b=cut;fb-d=empty;fb-c=status:401")
    expect(outcome, 401, ["fb-a", "fb-b", "fb-d", "fb-c"])


# -- lists of their own ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("group, error, target", [("fb-small", "context", "fb-big"), ("fb-strict", "content", "fb-lenient"),
                                                  ("fb-azure", "content", "fb-lenient")])
def test_the_class_goes_where_its_list_says(gateway, group, error, target, stream):
    outcome = ask(gateway, group, f"{group}=error:{error}", stream)
    expect(outcome, 200, [group, target], retries=0, fallbacks=1)
    assert outcome.headers["x-litellm-model-id"] == target
    if error == "context":
        row = outcome.row
        assert (row["model_group"], row["attempts"], row["fallbacks"], row["status"]) == (target, 2, 1, "success"), row


@pytest.mark.parametrize("group", ["fb-small", "fb-strict", "fb-azure"])
def test_other_classes_go_the_general_way(gateway, group):
    expect(ask(gateway, group, f"{group}=status:500"), 200, [group, "fb-general"], fallbacks=1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error, code", [("context", "context_length_exceeded"), ("content", "content_policy_violation")])
def test_a_list_without_an_entry_means_the_original_error(gateway, error, code, stream):
    outcome = ask(gateway, "fb-listless", f"fb-listless=error:{error}", stream)
    assert_envelope(outcome.answer, 400, "invalid_request_error", code)
    assert outcome.names == ["fb-listless"]


def test_a_chain_over_context_windows(gateway):
    outcome = ask(gateway, "fb-small", "fb-small=error:context;fb-big=error:context")
    expect(outcome, 200, ["fb-small", "fb-big", "fb-bigger"], fallbacks=2)
    # The end of the chain: the last provider's own words.
    outcome = ask(gateway, "fb-small", "*=error:context")
    assert_envelope(outcome.answer, 400, code="context_length_exceeded")
    assert outcome.names == ["fb-small", "fb-big", "fb-bigger"]


def test_a_wrong_request_goes_nowhere(gateway):
    outcome = ask(gateway, "fb-small", "fb-small=error:badrequest")
    assert_envelope(outcome.answer, 400, code="decimal_above_max_value")
    assert outcome.names == ["fb-small"]


def test_a_class_met_in_a_later_attempt(gateway):
    """The first fails plainly, the fallback with a class that has a list: the list of the group that was asked for."""
    outcome = ask(gateway, "fb-small", "fb-small=status:500;fb-general=error:context")
    expect(outcome, 200, ["fb-small", "fb-general", "fb-big"], fallbacks=2)
    outcome = ask(gateway, "fb-strict", "fb-strict=status:500;fb-general=error:context")
    assert_envelope(outcome.answer, 400, code="context_length_exceeded")
    assert outcome.names == ["fb-strict", "fb-general"]


# -- the caller's own --------------------------------------------------------------------------------------------------
PRIVATE = {"fallbacks", "disable_fallbacks", "num_retries", "context_window_fallbacks"}


@pytest.mark.parametrize("stream", [False, True])
def test_fallbacks_of_the_request(gateway, stream):
    outcome = ask(gateway, "fb-a", "fb-a=status:500;fb-x=status:500", stream, fallbacks=["fb-x", "fb-y"])
    expect(outcome, 200, ["fb-a", "fb-x", "fb-y"], fallbacks=2)
    for entry in outcome.arrived:
        assert not PRIVATE & set(entry["body"]), entry["body"]
        assert entry["body"]["messages"] == QUESTION


@pytest.mark.parametrize("stream", [False, True])
def test_no_fallbacks(gateway, stream):
    outcome = ask(gateway, "fb-a", "fb-a=status:500", stream, disable_fallbacks=True)
    expect(outcome, 500, ["fb-a"], fallbacks=0)
    assert not PRIVATE & set(outcome.arrived[0]["body"])


def test_no_fallbacks_for_a_class_with_a_list(gateway):
    outcome = ask(gateway, "fb-small", "fb-small=error:context", disable_fallbacks=True)
    assert_envelope(outcome.answer, 400, code="context_length_exceeded")
    assert outcome.names == ["fb-small"]


def test_retries_of_the_request(gateway):
    outcome = ask(gateway, "fb-pair", "fb-pair-a=status:500", num_retries=1)
    expect(outcome, 200, ["fb-pair-a", "fb-pair-b"], retries=1, fallbacks=0)
    assert not PRIVATE & set(outcome.arrived[0]["body"])
    expect(ask(gateway, "fb-pair", "fb-pair-a=status:500", num_retries=0), 200, ["fb-pair-a", "fb-x"], 0, 1)


def test_body_members_are_cut_wherever_they_are(gateway):
    """First, last, alone, between others: what is left is the JSON that the caller wrote."""
    for text in ('{"num_retries": 1, "model": "fb-x", "messages": [], "temperature": 0.5}',
                 '{"model": "fb-x", "messages": [], "temperature": 0.5, "disable_fallbacks": false}',
                 '{"model": "fb-x", "fallbacks": ["fb-y", {"a,b": "c}"}], "messages": [] ,"temperature":0.5}',
                 '{ "fallbacks" : [] ,"num_retries":2 , "model": "fb-x", "messages": [], "temperature": 0.5 }'):
        headers = {"authorization": f"Bearer {gateway.default_key}", "x-test-id": f"cut-{abs(hash(text))}"}
        answer = gateway.http.post("/v1/chat/completions", content=text, headers=headers)
        if answer.status_code == 400 and "fallbacks" in answer.text:
            continue  # a fallback that is no name may be refused, but not passed on
        assert answer.status_code == 200, answer.text
        (entry,) = gateway.arrived(headers["x-test-id"])
        wanted = {k: v for k, v in json.loads(text).items() if k not in PRIVATE}
        assert entry["body"] == {**wanted, "model": "gpt-4o"}


@pytest.mark.parametrize("stream", [False, True])
def test_openai_sdk(gateway, stream):
    raw = gateway.client().chat.completions.with_raw_response.create(
        model="fb-a", messages=QUESTION, stream=stream, extra_headers={"x-fake-script": "fb-a=status:500;fb-x=cut"},
        extra_body={"fallbacks": ["fb-x", "fb-y"], "num_retries": 0})
    answer = raw.parse()
    text = content(list(answer)) if stream else answer.choices[0].message.content
    assert text == ANSWER
    assert raw.headers["x-litellm-model-id"] == "fb-y"
    with pytest.raises(openai.InternalServerError):
        gateway.client().chat.completions.create(model="fb-a", messages=QUESTION, extra_body={"disable_fallbacks": True},
                                                 extra_headers={"x-fake-script": "fb-a=status:500"})


def test_openai_sdk_sees_the_class(gateway):
    with pytest.raises(openai.BadRequestError) as raised:
        gateway.client().chat.completions.create(model="fb-listless", messages=QUESTION,
                                                 extra_headers={"x-fake-script": "*=error:context"})
    assert raised.value.code == "context_length_exceeded"


# -- names -------------------------------------------------------------------------------------------------------------
def test_a_wildcard_as_target(gateway):
    outcome = ask(gateway, "fb-wild", "fb-wild=status:500")
    expect(outcome, 200, ["fb-wild", "fb-anyone"], fallbacks=1)
    assert [entry["body"]["model"] for entry in outcome.arrived] == ["gpt-4o", "gpt-4o-wild"]


def test_an_alias_as_target(gateway):
    expect(ask(gateway, "fb-alias", "fb-alias=status:500"), 200, ["fb-alias", "fb-y"], fallbacks=1)
    expect(ask(gateway, "fb-x", "fb-x=status:500", fallbacks=["fb-other-name"]), 200, ["fb-x", "fb-y"], fallbacks=1)


def test_nobody_carries_a_key_to_a_model_it_may_not_use(gateway):
    key = gateway.key(models=["fb-a", "fb-c", "fb-small"])
    expect(ask(gateway, "fb-a", "fb-a=status:500", key=key), 200, ["fb-a", "fb-c"], fallbacks=1)
    expect(ask(gateway, "fb-a", "fb-a=status:500", key=key, fallbacks=["fb-x"]), 500, ["fb-a"])
    expect(ask(gateway, "fb-small", "fb-small=error:context", key=key), 400, ["fb-small"])


def test_unknown_fallbacks_of_the_request(gateway):
    outcome = ask(gateway, "fb-a", "fb-a=status:500", fallbacks=["no-such-model", "fb-x"])
    assert outcome.status in (200, 400, 404), outcome
    if outcome.status == 200:
        assert outcome.names == ["fb-a", "fb-x"]


# -- a gateway with defaults, and without lists for the classes ---------------------------------------------------------
def defaults(config):
    for name in ("fd-a", "fd-b", "fd-c", "fd-d", "fd-e", "fd-default"):
        add(config, name, name)
    router = config["router_settings"]
    router["fallbacks"] = [{"fd-a": ["fd-b"]}, {"fd-b": ["fd-c"]}, {"fd-c": ["fd-d"]}, {"fd-d": ["fd-e"]}]
    router["default_fallbacks"] = ["fd-default"]
    router["max_fallbacks"] = 3


@pytest.fixture(scope="module")
def with_defaults():
    config = config_of()
    config["model_list"].clear()
    defaults(config)
    with Gateway("fallback-defaults", "embedded", config=config) as gateway:
        yield gateway


def test_default_fallbacks(with_defaults):
    expect(ask(with_defaults, "fd-e", "fd-e=status:500"), 200, ["fd-e", "fd-default"], fallbacks=1)
    expect(ask(with_defaults, "fd-d", "fd-d=status:500;fd-e=cut"), 200, ["fd-d", "fd-e", "fd-default"], fallbacks=2)
    expect(ask(with_defaults, "fd-default", "fd-default=status:500"), 500, ["fd-default"])


def test_max_fallbacks(with_defaults):
    outcome = ask(with_defaults, "fd-a", "*=status:500")
    expect(outcome, 500, ["fd-a", "fd-b", "fd-c", "fd-d"], fallbacks=3)


@pytest.mark.parametrize("error", ["context", "content"])
def test_without_a_list_the_general_one_serves(with_defaults, error):
    outcome = ask(with_defaults, "fd-a", f"fd-a=error:{error};fd-b=error:{error}")
    expect(outcome, 200, ["fd-a", "fd-b", "fd-c"], fallbacks=2)


def test_max_fallbacks_over_passes(with_defaults):
    """Hops count over all plans of a request, not per plan."""
    outcome = ask(with_defaults, "fd-a", "*=error:context")
    expect(outcome, 400, ["fd-a", "fd-b", "fd-c", "fd-d"])
