"""How the sidecar is asked: by the gate for many requests at once (the default), or by ext_proc for each. Clients, limits and
the ledger see no difference. Everything else in the suites runs with the default."""

import collections
import json
import resource
import signal
import socket
import threading
import time

import anthropic
import httpx
import pytest
from asking import fresh_minute, settled
from harness import ANSWER, Gateway, assert_envelope, base_config, chat, content_of, deployment, in_threads, marked
from project import wait_for

BATCHED = "batched"
WAYS = [BATCHED, "ext-proc"]


def change(config):
    config["model_list"] += [deployment("small", "small"), deployment("big", "big"),
                             deployment("copied", "copied", mirror="shadow"), deployment("shadow", "shadow")]
    config["router_settings"]["context_window_fallbacks"] = [{"small": ["big"]}]
    # Every request asks.
    config["general_settings"]["decision_leases"] = False


@pytest.fixture(scope="module", params=WAYS)
def asked(request):
    """A gateway that asks in this way."""
    flags = ["--decisions", request.param]
    with Gateway(f"asked-{request.param}", "embedded", change, config=base_config(), envoy_flags=flags) as gateway:
        gateway.way = request.param
        yield gateway


@pytest.fixture
def paused(asked):
    """The sidecar is there and does not answer; running again when the test is over, or earlier."""
    class Paused:
        def __enter__(self):
            asked.stack.sidecar.child.send_signal(signal.SIGSTOP)
            return self

        def __exit__(self, *_):
            asked.stack.sidecar.child.send_signal(signal.SIGCONT)

    yield Paused
    asked.stack.sidecar.child.send_signal(signal.SIGCONT)
    wait_for("service", lambda: asked.post().status_code == 200, 10)


def known_everywhere(gateway, key):
    """Asks often enough, by connections of their own, for every worker to know the key."""
    for _ in range(16):
        with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as client:
            assert gateway.post(chat(max_tokens=100), key=key, client=client).status_code == 200


def names(gateway, mark):
    return [entry["name"] for entry in gateway.arrived(mark)]


def test_the_flag_decides_how_it_is_asked(asked):
    before = {name: asked.metric(name) for name in
              ("attache_questions_total", "attache_decide_calls_total", "attache_ext_proc_streams_total")}
    for _ in range(3):
        assert asked.post().status_code == 200
    changes = [asked.metric(name) - value for name, value in before.items()]
    assert changes == ([3, 3, 0] if asked.way == BATCHED else [3, 0, 3])


def test_plans_are_followed(asked):
    headers, mark = marked("one=status:500;two=status:429")
    answer = asked.post(headers=headers)
    assert answer.status_code == 200 and names(asked, mark) == ["one", "two", "azure"]
    assert answer.headers["x-litellm-attempted-fallbacks"] == "2"
    assert answer.headers["x-litellm-model-group"] == "gpt-4o"
    sent = asked.arrived(mark)[-1]["headers"]
    assert not [name for name in sent if name.startswith(("x-attache", "x-envoy"))], sent
    row = asked.spend(answer.headers["x-litellm-call-id"])
    assert (row["attempts"], row["fallbacks"]) == (3, 2)


def test_planned_anew(asked):
    """Another pass asks another question, with the body that is held."""
    before = asked.metric("attache_questions_total")
    headers, mark = marked("small=error:context")
    answer = asked.post(chat("small", temperature=0.5), headers=headers)
    assert answer.status_code == 200 and names(asked, mark) == ["small", "big"]
    assert [entry["body"]["temperature"] for entry in asked.arrived(mark)] == [0.5, 0.5]
    assert asked.metric("attache_questions_total") == before + 2
    assert len(asked.rows(answer.headers["x-litellm-call-id"]) or [asked.spend(answer.headers["x-litellm-call-id"])]) == 1


