"""A request that is planned anew goes through gate and sidecar again, by a redirect within Envoy. Nobody sees it."""

import json
import subprocess
import time
import uuid

import httpx
import pytest
from harness import ANSWER, assert_envelope, body_of_size, chat, content_of, in_threads, marked
from project import wait_for
from world import add, ask, client_of, expect, open_breakers, settled, used

MIB = 1024 * 1024


def configure(config):
    add(config, "pa-small", "pa-small", max_parallel_requests=40)
    add(config, "pa-big", "pa-big", max_parallel_requests=40)
    add(config, "pa-bigger", "pa-bigger")
    add(config, "pa-solo", "pa-solo", fallbacks=["pa-bigger"])
    router = config["router_settings"]
    router["context_window_fallbacks"] = router.get("context_window_fallbacks", []) + [
        {"pa-small": ["pa-big"]}, {"pa-big": ["pa-bigger"]}]


TWICE = "pa-small=error:context;pa-big=error:context"
ALL = ["pa-small", "pa-big", "pa-bigger"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_per_pass_and_one_row(gateway, stream):
    names = ("attache_questions_total", "attache_answers_total")
    before = [gateway.metric(name) for name in names]
    success = gateway.stat("attache.requests.", "outcome.success")
    outcome = expect(ask(gateway, "pa-small", TWICE, stream), 200, ALL, retries=0, fallbacks=2)
    assert [gateway.metric(name) for name in names] == [value + 3 for value in before]
    assert gateway.stat("attache.requests.", "outcome.success") == success + 1
    if stream:
        assert content_of(outcome.text) == ANSWER
        assert json.loads(outcome.events[0])["model"] == "pa-small"
    row = outcome.row
    assert (row["attempts"], row["fallbacks"], row["status_code"], row["model_id"]) == (3, 2, 200, "pa-bigger"), row
    assert len(gateway.rows(outcome.call_id)) == 1


def test_each_pass_sends_the_whole_request(gateway):
    """The body of the client, its headers, the credential of each deployment; nothing of the way through Envoy."""
    outcome = expect(ask(gateway, "pa-small", TWICE, temperature=0.25, headers={"x-custom": "kept"}), 200, ALL)
    for entry in outcome.arrived:
        assert entry["body"]["temperature"] == 0.25 and entry["headers"]["x-custom"] == "kept"
        assert entry["headers"]["authorization"] == "...2222"
        assert entry["path"] == f"/{entry['name']}/v1/chat/completions"
        assert not [name for name in entry["headers"] if name.startswith(("x-attache", "x-envoy", "x-litellm"))]
    ids = {entry["headers"]["x-request-id"] for entry in outcome.arrived}
    assert ids == {outcome.headers["x-request-id"]}


@pytest.mark.parametrize("way", [[], ["-H", "Transfer-Encoding: chunked"], ["--http2-prior-knowledge"]],
                         ids=["http1", "chunked", "http2"])
def test_large_bodies_travel_again(gateway, tmp_path, way):
    file, mark = tmp_path / "body.json", uuid.uuid4().hex
    file.write_bytes(body_of_size(5 * MIB, "pa-small"))
    command = ["curl", "-sS", "--max-time", "30", "-o", str(tmp_path / "answer"), "-w", "%{http_code}", *way,
               "-H", f"authorization: Bearer {gateway.default_key}", "-H", "content-type: application/json", "-H", "Expect:",
               "-H", f"x-test-id: {mark}", "-H", f"x-fake-script: {TWICE}", "--data-binary", f"@{file}",
               f"{gateway.url}/v1/chat/completions"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "200"
    arrived = gateway.arrived(mark)
    assert [entry["name"] for entry in arrived] == ALL
    assert all(entry["body_length"] > 5 * MIB - 200 for entry in arrived)


def test_many_at_once(gateway):
    """No request gets another's pass: each has its own text, and one row."""
    client = client_of(gateway)

    def one(number):
        script = f"pa-small=error:context,delay:{number % 5 * 20};pa-big=text:number {number}"
        return ask(gateway, "pa-small", script, stream=bool(number % 2), client=client)

    outcomes = in_threads(30, one)
    for number, outcome in enumerate(outcomes):
        assert outcome.status == 200, outcome
        text = content_of(outcome.text) if number % 2 else outcome.answer.json()["choices"][0]["message"]["content"]
        assert text == f"number {number}"
    wanted = {outcome.call_id for outcome in outcomes}
    assert len(wanted) == 30

    def rows():
        found = [row["request_id"] for row in gateway.rows()]
        return found if wanted <= set(found) else None

    found = wait_for("rows", rows, 10, 0.3)
    assert all(found.count(call_id) == 1 for call_id in wanted)
    wait_for("empty places", lambda: used(gateway, "pa-small", "in_flight")["pa-small"] == 0
             and used(gateway, "pa-big", "in_flight")["pa-big"] == 0, 3, 0.1)


def test_a_client_that_leaves_in_a_later_pass(gateway):
    headers, mark = marked("pa-small=error:context;pa-big=delay:5000", authorization=f"Bearer {gateway.default_key}")
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{gateway.url}/v1/chat/completions", json=chat("pa-small"), headers=headers, timeout=0.6, trust_env=False)
    assert [entry["name"] for entry in gateway.arrived(mark)] == ["pa-small", "pa-big"]
    wait_for("empty places", lambda: used(gateway, "pa-big", "in_flight")["pa-big"] == 0, 3, 0.1)
    settled(gateway)
    assert not {"pa-small", "pa-big"} & open_breakers(gateway)
    assert wait_for("its end at the provider", lambda: not gateway.provider.upstreams()["pa-big"]["active"], 3)


# -- nobody but Envoy begins a pass ------------------------------------------------------------------------------------
def test_a_call_id_in_the_query_is_nothing(gateway):
    call_id = ask(gateway, "pa-small", "pa-small=error:context").call_id
    for made_up in (call_id, str(uuid.uuid4()), "", "x" * 5000):
        path = f"/v1/chat/completions?attache-call={made_up}"
        assert_envelope(gateway.post(chat("pa-solo"), path=path, key=False), 401)
        answer = gateway.post(chat("pa-solo"), path=path)
        assert answer.status_code == 200 and answer.headers["x-litellm-call-id"] != made_up


def test_a_call_id_of_a_running_request_is_nothing(gateway):
    """Even while that request is between two attempts, and with its own id."""
    import threading

    results = []
    running = threading.Thread(target=lambda: results.append(
        ask(gateway, "pa-small", "pa-small=error:context,delay:300;pa-big=delay:300")))
    running.start()
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        # The id is unknown to strangers; those that were seen before are tried.
        for row in gateway.rows()[:3]:
            answer = gateway.post(chat("pa-solo"), path=f"/v1/chat/completions?attache-call={row['request_id']}", key=False)
            assert answer.status_code == 401
    running.join(10)
    expect(results[0], 200, ["pa-small", "pa-big"], fallbacks=1)


@pytest.mark.parametrize("path", ["/internal/v1/replan", "/internal/v1/replan?attache-call=x", "//internal/v1/replan"])
def test_the_internal_path_is_nobodys(gateway, path):
    for method in ("GET", "POST"):
        answer = gateway.http.request(method, path, headers={"authorization": f"Bearer {gateway.default_key}"})
        assert answer.status_code in (401, 404, 405), answer.text


def test_headers_of_ours_are_not_taken_from_clients(gateway):
    sent = {"x-attache-ask": "{}", "x-attache-plan": "AAAA", "x-attache-lease": "1", "x-attache-wait": "30", "x-attache-mirror": "pa-big", "x-attache-reply": "1"}
    outcome = expect(ask(gateway, "pa-solo", headers=sent), 200, ["pa-solo"])
    assert not [name for name in outcome.arrived[0]["headers"] if name.startswith("x-attache")]
    assert outcome.seconds < 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_providers_redirect_is_not_followed(gateway, status):
    outcome = ask(gateway, "pa-solo", f"pa-solo=status:{status}")
    assert outcome.names in (["pa-solo"], ["pa-solo", "pa-bigger"]), outcome
    assert outcome.status == (502 if len(outcome.names) == 1 else 200), outcome
