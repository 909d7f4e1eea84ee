"""The official Python SDK as it is, against every endpoint."""

import asyncio

import openai
import pytest
from harness import ANSWER, QUESTION, content, marked


def test_chat(gateway):
    headers, mark = marked()
    raw = gateway.client().chat.completions.with_raw_response.create(
        model="gpt-4o", messages=QUESTION, extra_headers=headers)
    answer = raw.parse()
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o", "the provider's own name for the model shows"
    [arrived] = gateway.arrived(mark)
    assert arrived["path"] == "/one/v1/chat/completions"
    assert arrived["body"]["model"] == "gpt-4o"
    assert answer.usage.total_tokens == arrived["usage"]["total_tokens"]


def test_chat_passes_unknown_fields_both_ways(gateway):
    headers, mark = marked()
    answer = gateway.client().chat.completions.create(
        model="gpt-4o", messages=QUESTION, extra_headers=headers, temperature=0.25,
        extra_body={"future_option": {"nested": [1, 2, "é\u0001"]}})
    [arrived] = gateway.arrived(mark)
    assert arrived["body"]["future_option"] == {"nested": [1, 2, "é\u0001"]}
    assert arrived["body"]["temperature"] == 0.25
    assert answer.system_fingerprint == "fp_a7ac4e5f10"


def test_stream(gateway):
    chunks = list(gateway.client().chat.completions.create(model="gpt-4o", messages=QUESTION, stream=True))
    assert content(chunks) == ANSWER
    assert {chunk.model for chunk in chunks} == {"gpt-4o"}
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.choices for chunk in chunks), "a chunk without choices that nobody asked for"


def test_stream_arrives_as_it_is_sent(gateway):
    import time

    headers, _ = marked("one=chunk-delay:50")
    times = [time.monotonic() for _ in gateway.client().chat.completions.create(
        model="gpt-4o", messages=QUESTION, stream=True, extra_headers=headers)]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert sum(gap > 0.03 for gap in gaps) >= 10, gaps


def test_two_choices(gateway):
    answer = gateway.client().chat.completions.create(model="gpt-4o", messages=QUESTION, n=2)
    assert [choice.message.content for choice in answer.choices] == [ANSWER, ANSWER]


def test_embeddings(gateway):
    answer = gateway.client().embeddings.create(
        model="text-embedding-3-small", input=["a", "b", "c"], encoding_format="float", dimensions=16)
    assert [len(vector.embedding) for vector in answer.data] == [16, 16, 16]
    assert answer.model == "text-embedding-3-small"


@pytest.mark.parametrize("stream", [False, True])
def test_completions(gateway, stream):
    answer = gateway.client().completions.create(
        model="gpt-3.5-turbo-instruct", prompt="Once upon a time", stream=stream)
    if stream:
        chunks = list(answer)
        assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER
        assert {chunk.model for chunk in chunks} == {"gpt-3.5-turbo-instruct"}
    else:
        assert answer.choices[0].text == ANSWER


def test_async(gateway):
    async def run():
        async with gateway.client(kind=openai.AsyncOpenAI) as client:
            async def one(index):
                if index % 2:
                    answer = await client.chat.completions.create(model="gpt-4o", messages=QUESTION)
                    return answer.choices[0].message.content
                stream = await client.chat.completions.create(model="gpt-4o", messages=QUESTION, stream=True)
                return content([chunk async for chunk in stream])

            return await asyncio.gather(*(one(index) for index in range(20)))

    assert asyncio.run(run()) == [ANSWER] * 20


@pytest.mark.parametrize("stream", [False, True])
def test_azure_sdk(gateway, stream):
    """Azure's SDK: model in the path, key in `api-key`; answered by an Azure deployment."""
    headers, mark = marked()
    client = openai.AzureOpenAI(
        azure_endpoint=gateway.url, api_key=gateway.default_key, api_version="2024-06-01", max_retries=0)
    answer = client.chat.completions.create(
        model="gpt-4o-azure", messages=QUESTION, extra_headers=headers, stream=stream)
    if stream:
        chunks = list(answer)
        assert content(chunks) == ANSWER
        assert {chunk.model for chunk in chunks} == {"gpt-4o-azure"}
    else:
        assert answer.choices[0].message.content == ANSWER
    [arrived] = gateway.arrived(mark)
    assert arrived["path"] == "/azure/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert arrived["headers"]["api-key"] == "...4444"
    assert "authorization" not in arrived["headers"]


def test_models(gateway):
    key = gateway.key(models=["gpt-4o", "text-embedding-3-small"])
    assert sorted(model.id for model in gateway.client(key).models.list()) == ["gpt-4o", "text-embedding-3-small"]
    everything = {model.id for model in gateway.client().models.list()}
    assert {"gpt-4o", "gpt-4o-azure", "reserved", "dead"} <= everything


@pytest.mark.parametrize("path", [
    "/v1/chat/completions", "/chat/completions", "/openai/deployments/gpt-4o/chat/completions",
    "/engines/gpt-4o/chat/completions", "/v1/engines/gpt-4o/chat/completions",
])
def test_paths(gateway, path):
    headers, mark = marked()
    answer = gateway.post(path=path, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "gpt-4o"
    assert gateway.arrived(mark)[0]["path"] == "/one/v1/chat/completions"


def test_headers(gateway):
    answer = gateway.post()
    for name in ("x-litellm-call-id", "x-litellm-model-id", "x-request-id"):
        assert answer.headers[name]
    assert answer.headers["x-litellm-model-group"] == "gpt-4o"
    assert answer.headers["x-litellm-attempted-retries"] == "0"
    assert answer.headers["x-litellm-attempted-fallbacks"] == "0"
    internals = [name for name in answer.headers if name.startswith(("x-attache", "x-envoy"))]
    assert internals == ["x-attache-generation"]
    assert gateway.post().headers["x-litellm-call-id"] != answer.headers["x-litellm-call-id"]
