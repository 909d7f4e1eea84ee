"""OpenAI's responses API against every provider: passed to OpenAI and Azure, translated for the others."""

import json

import pytest
from harness import marked
from pydantic import BaseModel
from world import ARGUMENTS, CITY, PROVIDERS, QUESTION, RESULT, TEXT, USAGE, WEATHER, arrived, sentence

TOOLS = [{"type": "function", "name": name, "description": "Tells it", "parameters": CITY, "strict": True}
         for name in ("get_weather", "get_time")]
ITSELF = {"openai": "/openai/v1/responses"}


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


def ask(gateway, provider, script="", **options):
    headers, mark = marked(f"{provider}={script}" if script else None)
    options = {"input": QUESTION, **options}
    return gateway.client().responses.create(model=provider, extra_headers=headers, **options), mark


def test_response(gateway, provider):
    answer, mark = ask(gateway, provider, f"usage:{USAGE[0]}/{USAGE[1]},cached:300", instructions="Be brief.",
                       max_output_tokens=100)
    assert answer.output_text == TEXT
    assert (answer.status, answer.model, answer.object) == ("completed", provider, "response")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (1000, 200, 1200)
    assert answer.usage.input_tokens_details.cached_tokens == 300
    entry = arrived(gateway, mark)
    assert "Be brief." in json.dumps(entry["body"])
    assert entry["path"].startswith(ITSELF.get(provider, f"/{provider}/"))


def test_stream(gateway, provider):
    stream, mark = ask(gateway, provider, f"usage:{USAGE[0]}/{USAGE[1]}", stream=True)
    events = list(stream)
    arrived(gateway, mark)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final = events[-1].response
    assert (final.output_text, final.model, final.usage.total_tokens) == (TEXT, provider, 1200)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_with_a_second_turn(gateway, provider, stream):
    first, mark = ask(gateway, provider, "parallel", input=WEATHER, tools=TOOLS, stream=stream)
    if stream:
        events = list(first)
        first = events[-1].response
        done = [event for event in events if event.type == "response.function_call_arguments.done"]
        assert [json.loads(event.arguments) for event in done] == [ARGUMENTS, ARGUMENTS]
    arrived(gateway, mark)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_weather", ARGUMENTS), ("get_time", ARGUMENTS)]
    turns = [{"role": "user", "content": WEATHER}, *(item.model_dump(exclude_none=True) for item in first.output),
             *({"type": "function_call_output", "call_id": call.call_id, "output": text}
               for call, text in zip(calls, [RESULT, "noon"], strict=True))]
    second, mark = ask(gateway, provider, input=turns, tools=TOOLS)
    arrived(gateway, mark)
    assert second.output_text == sentence(f"{RESULT} noon")


class Report(BaseModel):
    city: str
    degrees: float


def test_structured_output(gateway, provider):
    headers, mark = marked()
    answer = gateway.client().responses.parse(model=provider, input=QUESTION, text_format=Report, extra_headers=headers)
    arrived(gateway, mark)
    assert answer.output_parsed == Report(city="Genève", degrees=1.5)


def test_length(gateway, provider):
    answer, _ = ask(gateway, provider, max_output_tokens=16, reasoning=None, script="stop:length")
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
