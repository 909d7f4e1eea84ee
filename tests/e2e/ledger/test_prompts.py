"""What is said is stored only where the configuration says so: whole, cut, streamed, left out."""

import json

import pytest
from books import config
from harness import BACKENDS, Gateway, chat, marked

LIMIT = 64 * 1024
MARK = " ... (truncated)"


@pytest.fixture(scope="module", params=BACKENDS)
def storing(request):
    settings = config(store_prompts_in_spend_logs=True)
    with Gateway("prompts", request.param, config=settings) as gateway:
        yield gateway


def stored(gateway, answer):
    assert answer.status_code == 200, answer.text
    return gateway.spend(answer.headers["x-litellm-call-id"])


def text_of(stream):
    """What a stream says, put together."""
    events = [line[6:] for line in stream.splitlines() if line.startswith("data: ") and line != "data: [DONE]"]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_messages_and_answer_are_stored(storing):
    body = chat("led")
    body["messages"] = [{"role": "user", "content": 'say "hé"\n\u0001'}]
    answer = storing.post(body)
    row = stored(storing, answer)
    assert row["messages"] == body["messages"]
    assert row["response"] == answer.json()


def test_a_stream_is_put_together(storing):
    answer = storing.post(chat("led", stream=True), headers=marked("led=chunks:40")[0])
    row = stored(storing, answer)
    assert len(row["response"]) > 40
    assert row["response"] == text_of(answer.text)


def test_the_embeddings_input_is_stored(storing):
    answer = storing.post({"model": "led", "input": ["one", "two"]}, "/v1/embeddings")
    row = stored(storing, answer)
    assert row["messages"] == ["one", "two"]
    assert row["response"] == answer.json()


def test_what_is_long_is_cut_with_a_mark(storing):
    body = chat("led")
    body["messages"] = [{"role": "user", "content": "é" * 200_000}]
    row = stored(storing, storing.post(body))
    kept = row["messages"]
    assert kept.startswith('[{"role"') and kept.endswith(MARK)
    assert LIMIT - 8 < len(kept.removesuffix(MARK).encode()) <= LIMIT


@pytest.mark.parametrize("opt_out", [{"no-log": True}, {"metadata": {"no-log": True, "mine": "stays"}}])
def test_no_log_is_honoured_and_the_provider_does_not_see_it(storing, opt_out):
    headers, mark = marked()
    answer = storing.post({**chat("led"), **opt_out}, headers=headers)
    row = stored(storing, answer)
    assert (row["messages"], row["response"]) == ({}, {})
    seen = storing.arrived(mark)
    assert len(seen) == 1 and "no-log" not in json.dumps(seen)


def test_no_prompt_is_in_a_log(storing):
    secret = "the-words-of-a-prompt"
    body = chat("led")
    body["messages"] = [{"role": "user", "content": secret}]
    stored(storing, storing.post(body))
    logs = [path for path in storing.folder.rglob("*.log")]
    assert logs
    assert not [path for path in logs if secret in path.read_text(errors="replace")]


def test_nothing_is_stored_unless_it_is_asked_for(gateway):
    row = stored(gateway, gateway.post(chat("led")))
    assert (row["messages"], row["response"]) == ({}, {})


def test_message_logging_can_be_turned_off_for_all():
    settings = config(store_prompts_in_spend_logs=True)
    settings["litellm_settings"] = {"turn_off_message_logging": True}
    with Gateway("prompts-off", "embedded", config=settings) as silent:
        row = stored(silent, silent.post(chat("led")))
        assert (row["messages"], row["response"]) == ({}, {})
