"""Things go down and come back."""

import collections
import signal
import threading
import time

import httpx
import openai
import pytest
from harness import ANSWER, QUESTION, Gateway, assert_envelope, chat, content, in_threads, marked
from project import wait_for

STREAMS = 50


def stream_once(gateway, script, client=None):
    """One whole stream: its call id, its text and who served it; an error status is returned as such."""
    client = client or gateway.client()
    try:
        raw = client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=QUESTION, stream=True, extra_headers=marked(script)[0])
    except openai.APIStatusError as error:
        return error.status_code, None, None
    text = content(list(raw.parse()))
    served = {name: raw.headers[name] for name in raw.headers if name.startswith(("x-litellm-model", "x-litellm-attempted"))}
    return raw.headers["x-litellm-call-id"], text, served


@pytest.mark.timeout(150)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_sidecar_restarts_under_load(own_gateway, how):
    """Fifty streams run while the sidecar goes and comes back: they finish, and each has exactly one row."""
    gateway = own_gateway
    stop, finished, refused = threading.Event(), [], collections.Counter()

    def worker(_):
        client = gateway.client()
        while not stop.is_set():
            call_id, text, served = stream_once(gateway, "one=chunk-delay:25,chunks:24", client)
            if text is None:
                refused[call_id] += 1
                time.sleep(0.05)
            else:
                finished.append((call_id, text, served))

    load = threading.Thread(target=in_threads, args=(STREAMS, worker), daemon=True)
    load.start()
    wait_for("fifty streams", lambda: gateway.stack.active() >= STREAMS - 5, 30)
    for _ in range(2):
        gateway.stack.sidecar.stop(how)
        time.sleep(0.5)
        gateway.stack.start_sidecar()
        gateway.stack.wait_ready()
        time.sleep(1.5)
    stop.set()
    load.join(30)
    assert not load.is_alive()
    assert set(refused) <= {503}, refused
    assert len(finished) > STREAMS * 3
    # Only `one` answers twice as long: a shorter text was broken off, or a fallback took a request that `one` could serve.
    harmed = [stream for stream in finished if stream[1] != ANSWER * 2]
    assert not harmed, f"{len(harmed)} streams were harmed, of them {harmed[:3]}"
    wanted = {call_id for call_id, _, _ in finished}
    assert len(wanted) == len(finished)

    def rows():
        seen = collections.Counter(row["request_id"] for row in gateway.rows())
        return seen if wanted <= set(seen) else None

    seen = wait_for("a row for every stream", rows, 20, 0.3)
    assert gateway.stat("usage_dumped") == 0
    assert max(seen.values()) == 1, "a row is there twice"
    gateway_key = gateway.stack.call("GET", f"/key/info?key={gateway.default_key}")["info"]
    total = sum(row["spend"] or 0 for row in gateway.rows())
    assert gateway_key["spend"] == pytest.approx(total, rel=1e-6), "the key's sum is not the sum of its rows"


def test_sidecar_away(own_gateway):
    """Refused in OpenAI's shape while it is away, served again when it is back, without restarting Envoy."""
    gateway = own_gateway
    assert gateway.post().status_code == 200
    gateway.stack.sidecar.stop(signal.SIGKILL)
    known = gateway.post()
    assert_envelope(known, 503)
    assert_envelope(gateway.post(key="sk-never-seen-before-0001"), 503)
    assert_envelope(gateway.http.get("/v1/models", headers={"authorization": f"Bearer {gateway.default_key}"}), 503)
    gateway.stack.start_sidecar()
    gateway.stack.wait_ready()
    wait_for("service after the restart", lambda: gateway.post().status_code == 200, 5)


@pytest.mark.parametrize("backend", ["embedded"])
def test_drain_hands_over_usage(backend):
    """Envoy drains while streams run: they finish, and their rows are there when everything starts again."""
    gateway = Gateway("drain", backend)
    with gateway:
        results = []
        load = threading.Thread(daemon=True, target=lambda: results.extend(
            in_threads(20, lambda _: stream_once(gateway, "one=chunk-delay:60,chunks:12"))))
        load.start()
        wait_for("twenty streams", lambda: gateway.stack.active() >= 20, 30)
        gateway.stack.stop()
        load.join(20)
        assert [text for _, text, _ in results] == [ANSWER] * 20
        gateway.stack.start()
        rows = {row["request_id"] for row in gateway.rows()}
        assert {call_id for call_id, _, _ in results} <= rows


