"""The way to the ledger fails: rows wait, come once, and nothing that is not a record becomes a row."""

import http.client
import json
import signal
import socket
import time
import uuid

import pytest
from asking import ask, expect, settled
from books import config, database, price, quiet
from harness import Gateway, assert_envelope
from project import wait_for

USAGE = "/internal/v1/usage"
CONTRACT = 1


def rows(gateway, calls):
    wanted = ", ".join(f"'{call}'" for call in calls)
    found = database(gateway).query(f"SELECT call_id, cost_nanos FROM attache_spend WHERE call_id IN ({wanted})")
    return {row["call_id"]: row["cost_nanos"] for row in found}


def post(gateway, body):
    """To the sidecar's socket, as the gate does."""
    connection = http.client.HTTPConnection("sidecar", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(gateway.stack.socket))
    connection.request("POST", USAGE, body if isinstance(body, bytes) else json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text)


def record(**more):
    """What the gate tells of a finished request."""
    usage = {"prompt": 11, "completion": 7, "total": 18}
    attempt = {"deployment": "led", "cluster": "led", "group": "led", "outcome": "complete", "status": 200, "usage": usage}
    return {"call_id": f"made-{uuid.uuid4().hex}", "key": "f" * 64, "endpoint": "chat_completions", "model": "led", "group": "led",
            "start_us": time.time_ns() // 1000, "duration_us": 1000, "status": 200, "request_id": "made", "attempts": [attempt],
            **more}


def batch(*records):
    return {"contract": CONTRACT, "records": list(records)}


def test_a_record_sent_twice_counts_once(gateway):
    """In one batch, in two, and after the sidecar has forgotten the first."""
    one = record()
    for _ in range(2):
        assert post(gateway, batch(one, one))[0] == 200
    quiet(gateway)
    before = database(gateway).query("SELECT COUNT(*) AS n FROM attache_spend")[0]["n"]
    gateway.stack.restart_sidecar()
    assert post(gateway, batch(one))[0] == 200
    quiet(gateway)
    assert rows(gateway, [one["call_id"]]) == {one["call_id"]: price("led", 11, 7)}
    assert database(gateway).query("SELECT COUNT(*) AS n FROM attache_spend")[0]["n"] == before


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"contract":1}', b'{"contract":1,"records":[{}]}', b'{"contract":1,"records":{}}',
], ids=["empty", "torn", "list", "null", "bytes", "no records", "empty record", "records of another kind"])
def test_what_is_no_record_is_refused(gateway, body):
    before = database(gateway).query("SELECT COUNT(*) AS n FROM attache_spend")[0]["n"]
    status, answer = post(gateway, body)
    assert status == 400 and answer["error"]["message"], answer
    quiet(gateway)
    assert database(gateway).query("SELECT COUNT(*) AS n FROM attache_spend")[0]["n"] == before


def test_one_bad_record_takes_no_batch_with_it_silently(gateway):
    """The batch is refused as a whole, so that nobody believes that the good one is safe."""
    good = record()
    status, answer = post(gateway, batch(good, {**record(), "status": "two hundred"}))
    assert status == 400, answer
    assert post(gateway, {**batch(good), "contract": CONTRACT + 1})[0] == 409
    quiet(gateway)
    assert rows(gateway, [good["call_id"]]) == {}


def test_absurd_numbers_are_kept_within_bounds(gateway):
    huge = 2**64 - 1
    attempt = {**record()["attempts"][0], "usage": {"prompt": huge, "completion": huge, "total": huge}}
    mad = record(attempts=[attempt], duration_us=huge)
    assert post(gateway, batch(mad))[0] == 200
    quiet(gateway)
    [cost] = rows(gateway, [mad["call_id"]]).values()
    assert cost is None or cost > 0
    outcome = expect(ask(gateway, "led"), 200)
    quiet(gateway)
    assert rows(gateway, [outcome.call_id])


@pytest.mark.timeout(120)
def test_rows_wait_for_the_database():
    with Gateway("ledger-outage", "redis+postgres", config=config()) as gateway:
        time.sleep(1)  # until the feed of changes has told of the new key: what changed is read again before it is used
        expect(ask(gateway, "led"), 200)
        quiet(gateway)
        gateway.postgres.stop()
        calls = [expect(ask(gateway, "led", "led=usage:10/5"), 200).call_id for _ in range(20)]
        settled(gateway, 10)
        time.sleep(1.2)
        assert gateway.metric("attache_ledger_queue_rows") == 20
        assert gateway.metric("attache_ledger_oldest_seconds") >= 1
        gateway.postgres.start()
        quiet(gateway, 40)
        assert rows(gateway, calls) == dict.fromkeys(calls, price("led", 10, 5))
        assert gateway.metric("attache_ledger_dropped_total") == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["embedded", "redis+postgres"])
def test_a_sidecar_killed_between_batches(backend):
    """Acknowledged rows that nobody has written yet are written by the successor."""
    with Gateway("ledger-between", backend, config=config(proxy_batch_write_at=3_600)) as gateway:
        calls = [expect(ask(gateway, "led", "led=usage:10/5"), 200).call_id for _ in range(20)]
        wait_for("handed over usage", lambda: gateway.stack.pending() == 0, 10)
        assert rows(gateway, calls) == {}
        assert gateway.metric("attache_ledger_queue_rows") >= 20
        gateway.stack.restart_sidecar(signal.SIGKILL)
        quiet(gateway, 20)
        assert rows(gateway, calls) == dict.fromkeys(calls, price("led", 10, 5))


def test_refused_requests_cost_nothing(gateway):
    assert_envelope(gateway.post({"model": "led", "messages": []}, key="sk-nobody-0001"), 401)
    outcome = ask(gateway, "nothing-of-that-name")
    assert outcome.status in (400, 404)
    quiet(gateway)
    assert all(not cost for cost in rows(gateway, [outcome.headers.get("x-litellm-call-id", "none")]).values())
