"""Who may, and who may not."""

import json
import time

import httpx
import pytest
from harness import assert_envelope, chat, in_threads, marked

# `negative_ttl_ms` of the gate: a key that nobody knew is asked about again after this.
NEGATIVE_TTL_SECONDS = 5


@pytest.mark.parametrize("header, form", [
    ("authorization", "Bearer {}"), ("authorization", "bearer {}"), ("x-api-key", "{}"), ("api-key", "{}"),
    ("x-goog-api-key", "{}"), ("x-litellm-api-key", "{}"), ("x-litellm-api-key", "Bearer {}"),
])
def test_key_places(gateway, header, form):
    """The key is taken from where the SDKs put it, and does not travel on."""
    key = gateway.key()
    headers, mark = marked()
    answer = gateway.post(key=False, headers={**headers, header: form.format(key)})
    assert answer.status_code == 200, answer.text
    [arrived] = gateway.arrived(mark)
    assert arrived["headers"]["authorization"] == "...2222", "the provider's credential is missing"
    others = {"x-api-key", "api-key", "x-goog-api-key", "x-litellm-api-key"} & set(arrived["headers"])
    assert not others, "the caller's key header went upstream"


def test_master_key(gateway):
    assert gateway.post(key=gateway.master_key).status_code == 200


@pytest.mark.parametrize("headers, kind", [
    ({}, "auth_error"),
    ({"authorization": "Bearer"}, "auth_error"),
    ({"authorization": "Basic dXNlcjpwYXNz"}, "auth_error"),
    ({"authorization": "Bearer not-a-key"}, "auth_error"),
    ({"authorization": "Bearer sk-nobody-knows-this-one"}, "token_not_found_in_db"),
    ({"x-api-key": "sk-nobody-knows-this-one"}, "token_not_found_in_db"),
])
def test_no_good_key(gateway, headers, kind):
    marks, mark = marked()
    answer = gateway.post(key=False, headers={**headers, **marks})
    assert_envelope(answer, 401, kind, "invalid_api_key")
    assert not gateway.arrived(mark), "the provider was asked"


def test_expired_key(gateway):
    key = gateway.key(duration="1s")
    assert gateway.post(key=key).status_code == 200
    time.sleep(1.2)
    error = assert_envelope(gateway.post(key=key), 401, "expired_key")
    assert key not in str(error)


def test_blocked_key(gateway):
    key = gateway.key()
    assert gateway.post(key=key).status_code == 200
    gateway.stack.call("POST", "/key/block", {"key": key})
    assert_answered_within(gateway, key, 401, 1.0)
    assert_envelope(gateway.post(key=key), 401, "auth_error")
    gateway.stack.call("POST", "/key/unblock", {"key": key})
    assert_answered_within(gateway, key, 200, 1.0)


def test_deleted_key_stops_within_a_second(gateway):
    key = gateway.key()
    assert gateway.post(key=key).status_code == 200
    assert gateway.stack.call("POST", "/key/delete", {"keys": [key]}) == {"deleted_keys": [key]}
    assert_answered_within(gateway, key, 401, 1.0)


def assert_answered_within(gateway, key, status, seconds):
    """Every worker must agree, so each try uses a connection of its own, and several must agree in a row."""
    end, agreed = time.monotonic() + seconds, 0
    while agreed < 8:
        with httpx.Client(base_url=gateway.url, trust_env=False) as client:
            seen = gateway.post(key=key, client=client).status_code
        agreed = agreed + 1 if seen == status else 0
        if agreed == 0:
            assert time.monotonic() < end, f"still {seen} after {seconds} s"
            time.sleep(0.02)


def test_new_key_works_at_once_although_it_was_unknown(gateway):
    """A key that was refused before it existed is known soon after it does."""
    key = f"sk-custom-{time.time_ns()}"
    gateway.keys.append(key)
    assert gateway.post(key=key).status_code == 401
    gateway.stack.call("POST", "/key/generate", {"key": key})
    assert_answered_within(gateway, key, 200, 1.0)


def test_key_info(gateway):
    key = gateway.key(models=["gpt-4o"], key_alias=f"alias-{time.time_ns()}", metadata={"team": "blue"})
    answer = gateway.stack.call("GET", f"/key/info?key={key}")
    assert answer["info"]["models"] == ["gpt-4o"]
    assert answer["info"]["key_name"] == f"sk-...{key[-4:]}"
    assert key not in str(answer["info"])


def test_admin_routes_need_the_master_key(gateway):
    answer = gateway.post({"models": []}, "/key/generate")
    assert answer.status_code in (401, 403)
    assert "error" in answer.json()
    assert gateway.post({"models": []}, "/key/generate", key=False).status_code == 401
    assert gateway.http.get("/spend/logs").status_code == 401


