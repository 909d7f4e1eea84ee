"""Three replicas, each an Envoy and a sidecar, over one Redis and one Postgres, under 1,000 concurrent requests of one key."""

import asyncio
import collections
import concurrent.futures
import contextlib
import time

import httpx
import pytest
from asking import client_of, fresh_minute, settled
from harness import Gateway, chat
from holders import COMPLETION, COST_NANOS, FACTS, PAID, config, spent
from project import wait_for

REQUESTS = 1000
DEADLINE_MS = 250


def replica_config():
    # Patience: a machine whose cores are busy with 1,000 requests answers late. Exact means exact: with Redis away, no.
    made = config(fail_closed_rate_limit_enforcement=True)
    made["router_settings"]["redis_deadline_ms"] = DEADLINE_MS
    return made


@pytest.fixture(scope="module")
def replicas():
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(3):
            gateway = Gateway(f"limits-{number}", "redis+postgres", config=replica_config(), concurrency=1,
                              sibling=made[0] if made else None)
            made.append(stack.enter_context(gateway))
        for gateway in made:
            gateway.pool = client_of(gateway)
        yield made


def storm(replicas, key, count=REQUESTS, model="lim", script=None, again=(), seconds=40, **body):
    """So many requests at once, spread over the replicas; statuses in the end. Those in `again` are tried again."""
    headers = {"authorization": f"Bearer {key}", **({"x-fake-script": script} if script else {})}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    end, seen = time.monotonic() + seconds, collections.Counter()

    async def one(client, gateway):
        while True:
            try:
                answer = await client.post(f"{gateway.url}/v1/chat/completions", json=chat(model, **body), headers=headers)
                status = answer.status_code
            except httpx.HTTPError as error:
                status = type(error).__name__
            seen[status] += 1
            if status not in again or time.monotonic() > end:
                return status
            await asyncio.sleep(0.25)

    async def everyone():
        async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:
            return await asyncio.gather(*(one(client, replicas[index % len(replicas)]) for index in range(count)))

    return collections.Counter(asyncio.run(everyone())), seen


def storm_while_redis_restarts(replicas, key, count, after=0.7, away=1.0, **more):
    """Redis is killed in a storm and comes back without its data. Here, not in a thread of its own: a child dies with the
    thread that started it."""
    redis = replicas[0].redis
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        storming = pool.submit(storm, replicas, key, count, **more)
        time.sleep(after)
        redis.stop()
        time.sleep(away)
        redis.start()
        found = storming.result()
    wait_for("recovery", lambda: not any(gateway.metric("attache_store_degraded") for gateway in replicas), 20, 0.2)
    return found


def quiet(replicas):
    for gateway in replicas:
        settled(gateway, 10)


def test_requests_per_minute_are_exact(replicas):
    key = replicas[0].key(rpm_limit=100)
    minute = fresh_minute(35)
    final, _ = storm(replicas, key)
    assert int(time.time() // 60) == minute, "this machine is too slow for a test within a minute"
    FACTS.record("rpm", abs(final[200] - 100), f"rpm {final[200]} of 100 admitted by 3 sidecars of {REQUESTS} concurrent requests")
    assert final == {200: 100, 429: REQUESTS - 100}, final
    quiet(replicas)


def test_places_are_never_exceeded(replicas):
    key = replicas[0].key(max_parallel_requests=5)
    final, _ = storm(replicas, key, 300, model="lim-slow", script="*=delay:60")
    quiet(replicas)
    peak = replicas[0].provider.upstreams()["lim-slow"]["peak"]
    FACTS.record("parallel", peak, "max_parallel_requests: 5 had {value} at once at most")
    assert peak <= 5 and set(final) == {200, 429} and final[200] >= 5, (peak, final)
    # All of them are free again.
    final, _ = storm(replicas, key, 5, script="*=delay:300")
    assert final == {200: 5}, final
    quiet(replicas)


def test_a_dollar_is_a_dollar(replicas):
    """With estimates that are right: one call beyond the budget at most, the one that found something left."""
    key = replicas[0].key(max_budget=1.0)
    final, _ = storm(replicas, key, script=PAID, max_tokens=COMPLETION)
    quiet(replicas)
    nanos = spent(replicas[0], key)
    FACTS.record("budget", nanos, "a $1 budget stopped at ${value} nano-dollars")
    assert set(final) == {200, 429}, final
    assert final[200] * COST_NANOS == nanos
    assert 10**9 <= nanos < 10**9 + COST_NANOS, nanos


@pytest.mark.timeout(180)
def test_redis_restarts_empty_in_the_middle(replicas):
    """Requests, places and money hold all the same: each replica tells the new Redis what it knows."""
    limits = {"rpm_limit": 100, "max_parallel_requests": 5, "max_budget": 1.0}
    for limit, script in (("rpm_limit", "*=delay:30"), ("max_budget", PAID), ("max_parallel_requests", "*=delay:60")):
        key = replicas[0].key(**{limit: limits[limit]})
        if limit == "rpm_limit":
            fresh_minute(45)
        model = "lim-other" if limit == "max_parallel_requests" else "lim"
        final, seen = storm_while_redis_restarts(replicas, key, 600, model=model, script=script, again={503},
                                                 max_tokens=COMPLETION)
        quiet(replicas)
        assert set(final) <= {200, 429}, (limit, final)
        if limit == "rpm_limit":
            FACTS.record("rpm_redis", abs(final[200] - 100), f"rpm {final[200]} of 100 with Redis restarted empty in the middle")
            assert final[200] == 100, (final, seen)
        elif limit == "max_budget":
            nanos = spent(replicas[0], key)
            FACTS.record("budget_redis", nanos, "$1 stopped at {value} nano-dollars with Redis restarted empty")
            assert nanos < 10**9 + COST_NANOS, (nanos, final)
        else:
            peak = replicas[0].provider.upstreams()["lim-other"]["peak"]
            FACTS.record("parallel_redis", peak, "{value} of 5 places at once with Redis restarted empty")
            assert peak <= 5, (peak, final)


def test_a_change_reaches_every_replica_within_a_second(replicas):
    key = replicas[0].key()

    def statuses():
        return [gateway.post(chat("lim"), key=key).status_code for gateway in replicas]

    assert statuses() == [200, 200, 200]
    replicas[1].stack.call("POST", "/key/block", {"key": key})
    began = time.monotonic()
    wait_for("refusal everywhere", lambda: statuses() == [401, 401, 401], 3, 0.02)
    took = time.monotonic() - began
    FACTS.record("revoked", round(took * 1000), "a revoked key was refused everywhere after {value} ms")
    assert took < 1.0, took
