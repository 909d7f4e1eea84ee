"""OpenAI's Python SDK against every provider: what the client sees, and what the provider received."""

import json

import openai
import pytest
from harness import content, marked
from pydantic import BaseModel
from world import (
    ARGUMENTS, CHAT, CITY, EMBEDDING, FACTS, PIXEL, PROVIDERS, QUESTION, RESULT, TEXT, USAGE, WEATHER, arrived, sentence,
)

TOOLS = [{"type": "function", "function": {"name": name, "description": "Tells it", "parameters": CITY}}
         for name in ("get_weather", "get_time")]
PATHS = {
    "openai": "/openai/v1/chat/completions",
    "azure": "/azure/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
    "vllm": "/vllm/v1/chat/completions",
    "anthropic": "/anthropic/v1/messages",
    "bedrock": "/bedrock/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
    "bedrock-key": "/bedrock-key/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
    "gemini": "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
    "vertex": "/vertex/v1/projects/p-test/locations/europe-west4/publishers/google/models/gemini-2.5-pro:generateContent",
    "vertex-claude": "/vertex-claude/v1/projects/p-test/locations/europe-west1/publishers/anthropic/models/"
                     "claude-sonnet-4-5@20250929:rawPredict",
}
CREDENTIALS = {
    "openai": ("authorization", "...1111"), "azure": ("api-key", "...2222"), "vllm": ("authorization", "...3333"),
    "anthropic": ("x-api-key", "...4444"), "bedrock-key": ("authorization", "...5555"),
    "gemini": ("x-goog-api-key", "...6666"),
}


@pytest.fixture(params=PROVIDERS)
def provider(request):
    FACTS.record("pairs", len(PROVIDERS), "{value} providers")
    return request.param


def ask(gateway, provider, script="", messages=None, **options):
    """One chat completion; the script is for the provider."""
    headers, mark = marked(f"{provider}={script}" if script else None)
    answer = gateway.client().chat.completions.create(
        model=provider, messages=messages or [{"role": "user", "content": QUESTION}], extra_headers=headers, **options)
    return answer, mark


def test_chat(gateway, provider):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    answer, mark = ask(gateway, provider, f"usage:{USAGE[0]}/{USAGE[1]},cached:300", messages, temperature=0.5,
                       max_tokens=100, stop=["END"])
    assert answer.choices[0].message.content == TEXT
    assert (answer.choices[0].finish_reason, answer.model, answer.object) == ("stop", provider, "chat.completion")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (1000, 200, 1200)
    assert answer.usage.prompt_tokens_details.cached_tokens == 300
    entry = arrived(gateway, mark)
    assert entry["path"] == PATHS[provider]
    shown = json.dumps(entry["body"], ensure_ascii=False)
    assert "Be brief." in shown and QUESTION in shown and "END" in shown and "0.5" in shown and "100" in shown, shown


def test_credentials(gateway, provider):
    _, mark = ask(gateway, provider)
    headers = arrived(gateway, mark)["headers"]
    if provider == "bedrock":
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAFAKE00000001/"), headers
        assert "/eu-central-1/bedrock/aws4_request" in headers["authorization"]
    elif provider in CREDENTIALS:
        name, shown = CREDENTIALS[provider]
        assert headers[name] == shown
    own = {"authorization", "api-key", "x-api-key", "x-goog-api-key", "x-litellm-api-key"} & set(headers)
    assert len(own) == 1, own


def test_stream(gateway, provider):
    stream, mark = ask(gateway, provider, f"usage:{USAGE[0]}/{USAGE[1]}", stream=True,
                       stream_options={"include_usage": True})
    chunks = list(stream)
    assert content(chunks) == TEXT
    assert {chunk.model for chunk in chunks} == {provider}
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [1200]
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    # Azure begins with what its content filter says of the prompt, in a chunk without choices and id.
    assert next(chunk for chunk in chunks if chunk.choices).choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks if chunk.choices}) == 1
    arrived(gateway, mark)


def test_stream_without_usage_asked(gateway, provider):
    stream, _ = ask(gateway, provider, stream=True)
    chunks = list(stream)
    assert content(chunks) == TEXT
    assert not any(chunk.usage for chunk in chunks)


def test_length(gateway, provider):
    answer, _ = ask(gateway, provider, max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def calls_of(message):
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]


def second_turn(message, results):
    """The conversation after the tools have answered."""
    return [{"role": "user", "content": WEATHER}, message.model_dump(exclude_none=True),
            *({"role": "tool", "tool_call_id": call.id, "content": result}
              for call, result in zip(message.tool_calls, results, strict=True))]


def test_tools_with_a_second_turn(gateway, provider):
    first, mark = ask(gateway, provider, messages=[{"role": "user", "content": WEATHER}], tools=TOOLS,
                      tool_choice="auto")
    arrived(gateway, mark)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert calls_of(message) == [("get_weather", ARGUMENTS)]
    second, mark = ask(gateway, provider, messages=second_turn(message, [RESULT]), tools=TOOLS)
    arrived(gateway, mark)
    assert second.choices[0].message.content == sentence(RESULT)
    assert second.choices[0].finish_reason == "stop"


def test_parallel_tools(gateway, provider):
    first, mark = ask(gateway, provider, "parallel", [{"role": "user", "content": WEATHER}], tools=TOOLS)
    arrived(gateway, mark)
    message = first.choices[0].message
    assert calls_of(message) == [("get_weather", ARGUMENTS), ("get_time", ARGUMENTS)]
    assert len({call.id for call in message.tool_calls}) == 2
    second, mark = ask(gateway, provider, messages=second_turn(message, [RESULT, "noon"]), tools=TOOLS)
    arrived(gateway, mark)
    assert second.choices[0].message.content == sentence(f"{RESULT} noon")


