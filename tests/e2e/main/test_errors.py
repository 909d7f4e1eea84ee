"""Everything the gateway says itself comes in OpenAI's shape."""

import time

import openai
import pytest
from harness import QUESTION, assert_envelope, chat, marked


def test_unknown_model(gateway):
    assert_envelope(gateway.post(chat("no-such-model")), 404, "invalid_request_error", "model_not_found", "model")


def test_unknown_path(gateway):
    assert_envelope(gateway.post(path="/v1/nothing/here"), 404, "invalid_request_error")
    assert_envelope(gateway.http.get("/"), 404)


@pytest.mark.parametrize("path", ["/v3/model/info", "/model_group/infos", "/spend", "/team/nothing", "/keys", "/healthz",
                                  "/v1/modelsx"])
def test_paths_that_only_look_like_the_admin_api(gateway, path):
    """Gate and Envoy agree on what is the sidecar's: each of these is nobody's, and none is a server error."""
    answer = gateway.http.get(path, headers={"authorization": f"Bearer {gateway.master_key}"})
    assert_envelope(answer, 404)


def test_wrong_method(gateway):
    headers = {"authorization": f"Bearer {gateway.default_key}"}
    assert gateway.http.get("/v1/chat/completions", headers=headers).status_code in (404, 405)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b'{"model": 3, "messages": []}',
                                  b'{"messages": []}', b'{"model": ""}', b"\xff\xfe"])
def test_bad_body(gateway, body):
    headers, mark = marked(authorization=f"Bearer {gateway.default_key}")
    answer = gateway.http.post("/v1/chat/completions", content=body, headers={**headers, "content-type": "application/json"})
    assert_envelope(answer, 400, "invalid_request_error")
    assert not gateway.arrived(mark)


def test_deep_nesting_is_no_crash(gateway):
    body = b'{"model": "gpt-4o", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    headers = {"authorization": f"Bearer {gateway.default_key}", "content-type": "application/json"}
    assert gateway.http.post("/v1/chat/completions", content=body, headers=headers).status_code in (200, 400)
    assert gateway.post().status_code == 200


@pytest.mark.parametrize("status", [400, 422])
def test_the_providers_refusal_of_the_request_passes(gateway, status):
    headers, mark = marked(f"*=status:{status}")
    answer = gateway.post(headers=headers)
    assert_envelope(answer, status)
    assert answer.json()["error"]["message"].startswith("The request was")
    assert len(gateway.arrived(mark)) == 1, "a wrong request was tried again elsewhere"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_the_last_error_passes(gateway, status):
    headers, mark = marked(f"*=status:{status},retry-after:1")
    answer = gateway.post(chat("solo"), headers=headers)
    assert_envelope(answer, status)
    assert len(gateway.arrived(mark)) == 1
    assert answer.headers["x-litellm-call-id"]
    # A provider's `retry-after` may cool the deployment for that long.
    time.sleep(1.1 if status == 429 else 0)


def test_every_attempt_fails(gateway):
    headers, mark = marked("*=status:500")
    answer = gateway.post(headers=headers)
    assert_envelope(answer, 500)
    assert [entry["name"] for entry in gateway.arrived(mark)] == ["one", "two", "azure"]
    assert answer.headers["x-litellm-attempted-fallbacks"] == "2"


def test_error_events_everywhere_become_an_error_status(gateway):
    headers, _ = marked("*=error-at:0")
    answer = gateway.post(chat(stream=True), headers=headers)
    assert answer.status_code >= 500
    assert_envelope(answer, answer.status_code)


def test_nobody_listens(gateway):
    assert_envelope(gateway.post(chat("dead")), 503)


def test_no_answer_in_time(gateway):
    headers, _ = marked("slow=delay:8000")
    began = time.monotonic()
    assert_envelope(gateway.post(chat("slow"), headers=headers), 504)
    assert time.monotonic() - began < 4


def test_sdk_raises_its_own_classes(gateway):
    client = gateway.client()
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        gateway.client("sk-nobody-knows-this-one").chat.completions.create(model="gpt-4o", messages=QUESTION)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="solo", messages=QUESTION, extra_headers={"x-fake-script": "*=status:429"})


def test_message_texts_do_not_tell_upstreams(gateway):
    text = gateway.post(chat("dead")).text
    assert "127.0.0.1" not in text and "attache" not in text.lower()
