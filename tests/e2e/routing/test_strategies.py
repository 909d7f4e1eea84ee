"""Which deployment of a group is chosen."""

import collections
import threading
import time

import pytest
from harness import assert_envelope, in_threads
from project import wait_for
from world import add, ask, client_of, counted, expect, fresh_minute, seconds_left, settled, used

USAGE, LATENCY = "usage-based-routing-v2", "latency-based-routing"


def configure(config):
    for kind in ("one", "many", "stream"):
        add(config, f"st-rpm-{kind}", (f"st-rpm-{kind}-a", {"rpm": 3}), (f"st-rpm-{kind}-b", {"rpm": 4}), strategy=USAGE)
    for kind in ("whole", "stream"):
        add(config, f"st-low-{kind}", (f"st-low-{kind}-a", {"tpm": 1_000_000}), (f"st-low-{kind}-b", {"tpm": 1_000_000}),
            strategy=USAGE)
        add(config, f"st-tpm-{kind}", (f"st-tpm-{kind}", {"tpm": 2_000}), strategy=USAGE)
    add(config, "st-full", ("st-full", {"rpm": 1}), strategy=USAGE, fallbacks=["st-spare"])
    add(config, "st-spare", "st-spare")
    add(config, "st-refund", ("st-refund", {"rpm": 2}), strategy=USAGE)
    add(config, "st-shuffle", ("st-shuffle-a", {"weight": 3}), ("st-shuffle-b", {"weight": 1}))
    add(config, "st-even", "st-even-a", "st-even-b")
    add(config, "st-by-rpm", ("st-by-rpm-a", {"rpm": 9}), ("st-by-rpm-b", {"rpm": 1}))
    add(config, "st-busy", "st-busy-a", "st-busy-b", strategy="least-busy")
    add(config, "st-load", "st-load-a", "st-load-b", strategy="least-busy")
    add(config, "st-quick", "st-quick-a", "st-quick-b", strategy=LATENCY)
    add(config, "st-first", "st-first-a", "st-first-b", strategy=LATENCY)
    add(config, "st-buffer", "st-buffer-a", "st-buffer-b", strategy=LATENCY, args={"lowest_latency_buffer": 1000})
    add(config, "st-cost", ("st-cost-dear", {"input_cost_per_token": 0.01, "output_cost_per_token": 0.02}),
        ("st-cost-cheap", {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}),
        ("st-cost-middle", {"input_cost_per_token": 0.002, "output_cost_per_token": 0.002}),
        strategy="cost-based-routing", num_retries=1)
    add(config, "st-order", ("st-order-1a", {"order": 1}), ("st-order-1b", {"order": 1}), ("st-order-2", {"order": 2}),
        ("st-order-none", {}), num_retries=1, cooldown_time=0)


def spread(gateway, group, count, threads=8, **options):
    """Which deployment answered how often."""
    client = client_of(gateway)

    def worker(index):
        share = count // threads + (index < count % threads)
        return [ask(gateway, group, client=client, **options) for _ in range(share)]

    outcomes = [outcome for part in in_threads(threads, worker) for outcome in part]
    assert {outcome.status for outcome in outcomes} == {200}, [str(o) for o in outcomes if o.status != 200][:2]
    return collections.Counter(outcome.headers["x-litellm-model-id"] for outcome in outcomes)


# -- usage-based -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["one", "many", "stream"])
def test_exactly_rpm_requests(gateway, kind):
    """rpm 3 and rpm 4 are seven requests in a minute, one after the other or all at once; the eighth is refused."""
    group, stream = f"st-rpm-{kind}", kind == "stream"
    minute = fresh_minute()
    client = client_of(gateway)
    if kind == "one":
        outcomes = [ask(gateway, group) for _ in range(9)]
    else:
        outcomes = in_threads(20, lambda _: ask(gateway, group, None, stream, client=client))
    left = seconds_left()
    assert time.time() // 60 == minute, "this machine is too slow for a test within a minute"
    statuses = collections.Counter(outcome.status for outcome in outcomes)
    assert statuses == {200: 7, 429: len(outcomes) - 7}, statuses
    assert [counted(gateway, f"{group}-{name}", minute) for name in "ab"] == [3, 4]
    for refusal in (outcome for outcome in outcomes if outcome.status == 429):
        assert_envelope(refusal.answer, 429)
        wait = int(refusal.headers["retry-after"])
        assert left - 1 <= wait <= 60 and wait <= left + outcomes[0].seconds + 5, (wait, left)


def test_full_goes_to_the_fallback(gateway):
    fresh_minute()
    expect(ask(gateway, "st-full"), 200, ["st-full"])
    # Nobody was asked and refused: it is a fallback all the same.
    for _ in range(3):
        expect(ask(gateway, "st-full"), 200, ["st-spare"])