def test_streamed_tools(gateway, provider):
    stream, mark = ask(gateway, provider, "parallel", [{"role": "user", "content": WEATHER}], tools=TOOLS, stream=True)
    calls, finish = {}, None
    for choice in (choice for chunk in stream for choice in chunk.choices):
        finish = choice.finish_reason or finish
        for delta in choice.delta.tool_calls or ():
            call = calls.setdefault(delta.index, {"id": delta.id, "name": delta.function.name, "arguments": ""})
            call["arguments"] += delta.function.arguments or ""
    arrived(gateway, mark)
    assert finish == "tool_calls"
    assert [(call["name"], json.loads(call["arguments"])) for _, call in sorted(calls.items())] == [
        ("get_weather", ARGUMENTS), ("get_time", ARGUMENTS)]
    assert all(call["id"] for call in calls.values())


@pytest.mark.parametrize("choice, names", [("required", ["get_weather"]), ("none", []), ("named", ["get_time"])])
def test_tool_choice(gateway, provider, choice, names):
    named = {"type": "function", "function": {"name": "get_time"}}
    answer, mark = ask(gateway, provider, tools=TOOLS, tool_choice=named if choice == "named" else choice)
    arrived(gateway, mark)
    assert [call.function.name for call in answer.choices[0].message.tool_calls or ()] == names


def test_vision(gateway, provider):
    parts = [{"type": "text", "text": QUESTION},
             {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    answer, mark = ask(gateway, provider, messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == TEXT
    assert PIXEL in json.dumps(arrived(gateway, mark)["body"])


class Report(BaseModel):
    city: str
    degrees: float
    tags: list[str]


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output(gateway, provider, stream):
    headers, mark = marked()
    asked = {"model": provider, "messages": [{"role": "user", "content": QUESTION}], "response_format": Report,
             "extra_headers": headers}
    if stream:
        with gateway.client().chat.completions.stream(**asked) as running:
            answer = running.get_final_completion()
    else:
        answer = gateway.client().chat.completions.parse(**asked)
    arrived(gateway, mark)
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Report), answer
    assert (parsed.city, parsed.degrees, parsed.tags) == ("Genève", 1.5, ["Genève"])
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning(gateway, provider, stream):
    answer, mark = ask(gateway, provider, "thinking", reasoning_effort="low", stream=stream, max_tokens=4000)
    entry = arrived(gateway, mark)
    if stream:
        chunks = list(answer)
        text = content(chunks)
        thought = "".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in chunks if c.choices)
    else:
        text, thought = answer.choices[0].message.content, answer.choices[0].message.reasoning_content
    assert text == TEXT
    assert thought == "The envoy wonders what to say."
    if provider in ("anthropic", "vertex-claude"):
        assert entry["body"]["thinking"]["type"] == "enabled"
    if provider in ("gemini", "vertex"):
        assert entry["body"]["generationConfig"]["thinkingConfig"]["includeThoughts"] is True


def test_thinking_is_kept_over_a_tool_call(gateway, provider):
    """What was thought goes back with its signature, where the provider checks it."""
    options = {"tools": TOOLS, "reasoning_effort": "low", "max_tokens": 4000}
    first, mark = ask(gateway, provider, "thinking,tools", [{"role": "user", "content": WEATHER}], **options)
    arrived(gateway, mark)
    second, mark = ask(gateway, provider, messages=second_turn(first.choices[0].message, [RESULT]), **options)
    arrived(gateway, mark)
    assert second.choices[0].message.content == sentence(RESULT)


def test_refusal(gateway, provider):
    answer, _ = ask(gateway, provider, "refuse")
    choice = answer.choices[0]
    assert choice.message.refusal or choice.finish_reason == "content_filter", answer


@pytest.mark.parametrize("provider", list(EMBEDDING))
def test_embeddings(gateway, provider):
    headers, mark = marked()
    # Titan embeds one text per request; more are refused before it is asked.
    texts = ["12345678"] if provider == "embed-titan" else ["12345678", "abcd"]
    answer = gateway.client().embeddings.create(model=provider, input=texts, extra_headers=headers)
    assert [item.index for item in answer.data] == list(range(len(texts)))
    assert all(isinstance(item.embedding, list) and len(item.embedding) >= 8 for item in answer.data)
    assert answer.model == provider
    entries = gateway.arrived(mark)
    assert entries and not any(entry["refused"] for entry in entries), entries


def test_titan_takes_one_text(gateway):
    headers, mark = marked()
    with pytest.raises(openai.BadRequestError) as caught:
        gateway.client().embeddings.create(model="embed-titan", input=["a", "b"], extra_headers=headers)
    assert "input" in str(caught.value)
    assert gateway.arrived(mark) == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", ["azure", "anthropic", "gemini"])
def test_azure_client(gateway, provider, stream):
    """Azure's client finds every provider behind its own paths."""
    client = openai.AzureOpenAI(azure_endpoint=gateway.url, api_key=gateway.default_key, api_version="2024-10-21",
                                max_retries=0)
    answer = client.chat.completions.create(model=provider, messages=[{"role": "user", "content": QUESTION}],
                                            stream=stream)
    assert (content(list(answer)) if stream else answer.choices[0].message.content) == TEXT


def test_upstream_models_are_named_by_their_provider(gateway, provider):
    """The path or the body has the provider's own name for the model."""
    _, mark = ask(gateway, provider)
    entry = arrived(gateway, mark)
    name = CHAT[provider]["model"].split("/", 1)[1]
    in_body = provider in ("openai", "vllm", "anthropic")
    assert (entry["body"]["model"] if in_body else entry["path"].replace("%3A", ":")).find(name) >= 0