def test_copies(asked):
    headers, mark = marked()
    assert asked.post(chat("copied"), headers=headers).status_code == 200
    wait_for("the copy", lambda: sorted(names(asked, mark)) == ["copied", "shadow"], 5)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_refusals_have_the_callers_shape_and_are_recorded(asked, path):
    key = asked.key(models=["gpt-4o"])
    answer = asked.post(chat("reserved", max_tokens=5), path, key=key)
    assert answer.status_code == 403
    error = answer.json()["error"]
    if path == "/v1/messages":
        assert answer.json()["type"] == "error" and error["type"] == "permission_error"
    else:
        assert_envelope(answer, 403, kind="key_model_access_denied")
    call_id = answer.headers["x-litellm-call-id"]
    assert answer.headers["x-request-id"] and len(answer.headers.get_list("x-litellm-call-id")) == 1
    assert asked.spend(call_id)["status_code"] == 403

    def line():
        lines = [json.loads(text) for text in asked.stack.envoy.log.read_text().splitlines() if text.startswith("{")]
        return [line for line in lines if line.get("call_id") == call_id]

    found = wait_for("access log", line, 15)
    assert [(line["status"], line["details"]) for line in found] == [(403, "attache_key_model_access_denied")]


def test_explained(asked):
    answer = asked.post(key=asked.master_key, headers={"x-attache-route": "explain"})
    assert answer.status_code == 200 and answer.json()["plan"]
    refused = asked.post(headers={"x-attache-route": "explain"})
    assert_envelope(refused, 403)


def test_other_kinds_of_requests(asked):
    """Without a body, with trailers behind it, with a large one, streamed."""
    headers = {"authorization": f"Bearer {asked.default_key}"}
    assert asked.http.get("/v1/files?model=gpt-4o", headers=headers).status_code in (200, 404)
    stream = asked.post(chat(stream=True))
    assert content_of(stream.text) == ANSWER
    big = chat()
    big["messages"] = [{"role": "user", "content": "x" * 5_000_000}]
    headers, mark = marked("one=status:500")
    assert asked.post(big, headers=headers).status_code == 200
    assert len(names(asked, mark)) == 2


def test_a_limit_is_exact_for_clients_at_once(asked):
    key = asked.key(rpm_limit=40)
    asked.post(key=asked.default_key)
    fresh_minute(15)
    clients = [httpx.Client(base_url=asked.url, timeout=30, trust_env=False) for _ in range(64)]
    statuses = in_threads(64, lambda index: asked.post(key=key, client=clients[index]).status_code)
    assert collections.Counter(statuses) == {200: 40, 429: 24}


def test_many_at_once_share_calls(asked):
    if asked.way != BATCHED:
        pytest.skip("nothing is shared")
    before = [asked.metric(name) for name in ("attache_questions_total", "attache_decide_calls_total")]
    stop = time.monotonic() + 2

    def load(_):
        with httpx.Client(base_url=asked.url, timeout=30, trust_env=False) as client:
            while time.monotonic() < stop:
                assert asked.post(client=client).status_code == 200

    in_threads(32, load)
    after = [asked.metric(name) for name in ("attache_questions_total", "attache_decide_calls_total")]
    questions, calls = (now - then for now, then in zip(after, before))
    assert 100 < questions and calls < questions, (questions, calls)


@pytest.mark.parametrize("known", [True, False])
def test_many_that_wait_for_one_key_are_told_at_once(asked, known):
    """Envoy puts each request that is resumed on the stack of the one before, and a VM has room for some three hundred."""
    count = 1200
    key = asked.key() if known else "sk-nobody-has-this-key-0003"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * count), hard))
    virtual_machines = asked.stack.stats("wasm.envoy.wasm.runtime")
    clients = [open_client(asked) for _ in range(count)]
    asked.stack.sidecar.child.send_signal(signal.SIGSTOP)
    try:
        for client in clients:
            client.sendall(raw_request(key))
        time.sleep(0.2)
    finally:
        asked.stack.sidecar.child.send_signal(signal.SIGCONT)
    statuses = collections.Counter()
    for client in clients:
        with client:
            client.settimeout(15)
            statuses[client.recv(12).decode()[9:]] += 1
    assert statuses == {"200" if known else "401": count}
    assert asked.stack.stats("wasm.envoy.wasm.runtime") == virtual_machines


def open_client(gateway):
    host, port = gateway.stack.listen.split(":")
    return socket.create_connection((host, int(port)))


