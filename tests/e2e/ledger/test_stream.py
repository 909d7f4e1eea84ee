"""Rows that wait in Redis (`use_redis_transaction_buffer`): over a killed Redis, a killed sidecar and a second replica."""

import signal
import time

import pytest
from asking import settled
from books import config, database, quiet
from harness import Gateway, chat
from project import wait_for

STREAM = "attache:{ledger}:rows"


def settings():
    return config(use_redis_transaction_buffer=True)


@pytest.fixture(scope="module")
def streaming():
    with Gateway("stream", "redis+postgres", config=settings(), durable=True) as gateway:
        buffered(gateway, "redis")
        yield gateway


@pytest.fixture
def without_postgres(streaming):
    """Takes the database away. The key is known by then: who is not cannot come in without a database."""
    def stop():
        time.sleep(1)  # until the feed of changes has told of everything: what changed is read again before it is used
        send(streaming, 1)
        quiet(streaming)
        streaming.postgres.stop()

    yield stop
    if not streaming.postgres.process.running():
        streaming.postgres.start()


def buffered(gateway, kind):
    """Waits until rows go there."""
    def now():
        return [labels for labels, value in gateway.metrics("attache_ledger_buffer").items() if value == 1]
    wait_for(f"rows in {kind}", lambda: any(f'kind="{kind}"' in labels for labels in now()), 10, 0.1)


def send(gateway, count):
    answers = [gateway.post(chat("led")) for _ in range(count)]
    assert [answer.status_code for answer in answers] == [200] * count
    settled(gateway)
    return [answer.headers["x-litellm-call-id"] for answer in answers]


def written(gateway, calls, seconds=30):
    """Each has one row, in time."""
    names = ", ".join(f"'{call}'" for call in calls)

    def rows():
        return database(gateway).query(f"SELECT call_id, total_tokens FROM attache_spend WHERE call_id IN ({names})")

    wait_for("all rows", lambda: len(rows()) == len(calls), seconds, 0.2)
    assert all(row["total_tokens"] > 0 for row in rows())


def test_rows_wait_in_redis_and_leave_it(streaming, without_postgres):
    without_postgres()
    calls = send(streaming, 5)
    assert streaming.redis.cli("XLEN", STREAM) == "5"
    assert not list((streaming.stack.data / "spool").iterdir())
    streaming.postgres.start()
    written(streaming, calls)
    wait_for("an empty stream", lambda: streaming.redis.cli("XLEN", STREAM) == "0", 15, 0.1)
    assert streaming.metric("attache_ledger_dropped_total") == 0


def test_a_killed_redis_loses_nothing(streaming, without_postgres):
    without_postgres()
    calls = send(streaming, 20)
    streaming.redis.stop(signal.SIGKILL)
    calls += send(streaming, 5)
    buffered(streaming, "spool")
    streaming.redis.start()
    buffered(streaming, "redis")
    calls += send(streaming, 5)
    streaming.postgres.start()
    written(streaming, calls)
    assert streaming.metric("attache_ledger_dropped_total") == 0


@pytest.mark.timeout(180)
def test_another_replica_writes_what_a_dead_one_accepted(streaming, without_postgres):
    """The sidecar that accepted the rows never comes back; its disk might be gone as well."""
    with Gateway("stream-second", "redis+postgres", config=settings(), sibling=streaming) as second:
        buffered(second, "redis")
        without_postgres()
        calls = send(streaming, 10)
        streaming.stack.sidecar.stop(signal.SIGKILL)
        streaming.postgres.start()
        try:
            # What the dead one had read, too: taken over after half a minute.
            written(second, calls, 90)
        finally:
            streaming.stack.start_sidecar()
            streaming.stack.wait_ready()