def test_model_not_allowed(gateway):
    key = gateway.key(models=["gpt-4o"])
    headers, mark = marked()
    answer = gateway.post(chat("reserved"), key=key, headers=headers)
    assert_envelope(answer, 403, "key_model_access_denied", param="model")
    assert not gateway.arrived(mark)
    # The path names the model too, and wins over the body.
    path = "/openai/deployments/reserved/chat/completions"
    assert_envelope(gateway.post(chat("gpt-4o"), path, key=key), 403, "key_model_access_denied")


def test_fallback_does_not_widen_access(gateway):
    """A fallback to a group that the key may not use is left out."""
    key = gateway.key(models=["gpt-4o", "gpt-4o-azure"])
    headers, mark = marked("one=status:500")
    answer = gateway.post(key=key, headers=headers)
    assert answer.status_code == 200, answer.text
    assert [entry["name"] for entry in gateway.arrived(mark)] == ["one", "azure"]


def test_wildcard_access(gateway):
    key = gateway.key(models=["gpt-4o*"])
    assert gateway.post(chat("gpt-4o-mini"), key=key).status_code == 200
    assert gateway.post(chat("solo"), key=key).status_code == 403


def test_spoofed_headers(gateway):
    """Headers between filter and sidecar count for nothing when a client sends them."""
    headers, mark = marked()
    spoofed = {
        "x-attache-ask": '{"contract":1,"call_id":"stolen","key":"litellm_proxy_master_key","model":"reserved"}',
        "x-attache-reply": "1", "x-attache-plan": "one", "x-attache-anything": "1", "x-envoy-max-retries": "9",
        "x-litellm-call-id": "stolen",
    }
    assert_envelope(gateway.post(key="sk-nobody-knows-this-one", headers={**headers, **spoofed}), 401)
    key = gateway.key(models=["gpt-4o"])
    assert_envelope(gateway.post(chat("reserved"), key=key, headers={**headers, **spoofed}), 403)
    assert not gateway.arrived(mark)
    answer = gateway.post(key=key, headers={**headers, **spoofed})
    assert answer.status_code == 200
    assert answer.headers["x-litellm-call-id"] != "stolen"
    [arrived] = gateway.arrived(mark)
    leaked = [name for name in arrived["headers"] if name.startswith(("x-attache", "x-envoy", "x-litellm"))]
    assert not leaked


@pytest.mark.parametrize("name, right, other", [
    ("accept-encoding", "identity", "gzip"), ("content-type", "application/json", "text/plain"), ("x-forwarded-proto", "https", "http"),
])
def test_a_header_sent_twice_does_not_get_past_the_filter(gateway, name, right, other):
    """A first value that is right already is no reason to leave a second one: compressed answers, for one, are not counted."""
    marks, mark = marked()
    headers = [*marks.items(), ("authorization", f"Bearer {gateway.key()}"), (name, right), (name, other)]
    with httpx.Client(trust_env=False, timeout=30) as client:
        client.headers.pop(name, None)
        request = client.build_request("POST", f"{gateway.url}/v1/chat/completions", headers=headers, content=json.dumps(chat()))
        assert request.headers.get_list(name) == [right, other]
        answer = client.send(request)
    assert answer.status_code == 200, answer.text
    [arrived] = gateway.arrived(mark)
    assert arrived["headers"][name] == right


def test_first_uses_coalesce(gateway):
    """Forty first uses of a key at once cost one look-up per worker."""
    key = gateway.key()
    before = gateway.stat("key_lookups")
    clients = [httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) for _ in range(40)]
    statuses = in_threads(40, lambda index: gateway.post(key=key, client=clients[index]).status_code)
    assert statuses == [200] * 40
    lookups = gateway.stat("key_lookups") - before
    assert 1 <= lookups <= gateway.stack.concurrency, lookups


def test_flood_of_bad_keys(gateway):
    """A bad key is asked about once per worker as long as the answer is good for, and what is no key not at all."""
    before, began = gateway.stat("key_lookups"), time.monotonic()
    for index in range(200):
        assert gateway.post(key="sk-flood-of-the-same-bad-key").status_code == 401
        assert gateway.post(key=f"nonsense-{index}").status_code == 401
    rounds = 1 + int((time.monotonic() - began) / NEGATIVE_TTL_SECONDS)
    assert gateway.stat("key_lookups") - before <= gateway.stack.concurrency * rounds
    assert gateway.stat("auth.result.unknown") >= 200
    assert gateway.stat("auth.result.malformed") >= 200
