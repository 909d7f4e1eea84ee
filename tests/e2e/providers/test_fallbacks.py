"""One request over four dialects: OpenAI, Anthropic, Bedrock, Gemini, each failing until one serves."""

import anthropic
import pytest
from harness import content, marked
from world import COST, FACTS, QUESTION, TEXT, USAGE

CHAIN = ["chain-openai", "chain-anthropic", "chain-bedrock", "chain-gemini"]
FAILURES = {"status": ["status:500", "status:529", "status:503"],
            "first-event": ["error-at:0", "error-at:0", "error-at:0"],
            "mixed": ["status:429", "cut", "error-at:0"],
            "context": ["cut", "stall-at:0,status:503", "error:quota"]}


def scripted(failures, served):
    """The failures of those before the one that serves."""
    before = dict(zip(CHAIN[:served], failures, strict=False))
    return ";".join([*(f"{name}={script}" for name, script in before.items()),
                     f"{CHAIN[served]}=usage:{USAGE[0]}/{USAGE[1]}"])


def check(gateway, response_headers, mark, served):
    entries = gateway.arrived(mark)
    assert [entry["name"] for entry in entries] == CHAIN[:served + 1]
    assert not any(entry["refused"] for entry in entries), entries
    assert response_headers["x-litellm-model-id"] == CHAIN[served]
    assert response_headers["x-litellm-attempted-fallbacks"] == str(served)
    row = gateway.spend(response_headers["x-litellm-call-id"])
    assert (row["prompt_tokens"], row["completion_tokens"]) == USAGE, row
    assert row["spend"] == pytest.approx(COST), row
    FACTS.record("chain", served + 1, "a chain over {value} dialects in one request")


@pytest.mark.parametrize("served", [1, 2, 3])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
def test_chat_over_four_dialects(gateway, failure, stream, served):
    headers, mark = marked(scripted(FAILURES[failure], served))
    raw = gateway.client().chat.completions.with_raw_response.create(
        model=CHAIN[0], messages=[{"role": "user", "content": QUESTION}], stream=stream, extra_headers=headers,
        **({"stream_options": {"include_usage": True}} if stream else {}))
    answer = raw.parse()
    if stream:
        chunks = list(answer)
        assert content(chunks) == TEXT
        assert {chunk.model for chunk in chunks} == {CHAIN[0]}
        assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [sum(USAGE)]
    else:
        assert answer.choices[0].message.content == TEXT
        assert (answer.model, answer.usage.total_tokens) == (CHAIN[0], sum(USAGE))
    check(gateway, raw.headers, mark, served)


@pytest.mark.parametrize("stream", [False, True])
def test_messages_over_four_dialects(gateway, stream):
    headers, mark = marked(scripted(FAILURES["mixed"], 3))
    client = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.default_key, max_retries=0)
    raw = client.messages.with_raw_response.create(
        model=CHAIN[0], max_tokens=100, messages=[{"role": "user", "content": QUESTION}], stream=stream,
        extra_headers=headers)
    answer = raw.parse()
    if stream:
        events = list(answer)
        assert "".join(event.delta.text for event in events
                       if event.type == "content_block_delta" and event.delta.type == "text_delta") == TEXT
        assert events[-1].type == "message_stop"
    else:
        assert answer.content[0].text == TEXT
    check(gateway, raw.headers, mark, 3)


def test_responses_over_four_dialects(gateway):
    headers, mark = marked(scripted(FAILURES["status"], 3))
    raw = gateway.client().responses.with_raw_response.create(model=CHAIN[0], input=QUESTION, extra_headers=headers)
    assert raw.parse().output_text == TEXT
    check(gateway, raw.headers, mark, 3)


def test_the_last_error_is_in_the_callers_dialect(gateway):
    script = ";".join(f"{name}=status:503" for name in CHAIN)
    headers, mark = marked(script)
    client = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.default_key, max_retries=0)
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=CHAIN[0], max_tokens=10, messages=[{"role": "user", "content": QUESTION}],
                               extra_headers=headers)
    assert caught.value.status_code == 503
    assert caught.value.body["type"] == "error" and caught.value.body["error"]["message"]
    assert [entry["name"] for entry in gateway.arrived(mark)] == CHAIN