def raw_request(key):
    body = json.dumps(chat(max_tokens=100)).encode()
    return (f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


def leave(gateway, key):
    """A request whose client hangs up while the sidecar is asked."""
    with open_client(gateway) as client:
        client.sendall(raw_request(key))
        time.sleep(0.2)


def test_a_client_that_leaves_gets_its_reservation_back(asked, paused):
    """Also of requests per minute: nothing was sent to anybody."""
    if asked.way != BATCHED:
        pytest.skip("a stream that is reset as it is answered leaves its reservation to the lease")
    key = asked.key(rpm_limit=40, tpm_limit=10_000, max_parallel_requests=4)
    fresh_minute(20)
    known_everywhere(asked, key)
    seen = []

    def post():
        settled(asked)
        answer = asked.post(chat(max_tokens=100), key=key)
        assert answer.status_code == 200, answer.text
        seen.append([int(answer.headers[f"x-ratelimit-{what}"]) for what in
                     ("remaining-requests", "remaining-tokens", "api_key-remaining-max_parallel_requests")])
        return seen[-1][2] == 3

    wait_for("a quiet key", post, 3, 0.2)
    post()
    with paused():
        in_threads(3, lambda _: leave(asked, key))
    wait_for("all places", post, 3, 0.2)
    requests, tokens, _ = ([row[at] for row in seen] for at in range(3))
    assert requests == list(range(requests[0], requests[0] - len(seen), -1)), seen
    # Each takes what was used by the one before it.
    assert tokens[-1] == tokens[0] - (tokens[0] - tokens[1]) * (len(seen) - 1), seen


def test_no_answer_in_time(asked, paused):
    key = asked.key(max_parallel_requests=1)
    assert asked.post(key=key).status_code == 200
    with paused():
        began = time.monotonic()
        late = asked.post(key=key)
        assert 0.8 < time.monotonic() - began < 3
        assert_envelope(late, 504)
        # Envoy may have left the sidecar by now.
        late = asked.post(chat(max_tokens=5), "/v1/messages", key=key)
        assert late.status_code in (503, 504) and late.json()["type"] == "error"
    wait_for("service", lambda: asked.post(key=key).status_code == 200, 5)


def test_nobody_to_ask(asked):
    """Refused at once, in words and shape of the gateway; served again when the sidecar is back."""
    known_everywhere(asked, asked.default_key)
    asked.stack.sidecar.stop(signal.SIGKILL)
    answers = in_threads(8, lambda _: asked.post())
    for answer in answers:
        error = assert_envelope(answer, 503)
        assert error["message"].startswith("The gateway cannot decide on requests right now."), error
        assert answer.headers["retry-after"] == "1"
    messages = asked.post(chat(max_tokens=5), "/v1/messages")
    assert messages.status_code == 503 and messages.json()["type"] == "error"
    asked.stack.start_sidecar()
    asked.stack.wait_ready()
    wait_for("service", lambda: asked.post().status_code == 200, 5)


def test_the_sidecar_goes_under_load(asked):
    """Every request gets an answer, whichever side of the call it was on; nothing hangs and nothing is served unplanned."""
    stop, seen = threading.Event(), collections.Counter()

    def load(_):
        with httpx.Client(base_url=asked.url, timeout=10, trust_env=False) as client:
            while not stop.is_set():
                seen[asked.post(client=client).status_code] += 1

    threads = [threading.Thread(target=load, args=(index,), daemon=True) for index in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    asked.stack.sidecar.stop(signal.SIGKILL)
    # A new one takes connections some hundredths of a second after it is started, in which busy clients may ask nothing.
    time.sleep(0.3)
    asked.stack.start_sidecar()
    asked.stack.wait_ready()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(15)
        assert not thread.is_alive()
    assert set(seen) <= {200, 503, 504} and seen[200] > 0 and seen[503] > 0, seen
    wait_for("no request in progress", lambda: asked.stack.active() == 0, 5)


def test_sdks(asked):
    chunks = asked.client().chat.completions.create(model="gpt-4o", messages=chat()["messages"], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    client = anthropic.Anthropic(base_url=asked.url, api_key=asked.default_key, max_retries=0)
    message = client.messages.create(model="gpt-4o", max_tokens=50, messages=chat()["messages"])
    assert message.content[0].text == ANSWER
