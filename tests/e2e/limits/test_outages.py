"""Redis or the database are gone: limits hold as far as anybody knows, and nobody gets in for free."""

import time

import pytest
from asking import expect, fresh_minute, settled
from harness import Gateway, assert_envelope
from holders import COST_NANOS, Holder, call, config, key, spent, team
from project import wait_for


@pytest.fixture(scope="module")
def gateway():
    """A gateway of its own, whose stores come and go."""
    with Gateway("outages", "redis+postgres", config=config()) as gateway:
        yield gateway


@pytest.fixture
def without_redis(gateway):
    def stop():
        gateway.redis.stop()
        # Only a request that asks Redis notices: others' requests, one after another, until one has.
        wait_for("the sidecar to notice", lambda: Holder("key", gateway.default_key).ask(gateway) and degraded(gateway), 10)

    yield stop
    if not gateway.redis.process.running():
        gateway.redis.start()
    wait_for("shared counters", lambda: not degraded(gateway), 10, 0.1)


@pytest.fixture
def without_database(gateway):
    yield gateway.postgres.stop
    gateway.postgres.start()
    wait_for("a key to be made", lambda: can_make_keys(gateway), 20, 0.2)


def degraded(gateway):
    return gateway.metric("attache_store_degraded") == 1


def can_make_keys(gateway):
    answer = gateway.http.post("/key/generate", json={}, headers={"authorization": f"Bearer {gateway.master_key}"})
    return answer.status_code == 200


def test_limits_hold_without_redis_and_after_it(gateway, without_redis):
    """The only replica goes on where it was, and tells a Redis that comes back empty what it knows."""
    holder = key(gateway, rpm_limit=6)
    fresh_minute(30)
    for _ in range(2):
        expect(holder.ask(gateway), 200)
    settled(gateway)
    without_redis()
    assert degraded(gateway)
    for _ in range(2):
        expect(holder.ask(gateway), 200)
    gateway.redis.start()
    wait_for("shared counters", lambda: not degraded(gateway), 10, 0.1)
    assert [holder.ask(gateway).status for _ in range(4)] == [200, 200, 429, 429]


def test_budgets_hold_without_redis(gateway, without_redis):
    holder = team(gateway, max_budget=2 * COST_NANOS / 1e9)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    without_redis()
    expect(holder.spend(gateway), 200)
    settled(gateway)
    assert_envelope(holder.spend(gateway).answer, 429, "budget_exceeded")
    assert spent(gateway, holder.key) == 2 * COST_NANOS


def test_budgets_hold_without_the_database(gateway, without_database):
    """Whoever is known goes on under the same limits; whoever is not is asked to come again."""
    holder, stranger = key(gateway, max_budget=2 * COST_NANOS / 1e9), gateway.key()
    time.sleep(0.7)  # until the feed of changes has told of the new key: what changed is read again before it is used
    expect(holder.spend(gateway), 200)
    settled(gateway)
    without_database()
    expect(holder.spend(gateway), 200)
    settled(gateway)
    assert_envelope(holder.spend(gateway).answer, 429, "budget_exceeded")
    assert_envelope(Holder("key", stranger).ask(gateway).answer, 503)
    # Changes are refused, not forgotten.
    answer = gateway.http.post("/key/update", json={"key": holder.key, "max_budget": 9},
                               headers={"authorization": f"Bearer {gateway.master_key}"})
    assert_envelope(answer, 503)


def test_a_change_during_the_outage_of_redis_holds_at_once(gateway, without_redis):
    holder = key(gateway, rpm_limit=1)
    fresh_minute(15)
    expect(holder.ask(gateway), 200)
    without_redis()
    assert holder.ask(gateway).status == 429
    call(gateway, "/key/update", {"key": holder.key, "rpm_limit": 3})
    time.sleep(1)
    expect(holder.ask(gateway), 200)
