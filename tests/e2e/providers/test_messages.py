"""Anthropic's Python SDK against every provider."""

import json

import anthropic
import pytest
from harness import marked
from world import ARGUMENTS, CITY, PROVIDERS, QUESTION, RESULT, TEXT, USAGE, WEATHER, arrived, sentence

TOOLS = [{"name": name, "description": "Tells it", "input_schema": CITY} for name in ("get_weather", "get_time")]


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


def client(gateway, **options):
    return anthropic.Anthropic(base_url=gateway.url, api_key=gateway.default_key, max_retries=0, timeout=30, **options)


def ask(gateway, provider, script="", messages=None, **options):
    headers, mark = marked(f"{provider}={script}" if script else None)
    answer = client(gateway).messages.create(
        model=provider, max_tokens=options.pop("max_tokens", 200), extra_headers=headers,
        messages=messages or [{"role": "user", "content": QUESTION}], **options)
    return answer, mark


def test_message(gateway, provider):
    answer, mark = ask(gateway, provider, f"usage:{USAGE[0]}/{USAGE[1]},cached:300", system="Be brief.",
                       stop_sequences=["END"], extra_body={"temperature": 0.5})
    assert [block.type for block in answer.content] == ["text"]
    assert answer.content[0].text == TEXT
    assert (answer.stop_reason, answer.model, answer.role, answer.type) == ("end_turn", provider, "assistant", "message")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (700, 200)
    assert answer.usage.cache_read_input_tokens == 300
    shown = json.dumps(arrived(gateway, mark)["body"], ensure_ascii=False)
    assert "Be brief." in shown and QUESTION in shown and "END" in shown and "0.5" in shown


def test_stream(gateway, provider):
    headers, mark = marked(f"{provider}=usage:{USAGE[0]}/{USAGE[1]}")
    with client(gateway).messages.stream(model=provider, max_tokens=200, extra_headers=headers,
                                         messages=[{"role": "user", "content": QUESTION}]) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    arrived(gateway, mark)
    assert "".join(pieces) == TEXT and len(pieces) > 3
    assert final.content[0].text == TEXT
    assert (final.stop_reason, final.model) == ("end_turn", provider)
    assert (final.usage.input_tokens, final.usage.output_tokens) == USAGE


@pytest.mark.parametrize("stream", [False, True])
def test_tools_with_a_second_turn(gateway, provider, stream):
    question = [{"role": "user", "content": WEATHER}]
    headers, mark = marked(f"{provider}=parallel")
    asked = {"model": provider, "max_tokens": 200, "messages": question, "tools": TOOLS, "extra_headers": headers}
    if stream:
        with client(gateway).messages.stream(**asked) as running:
            first = running.get_final_message()
    else:
        first = client(gateway).messages.create(**asked)
    arrived(gateway, mark)
    calls = [block for block in first.content if block.type == "tool_use"]
    assert first.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls] == [("get_weather", ARGUMENTS), ("get_time", ARGUMENTS)]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": text}
               for call, text in zip(calls, [RESULT, "noon"], strict=True)]
    turns = [*question, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second, mark = ask(gateway, provider, messages=turns, tools=TOOLS)
    arrived(gateway, mark)
    assert second.content[-1].text == sentence(f"{RESULT} noon")


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_over_a_tool_call(gateway, provider, stream):
    question = [{"role": "user", "content": WEATHER}]
    options = {"model": provider, "max_tokens": 4000, "tools": TOOLS,
               "thinking": {"type": "enabled", "budget_tokens": 1024}}
    headers, mark = marked(f"{provider}=thinking,tools")
    asked = {**options, "messages": question, "extra_headers": headers}
    if stream:
        with client(gateway).messages.stream(**asked) as running:
            first = running.get_final_message()
    else:
        first = client(gateway).messages.create(**asked)
    arrived(gateway, mark)
    assert [block.type for block in first.content] == ["thinking", "tool_use"]
    assert first.content[0].thinking == "The envoy wonders what to say."
    results = [{"type": "tool_result", "tool_use_id": first.content[1].id, "content": [{"type": "text", "text": RESULT}]}]
    turns = [*question, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    headers, mark = marked()
    second = client(gateway).messages.create(**options, messages=turns, extra_headers=headers)
    arrived(gateway, mark)
    assert second.content[-1].text == sentence(RESULT)


def test_count_tokens(gateway, provider):
    counted = client(gateway).messages.count_tokens(model=provider, messages=[{"role": "user", "content": QUESTION}])
    assert 3 <= counted.input_tokens <= 30


def test_models_in_anthropics_shape(gateway):
    found = {model.id: model for model in client(gateway).models.list(limit=1000)}
    assert set(PROVIDERS) <= set(found)
    assert found["anthropic"].type == "model"


def test_bearer_instead_of_a_key(gateway):
    bearer = anthropic.Anthropic(base_url=gateway.url, auth_token=gateway.default_key, api_key=None, max_retries=0)
    answer = bearer.messages.create(model="anthropic", max_tokens=50, messages=[{"role": "user", "content": QUESTION}])
    assert answer.content[0].text == TEXT


def test_what_only_anthropic_has_passes_untouched(gateway):
    mark_it = {"type": "ephemeral"}
    system = [{"type": "text", "text": "Be brief.", "cache_control": mark_it}]
    answer, mark = ask(gateway, "anthropic", system=system, metadata={"user_id": "u1"})
    assert answer.content[0].text == TEXT
    body = arrived(gateway, mark)["body"]
    assert (body["system"], body["metadata"], body["model"]) == (system, {"user_id": "u1"}, "claude-sonnet-4-5")