def test_redis_goes_and_comes_back():
    with Gateway("redis", "redis+postgres") as gateway:
        assert gateway.post().status_code == 200
        gateway.redis.stop()
        began = time.monotonic()
        for _ in range(20):
            assert gateway.post().status_code == 200
        assert time.monotonic() - began < 4, "requests wait for Redis"
        wait_for("degraded mode", lambda: gateway.metric("attache_store_degraded") >= 1, 5)
        gateway.redis.start()
        wait_for("recovery", lambda: gateway.metric("attache_store_degraded") == 0, 15, 0.2)
        assert gateway.post().status_code == 200


def test_starts_without_redis():
    gateway = Gateway("no-redis", "redis+postgres")
    gateway.redis.stop()
    with gateway:
        assert gateway.post().status_code == 200


def test_postgres_goes_and_comes_back():
    """Known keys go on, unknown ones get 503, spend waits on disk and arrives."""
    with Gateway("postgres", "redis+postgres") as gateway:
        assert gateway.post().status_code == 200
        time.sleep(0.6)  # The key was made just now, and by now the feed has named it, which must not make it unknown.
        gateway.postgres.stop()
        answers = [gateway.post() for _ in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 10
        assert_envelope(gateway.post(key="sk-never-seen-before-0002"), 503)
        assert gateway.post({}, "/key/generate", key=gateway.master_key).status_code == 503
        gateway.postgres.start()
        for answer in answers:
            assert gateway.spend(answer.headers["x-litellm-call-id"], 30)["total_tokens"] > 0
        assert gateway.key()


def test_spool_survives_a_crash_while_the_database_is_away():
    with Gateway("spool", "redis+postgres") as gateway:
        assert gateway.post().status_code == 200
        gateway.postgres.stop()
        answers = [gateway.post() for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5
        wait_for("handed over usage", lambda: gateway.stack.pending() == 0, 5)
        gateway.stack.sidecar.stop(signal.SIGKILL)
        gateway.postgres.start()
        gateway.stack.start_sidecar()
        gateway.stack.wait_ready()
        for answer in answers:
            gateway.spend(answer.headers["x-litellm-call-id"], 30)


def retries(config):
    config["router_settings"]["num_retries"] = 1
    config["model_list"] += [
        {"model_name": "pair", "litellm_params": {"model": "openai/gpt-4o", "api_base": "${FAKE_PROVIDER_URL}/left/v1",
                                                  "api_key": "sk-left-00000001"}},
        {"model_name": "pair", "litellm_params": {"model": "openai/gpt-4o", "api_base": "${FAKE_PROVIDER_URL}/right/v1",
                                                  "api_key": "sk-right-00000002"}},
    ]


def test_retries_go_to_the_other_deployment():
    with Gateway("retries", "embedded", retries) as gateway:
        seen = collections.Counter()
        for _ in range(30):
            headers, mark = marked("left=status:500")
            answer = gateway.post(chat("pair"), headers=headers)
            assert answer.status_code == 200, answer.text
            names = [entry["name"] for entry in gateway.arrived(mark)]
            seen[tuple(names)] += 1
            assert answer.headers["x-litellm-attempted-retries"] == str(len(names) - 1)
            assert answer.headers["x-litellm-attempted-fallbacks"] == "0"
        assert set(seen) == {("right",), ("left", "right")}, seen
        headers, mark = marked("pair=ok;left=status:500;right=status:500")
        assert gateway.post(chat("pair"), headers=headers).status_code == 500
        assert sorted(entry["name"] for entry in gateway.arrived(mark)) == ["left", "right"]


def test_envoy_starts_first():
    """Envoy fails closed until it has heard from a sidecar, whichever starts first."""
    gateway = Gateway("order", "embedded")
    gateway.stack.start()
    gateway.stack.sidecar.stop(signal.SIGKILL)
    gateway.stack.envoy.stop(signal.SIGKILL)
    gateway.stack.start_envoy()
    time.sleep(0.5)
    try:
        with pytest.raises(httpx.HTTPError):
            answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=chat(), timeout=3, trust_env=False,
                                headers={"authorization": f"Bearer {gateway.master_key}"})
            assert answer.status_code == 503, answer.text
            raise httpx.HTTPError("refused, as it should be")
        gateway.stack.start_sidecar()
        gateway.stack.wait_ready()
        gateway.default_key = gateway.key()
        gateway.http = httpx.Client(base_url=gateway.url, timeout=30, trust_env=False)
        assert gateway.post().status_code == 200
    finally:
        gateway.close()