def test_room_again_in_the_next_minute_is_what_retry_after_says(gateway):
    """Only checked when the minute is nearly over anyway, since a test should not wait for a minute."""
    fresh_minute()
    outcomes = [ask(gateway, "st-refund") for _ in range(3)]
    assert [outcome.status for outcome in outcomes] == [200, 200, 429]
    wait = int(outcomes[2].headers["retry-after"])
    assert abs(wait - seconds_left()) <= 1.5, (wait, seconds_left())


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_lowest_tpm(gateway, kind):
    """Tokens count, of streams as well: the deployment that gave the long answer rests until the other has caught up."""
    fresh_minute()
    group = f"st-low-{kind}"
    first = ask(gateway, group, "*=usage:4000/1000", stream=kind == "stream")
    expect(first, 200)
    settled(gateway)
    used = first.headers["x-litellm-model-id"]
    for _ in range(6):
        outcome = expect(ask(gateway, group, "*=usage:100/100"), 200)
        assert outcome.headers["x-litellm-model-id"] != used
        settled(gateway)
    other = outcome.headers["x-litellm-model-id"]
    expect(ask(gateway, group, "*=usage:8000/1000"), 200, [other])
    settled(gateway)
    expect(ask(gateway, group), 200, [used])


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_tpm_is_a_limit(gateway, kind):
    fresh_minute()
    group = f"st-tpm-{kind}"
    expect(ask(gateway, group, "*=usage:1000/990", stream=kind == "stream"), 200)
    settled(gateway)
    outcome = ask(gateway, group)
    assert_envelope(outcome.answer, 429)
    assert 1 <= int(outcome.headers["retry-after"]) <= 60
    assert outcome.names == []


# -- simple-shuffle ----------------------------------------------------------------------------------------------------
def test_weights(gateway):
    """3 : 1, five standard deviations either way."""
    seen = spread(gateway, "st-shuffle", 240)
    assert 146 <= seen["st-shuffle-a"] <= 214, seen


def test_even(gateway):
    seen = spread(gateway, "st-even", 160)
    assert 48 <= seen["st-even-a"] <= 112, seen


def test_rpm_is_only_a_weight(gateway):
    """Ten requests a minute are not all that a simple shuffle admits, 9 : 1 is how it divides them."""
    fresh_minute(8)
    seen = spread(gateway, "st-by-rpm", 100)
    assert 75 <= seen["st-by-rpm-a"] <= 100, seen


# -- least-busy --------------------------------------------------------------------------------------------------------
def test_the_busy_one_is_left_alone(gateway):
    results = []
    slow = threading.Thread(target=lambda: results.append(ask(gateway, "st-busy", "*=delay:2500")), daemon=True)
    slow.start()
    time.sleep(0.3)
    busy = [name for name in ("st-busy-a", "st-busy-b") if gateway.provider.upstreams().get(name, {}).get("active")]
    assert len(busy) == 1
    for _ in range(8):
        outcome = expect(ask(gateway, "st-busy"), 200)
        assert outcome.names[0] != busy[0]
        wait_for("its place", lambda: used(gateway, "st-busy", "in_flight")[outcome.names[0]] == 0, 2)
    slow.join(10)
    assert results[0].status == 200


def test_a_slow_upstream_gets_fewer(gateway):
    """Places are given back with the usage, some 100 ms after the answer: the answers here take longer."""
    client, end, seen = client_of(gateway), time.monotonic() + 3, collections.Counter()

    def worker(_):
        while time.monotonic() < end:
            outcome = ask(gateway, "st-load", "st-load-a=delay:1200;st-load-b=delay:120", client=client)
            seen[outcome.headers["x-litellm-model-id"]] += 1

    in_threads(8, worker)
    assert seen["st-load-b"] > 2 * seen["st-load-a"] > 0, seen


# -- latency -----------------------------------------------------------------------------------------------------------
def measured(gateway, group, script, stream=False):
    """One sample of each deployment, addressed by its id: chance may leave one unmeasured, and it takes part then."""
    for deployment in (f"{group}-a", f"{group}-b"):
        expect(ask(gateway, deployment, script, stream=stream), 200)
        settled(gateway)
    time.sleep(1.1)


def test_the_fast_one_wins(gateway):
    script = "st-quick-a=delay:250;st-quick-b=delay:10"
    measured(gateway, "st-quick", script)
    seen = collections.Counter(ask(gateway, "st-quick", script).headers["x-litellm-model-id"] for _ in range(15))
    assert seen == {"st-quick-b": 15}, seen


def test_streams_by_the_first_token(gateway):
    """a is done sooner, b begins sooner: for a stream, b is the fast one."""
    script = "st-first-a=delay:400;st-first-b=chunk-delay:80"
    measured(gateway, "st-first", script, stream=True)
    seen = collections.Counter(
        ask(gateway, "st-first", script, stream=True).headers["x-litellm-model-id"] for _ in range(8))
    assert seen == {"st-first-b": 8}, seen


def test_a_buffer_shares_the_traffic(gateway):
    script = "st-buffer-a=delay:30;st-buffer-b=delay:10"
    measured(gateway, "st-buffer", script)
    seen = spread(gateway, "st-buffer", 40, script=script)
    assert 6 <= seen["st-buffer-a"] <= 34, seen


# -- cost, order -------------------------------------------------------------------------------------------------------
def test_the_cheapest(gateway):
    assert spread(gateway, "st-cost", 24) == {"st-cost-cheap": 24}
    expect(ask(gateway, "st-cost", "st-cost-cheap=status:500"), 200, ["st-cost-cheap", "st-cost-middle"])


def test_order(gateway):
    seen = spread(gateway, "st-order", 40)
    assert set(seen) == {"st-order-1a", "st-order-1b"}, seen
    outcome = expect(ask(gateway, "st-order", "st-order-1a=status:500;st-order-1b=status:500"), 200)
    assert sorted(outcome.names[:2]) == ["st-order-1a", "st-order-1b"] and outcome.names[2:] == ["st-order-2"]
    outcome = expect(ask(gateway, "st-order", "st-order-1a=cut;st-order-1b=cut;st-order-2=cut"), 200)
    assert outcome.headers["x-litellm-model-id"] == "st-order-none"
