"""Errors in the caller's dialect: before the stream and inside it, whatever went wrong and whoever said so."""

import json

import anthropic
import httpx
import httpx2
import openai
import pytest
from harness import assert_envelope, events, marked
from world import FACTS, PROVIDERS, QUESTION, TEXT, arrived

# Script -> status, and the type that OpenAI's and Anthropic's clients are told.
KINDS = {
    "status:400": (400, "invalid_request_error"),
    "status:404": (404, "not_found_error"),
    "status:429": (429, "rate_limit_error"),
    "error:context": (400, "invalid_request_error"),
    "status:500": (500, "api_error"),
    "status:503": (503, None),
}
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses",
         "completions": "/v1/completions"}


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


def body(dialect, model, **more):
    asked = {"messages": [{"role": "user", "content": QUESTION}]}
    return {"model": model, **{"chat": asked, "messages": {**asked, "max_tokens": 50},
                               "responses": {"input": QUESTION}, "completions": {"prompt": QUESTION}}[dialect], **more}


def post(gateway, dialect, model, script=None, key=None, **more):
    headers, mark = marked(f"{model}={script}" if script else None)
    return gateway.post(body(dialect, model, **more), path=PATHS[dialect], headers=headers, key=key), mark


def assert_dialect(dialect, answer, status, kind=None):
    """An error as clients of this dialect expect it."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:400]}"
    shape = answer.json()
    if dialect != "messages":
        # The provider's id of the request stays beside the error.
        assert set(shape) == {"error"}, shape
        assert {"message", "type", "param", "code"} <= set(shape["error"]), shape
        return shape["error"]
    assert shape["type"] == "error" and shape["error"]["message"], shape
    if kind:
        assert shape["error"]["type"] == kind, shape
    return shape["error"]


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
@pytest.mark.parametrize("script", KINDS)
def test_before_the_stream(gateway, provider, dialect, script):
    status, kind = KINDS[script]
    answer, _ = post(gateway, dialect, provider, script)
    error = assert_dialect(dialect, answer, status, kind)
    if script == "error:context" and dialect == "chat":
        assert error["code"] == "context_length_exceeded", error
    FACTS.record("refused", len(KINDS) * len(PROVIDERS) * 3, "{value} errors translated")


@pytest.mark.parametrize("script", ["error-at:5", "cut-at:5"])
def test_inside_the_stream_for_openais_client(gateway, provider, script):
    headers, _ = marked(f"{provider}={script}")
    stream = gateway.client().chat.completions.create(
        model=provider, messages=[{"role": "user", "content": QUESTION}], stream=True, extra_headers=headers)
    seen = ""
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        for chunk in stream:
            seen += chunk.choices[0].delta.content or "" if chunk.choices else ""
    assert seen and TEXT.startswith(seen) and seen != TEXT


@pytest.mark.parametrize("script", ["error-at:5", "cut-at:5"])
def test_inside_the_stream_for_anthropics_client(gateway, provider, script):
    headers, _ = marked(f"{provider}={script}")
    client = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.default_key, max_retries=0)
    seen = ""
    with pytest.raises((anthropic.APIError, httpx2.HTTPError)):
        with client.messages.stream(model=provider, max_tokens=50, extra_headers=headers,
                                    messages=[{"role": "user", "content": QUESTION}]) as stream:
            for piece in stream.text_stream:
                seen += piece
    assert seen and TEXT.startswith(seen) and seen != TEXT


def test_inside_the_stream_of_responses(gateway, provider):
    answer, _ = post(gateway, "responses", provider, "error-at:6", stream=True)
    assert answer.status_code == 200
    last = json.loads(events(answer.text)[-1])
    assert last["type"] in ("error", "response.failed"), last


@pytest.mark.parametrize("dialect", PATHS)
def test_an_upstream_that_is_down(gateway, dialect):
    answer, _ = post(gateway, dialect, "down")
    assert_dialect(dialect, answer, 503)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_an_upstream_that_is_slow(gateway, dialect, stream):
    answer, _ = post(gateway, dialect, "slow", "delay:4000", stream=stream)
    assert answer.status_code in (408, 504)
    assert_dialect(dialect, answer, answer.status_code)


@pytest.mark.parametrize("dialect", PATHS)
def test_an_upstream_that_cuts(gateway, dialect):
    answer, _ = post(gateway, dialect, "anthropic", "cut")
    assert answer.status_code in (500, 502, 503)
    assert_dialect(dialect, answer, answer.status_code)


@pytest.mark.parametrize("dialect", PATHS)
def test_a_wrong_key(gateway, dialect):
    answer, _ = post(gateway, dialect, "anthropic", key="sk-nobody-knows-this-key")
    assert_dialect(dialect, answer, 401, "authentication_error")


@pytest.mark.parametrize("dialect", PATHS)
def test_a_body_that_is_no_json(gateway, dialect):
    answer = httpx.post(f"{gateway.url}{PATHS[dialect]}", content=b'{"model": "anthropic", "messages": [',
                        headers={"authorization": f"Bearer {gateway.default_key}"}, trust_env=False)
    assert_dialect(dialect, answer, 400, "invalid_request_error")


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "gemini"])
def test_members_of_a_wrong_kind(gateway, dialect, provider):
    """What cannot be translated is refused by name, before a provider sees it."""
    name = {"chat": "messages", "messages": "messages", "responses": "input"}[dialect]
    answer, mark = post(gateway, dialect, provider, **{name: 5})
    error = assert_dialect(dialect, answer, 400, "invalid_request_error")
    assert name in error["message"], error


@pytest.mark.parametrize("dialect", PATHS)
def test_a_body_that_is_too_large(gateway, dialect):
    large = body(dialect, "anthropic", user="x" * (21 * 1024 * 1024))
    answer = gateway.post(large, path=PATHS[dialect])
    assert_dialect(dialect, answer, 413, "request_too_large")


@pytest.mark.parametrize("param, value", [("n", 2), ("seed", 7), ("frequency_penalty", 0.5), ("logit_bias", {"5": 1})])
def test_a_parameter_that_the_provider_has_not(gateway, param, value):
    answer, mark = post(gateway, "chat", "anthropic", **{param: value})
    error = assert_envelope(answer, 400, "invalid_request_error", param=param)
    assert param in error["message"] and "anthropic" in error["message"], error
    assert gateway.arrived(mark) == []
    answer, mark = post(gateway, "chat", "dropping", **{param: value})
    assert answer.status_code == 200, answer.text
    assert param not in arrived(gateway, mark)["body"]


def test_a_stream_that_ends_without_an_end(gateway, provider):
    """A connection cut before the first event is an error with a status, not an empty stream."""
    answer, _ = post(gateway, "chat", provider, "cut-at:0", stream=True)
    assert answer.status_code in (500, 502, 503), answer.text
    assert_envelope(answer, answer.status_code)
