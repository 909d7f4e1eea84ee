"""One row per request, with tokens and cost."""

import json
import time

import cost_cases
import httpx
import pytest
from harness import ANSWER, QUESTION, chat, content, events, marked
from project import wait_for

# Dollars per token of gpt-4o, as OpenAI publishes them.
GPT_4O_INPUT, GPT_4O_OUTPUT = 2.5e-6, 10e-6


@pytest.mark.parametrize("stream", [False, True])
def test_row(gateway, stream):
    headers, mark = marked()
    key = gateway.key(key_alias=f"spender-{time.time_ns()}")
    answer = gateway.post(chat(stream=stream, user="someone"), key=key, headers=headers)
    usage = gateway.arrived(mark)[0]["usage"]
    row = gateway.spend(answer.headers["x-litellm-call-id"])
    assert (row["prompt_tokens"], row["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert row["total_tokens"] == usage["total_tokens"]
    want = usage["prompt_tokens"] * GPT_4O_INPUT + usage["completion_tokens"] * GPT_4O_OUTPUT
    assert row["spend"] == pytest.approx(want, rel=1e-9)
    assert row["model_group"] == "gpt-4o"
    assert row["model_id"] == answer.headers["x-litellm-model-id"]
    assert row["status"] == "success"
    assert not row["estimated"]
    # The key's own sum follows its rows.
    assert gateway.stack.call("GET", f"/key/info?key={key}")["info"]["spend"] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tier", ["default", "priority", "batch"])
def test_parts_and_the_tier_that_was_given_are_priced(gateway, stream, tier):
    """By the table's prices, computed apart from the gateway."""
    headers, _ = marked(f"one=usage:12000/345,cached:4567,reasoning:89,tier:{tier}")
    answer = gateway.post(chat(stream=stream), headers=headers)
    row = gateway.spend(answer.headers["x-litellm-call-id"])
    usage = {"prompt": 12000, "completion": 345, "cached": 4567, "reasoning": 89,
             "class": "standard" if tier == "default" else tier}
    want = cost_cases.nanos(cost_cases.listed("gpt-4o"), usage, {})
    assert round(row["spend"] * 1e9) == want
    assert not row["estimated"]


def test_embeddings_row(gateway):
    answer = gateway.post({"model": "text-embedding-3-small", "input": "an embassy"}, "/v1/embeddings")
    row = gateway.spend(answer.headers["x-litellm-call-id"])
    assert row["prompt_tokens"] == 3 and row["completion_tokens"] == 0
    assert row["spend"] == pytest.approx(3 * 0.02e-6, rel=1e-9)


def test_usage_is_asked_for_but_not_shown(gateway):
    """The stream's usage chunk is asked of the provider, counted, and kept from a client that did not ask."""
    headers, mark = marked()
    *chunks, done = events(gateway.post(chat(stream=True), headers=headers).text)
    assert gateway.arrived(mark)[0]["body"]["stream_options"] == {"include_usage": True}
    assert done == "[DONE]"
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in map(json.loads, chunks))


def test_usage_is_shown_when_asked_for(gateway):
    chunks = list(gateway.client().chat.completions.create(
        model="gpt-4o", messages=QUESTION, stream=True, stream_options={"include_usage": True}))
    assert content(chunks) == ANSWER
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize("stream", [False, True])
def test_missing_usage_is_estimated(gateway, stream):
    answer = gateway.post(chat(stream=stream), headers=marked("one=no-usage")[0])
    assert answer.status_code == 200
    row = gateway.spend(answer.headers["x-litellm-call-id"])
    assert row["prompt_tokens"] > 0 and row["completion_tokens"] > 0
    assert row["spend"] > 0
    assert row["estimated"]


def test_client_leaves(gateway):
    """The upstream call is cancelled at once, and what was seen is booked as an estimate."""
    headers, mark = marked("one=chunk-delay:30,chunks:1000")
    cancelled = gateway.provider.counts()["cancelled"]
    sent = {"authorization": f"Bearer {gateway.default_key}", **headers}
    with httpx.Client(base_url=gateway.url, trust_env=False) as client, \
            client.stream("POST", "/v1/chat/completions", json=chat(stream=True), headers=sent) as answer:
        call_id = answer.headers["x-litellm-call-id"]
        lines = answer.iter_lines()
        for _ in range(12):
            next(lines)
    wait_for("cancelled upstream call", lambda: gateway.provider.counts()["cancelled"] == cancelled + 1, 1)
    row = gateway.spend(call_id)
    assert row["outcome"] == "aborted"
    assert row["estimated"]
    assert row["prompt_tokens"] > 0 and 0 < row["completion_tokens"] < 100
    assert len(gateway.arrived(mark)) == 1


def test_client_leaves_before_the_answer(gateway):
    headers, mark = marked("one=delay:20000")
    cancelled = gateway.provider.counts()["cancelled"]
    with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=gateway.url, trust_env=False, timeout=0.4) as client:
        gateway.post(headers=headers, client=client)
    wait_for("cancelled upstream call", lambda: gateway.provider.counts()["cancelled"] == cancelled + 1, 1)
    assert [entry["name"] for entry in gateway.arrived(mark)] == ["one"], "the gateway went on without its client"


def test_failed_request_costs_nothing(gateway):
    answer = gateway.post(chat("solo"), headers=marked("solo=status:500")[0])
    row = gateway.spend(answer.headers["x-litellm-call-id"])
    assert row["status"] == "failure"
    assert not row["spend"] and row["completion_tokens"] == 0
