"""A provider fails, the client gets its answer."""

import time

import openai
import pytest
from harness import ANSWER, QUESTION, assert_envelope, chat, content, events, marked
from project import wait_for


def ask(gateway, model, script, stream):
    headers, mark = marked(script)
    raw = gateway.client().chat.completions.with_raw_response.create(
        model=model, messages=QUESTION, stream=stream, extra_headers=headers)
    answer = raw.parse()
    if stream:
        chunks = list(answer)
        return content(chunks), chunks[0].model, raw.headers, mark
    return answer.choices[0].message.content, answer.model, raw.headers, mark


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", ["status:429", "status:500", "status:503", "status:401", "status:404", "status:408",
                                  "cut", "refused"])
def test_fallback(gateway, what, stream):
    refused = what == "refused"
    model, script = ("down", None) if refused else ("gpt-4o", f"one={what}")
    text, answered, headers, mark = ask(gateway, model, script, stream)
    assert text == ANSWER
    assert answered == model
    assert headers["x-litellm-attempted-fallbacks"] == "1"
    assert [entry["name"] for entry in gateway.arrived(mark)] == (["two"] if refused else ["one", "two"])
    row = gateway.spend(headers["x-litellm-call-id"])
    assert row["status"] == "success"
    assert row["total_tokens"] > 0


@pytest.mark.parametrize("what", ["error-at:0", "error-at:0,split:1", "empty", "cut-at:0"])
def test_fallback_before_the_first_event(gateway, what):
    """Trouble inside HTTP 200 that comes before the first good event is no trouble for the client."""
    before = gateway.stat("first_event_failovers")
    text, _, headers, mark = ask(gateway, "gpt-4o", f"one={what}", True)
    assert text == ANSWER
    assert headers["x-litellm-attempted-fallbacks"] == "1"
    assert [entry["name"] for entry in gateway.arrived(mark)] == ["one", "two"]
    if what != "cut-at:0":
        assert gateway.stat("first_event_failovers") == before + 1


def test_fallback_when_the_stream_stalls_before_its_first_event(gateway):
    began = time.monotonic()
    text, _, headers, _ = ask(gateway, "stalls", "stalls=stall-at:0", True)
    assert text == ANSWER
    assert headers["x-litellm-attempted-fallbacks"] == "1"
    assert 0.4 < time.monotonic() - began < 3


def test_two_fallbacks(gateway):
    text, _, headers, mark = ask(gateway, "gpt-4o", "one=status:500;two=cut", False)
    assert text == ANSWER
    assert headers["x-litellm-attempted-fallbacks"] == "2"
    arrived = gateway.arrived(mark)
    assert [entry["name"] for entry in arrived] == ["one", "two", "azure"]
    # Each attempt is made from the original: path, model and credential of its own.
    assert [entry["body"].get("model") for entry in arrived[:2]] == ["gpt-4o", "gpt-4o-mini"]
    assert arrived[2]["headers"]["api-key"] == "...4444" and "authorization" not in arrived[2]["headers"]


def test_a_good_stream_is_not_cut_by_the_first_event_limit(gateway):
    headers, _ = marked("stalls=chunk-delay:100")
    chunks = list(gateway.client().chat.completions.create(
        model="stalls", messages=QUESTION, stream=True, extra_headers=headers))
    assert content(chunks) == ANSWER


def test_error_after_the_first_token_is_visible(gateway):
    headers, mark = marked("one=error-at:4")
    seen = []
    with pytest.raises(openai.APIError):
        for chunk in gateway.client().chat.completions.create(
                model="gpt-4o", messages=QUESTION, stream=True, extra_headers=headers):
            seen.append(chunk)
    assert content(seen) == "Envoys carry letters"
    assert [entry["name"] for entry in gateway.arrived(mark)] == ["one"], "a committed answer was replayed"


def test_cut_after_the_first_token_is_visible_at_once(gateway):
    headers, _ = marked("one=cut-at:4")
    began, seen = time.monotonic(), []
    with pytest.raises((openai.APIConnectionError, Exception)) as raised:
        for chunk in gateway.client().chat.completions.create(
                model="gpt-4o", messages=QUESTION, stream=True, extra_headers=headers):
            seen.append(chunk)
    assert not isinstance(raised.value, AssertionError)
    assert content(seen) == "Envoys carry letters"
    assert time.monotonic() - began < 0.8, "the cut was seen late"


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize("model, upstream", [("gpt-4o", "one"), ("gpt-4o-azure", "azure")])
def test_split_events(gateway, size, model, upstream):
    """Events that arrive in pieces of any size come out as they were."""
    body = chat(model, stream=True, stream_options={"include_usage": True})
    whole = gateway.post(body, headers=marked()[0]).text
    pieces = gateway.post(body, headers=marked(f"{upstream}=split:{size}")[0]).text
    assert events(pieces) == events(whole)
    assert events(pieces)[-1] == "[DONE]"


@pytest.mark.parametrize("size", [1, 50])
def test_split_json(gateway, size):
    whole, pieces = (gateway.post(headers=marked(script)[0]).json() for script in (None, f"one=split:{size}"))
    assert whole == pieces
    assert whole["model"] == "gpt-4o"


def test_cooldown(gateway):
    """More failures than allowed: the deployment rests, nobody asks it, and it comes back by itself."""
    for _ in range(2):
        assert gateway.post(chat("cools"), headers=marked("cools=status:500")[0]).status_code == 500
    # A failure counts when its usage record has reached the sidecar.
    resting = wait_for("cooldown", lambda: (a := gateway.post(chat("cools"))).status_code == 429 and a, 1.5)
    assert_envelope(resting, 429, "all_deployments_in_cooldown")
    assert 1 <= int(resting.headers["retry-after"]) <= 3
    headers, mark = marked()
    gateway.post(chat("cools"), headers=headers)
    assert not gateway.arrived(mark), "a resting deployment was asked"
    wait_for("end of the cooldown", lambda: gateway.post(chat("cools")).status_code == 200, 5, 0.2)
