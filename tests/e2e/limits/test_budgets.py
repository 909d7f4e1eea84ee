"""Money: everyone who may have a budget, what it refuses, and that counters and ledger agree."""

import time

import pytest
from asking import ask, expect, settled
from harness import assert_envelope
from holders import (COMPLETION, COST_NANOS, FACTS, PAID, Holder, call, end_user, info, key, key_model, member, name, organization,
                     spend, spent, tag, team, user)

TWO_CALLS = 2 * COST_NANOS / 1e9


def over(outcome, holder, status=429):
    error = assert_envelope(outcome.answer, status, "budget_exceeded")
    assert not outcome.arrived, "the provider was asked"
    assert outcome.headers["x-should-retry"] == "false"
    if holder.id:
        assert holder.id in error["message"], error
    return error


@pytest.mark.parametrize("make", [key, user, team, member, organization, end_user, tag, key_model])
def test_a_budget_is_used_up(gateway, make):
    holder = make(gateway, max_budget=TWO_CALLS)
    for _ in range(2):
        expect(holder.spend(gateway), 200)
    settled(gateway)
    error = over(holder.spend(gateway), holder)
    assert f"{TWO_CALLS:.5f}".rstrip("0") in error["message"], error


def test_the_last_call_may_shrink(gateway):
    """Room is room: a call is admitted as long as anything is left."""
    holder = key(gateway, max_budget=1.5 * COST_NANOS / 1e9)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    over(holder.spend(gateway), holder)
    assert spent(gateway, holder.key) == 2 * COST_NANOS


def test_a_failure_costs_nothing(gateway):
    holder = key(gateway, max_budget=TWO_CALLS)
    for _ in range(3):
        assert holder.ask(gateway, "*=status:500", max_tokens=COMPLETION).status == 500
        settled(gateway)
    expect(holder.spend(gateway), 200)


def test_windows_follow_the_clock(gateway):
    """No job resets anything: the next window has its own counter."""
    holder = key(gateway, max_budget=COST_NANOS / 1e9, budget_duration="5s")
    if time.time() % 5 > 2.5:
        time.sleep(5 - time.time() % 5 + 0.05)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    outcome = holder.spend(gateway)
    over(outcome, holder)
    left = 5 - time.time() % 5
    assert abs(int(outcome.headers["retry-after"]) - left) <= 1.5
    time.sleep(left + 0.1)
    expect(holder.spend(gateway), 200)


def test_downgrade(gateway):
    """Near the limit of a model's budget, a cheaper model answers."""
    made = gateway.key(model_max_budget={"lim": {"budget_limit": COST_NANOS / 1e9, "time_period": "1d"}},
                       budget_fallbacks={"lim": ["lim-cheap"]})
    holder = Holder("key", made)
    assert expect(holder.spend(gateway), 200).names == ["lim"]
    settled(gateway)
    outcome = expect(holder.spend(gateway), 200)
    assert outcome.names == ["lim-cheap"]
    assert outcome.row["model_group"] == "lim-cheap"


def test_audit_mode(gateway):
    """What would have been refused is served and counted."""
    holder = key(gateway, max_budget=COST_NANOS / 1e9, budget_mode="audit")
    before = sum(gateway.metrics("attache_limit_audit_total").values() or [0])
    for _ in range(3):
        expect(holder.spend(gateway), 200)
        settled(gateway)
    assert sum(gateway.metrics("attache_limit_audit_total").values()) > before


def test_a_temporary_increase(gateway):
    holder = key(gateway, max_budget=COST_NANOS / 1e9)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    over(holder.spend(gateway), holder)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    call(gateway, "/key/update", {"key": holder.key, "temp_budget_increase": 2 * COST_NANOS / 1e9, "temp_budget_expiry": until})
    time.sleep(1)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    time.sleep(4)
    over(holder.spend(gateway), holder)


def test_spend_is_set_back(gateway):
    holder = key(gateway, max_budget=COST_NANOS / 1e9)
    expect(holder.spend(gateway), 200)
    assert spent(gateway, holder.key) == COST_NANOS
    over(holder.spend(gateway), holder)
    time.sleep(1.5)
    call(gateway, f"/key/{holder.key}/reset_spend", {"reset_to": 0.0})
    time.sleep(1)
    expect(holder.spend(gateway), 200)


def test_a_shared_budget(gateway):
    """Settings of a budget hold for whoever names it."""
    budget = call(gateway, "/budget/new", {"budget_id": name("budget"), "max_budget": COST_NANOS / 1e9})["budget_id"]
    made = gateway.key(budget_id=budget)
    holder = Holder("key", made)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    over(holder.spend(gateway), holder)


def test_a_rotated_key_keeps_its_spend(gateway):
    holder = key(gateway, max_budget=TWO_CALLS)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    made = call(gateway, "/key/regenerate", {"key": holder.key, "grace_period": "1h"})["key"]
    time.sleep(1)
    expect(spend(gateway, key=holder.key), 200)
    settled(gateway)
    for still in (made, holder.key):
        assert spend(gateway, key=still).status == 429


def test_counters_equal_the_ledger(gateway):
    """Whole answers, streams, failures, cut streams and clients that leave: when it is quiet, what the limits believe is what
    the ledger says."""
    holder = key(gateway, max_budget=1000.0)
    scripts = [PAID, PAID + ",chunks:5", "*=status:500", "*=status:429", "*=chunks:3,cut", PAID]
    for turn in range(12):
        ask(gateway, "lim", scripts[turn % len(scripts)], stream=turn % 2 == 1, key=holder.key, max_tokens=COMPLETION)
    ledger = spent(gateway, holder.key)
    assert ledger > 0
    # The header tells the counter after this call's own reservation.
    outcome = expect(holder.ask(gateway, max_tokens=1), 200)
    counter = round(float(outcome.headers["x-litellm-key-spend"]) * 1e9)
    own = PROMPT_AND_ONE
    FACTS.record("ledger", abs(counter - own - ledger), "counters and ledger differ by {value} nano-dollars")
    assert counter - own == ledger


PROMPT_AND_ONE = 8 * 10_000 + 1 * 20_000


def test_team_spend_is_the_sum_of_its_keys(gateway):
    holder = team(gateway, max_budget=1000.0)
    other = gateway.key(team_id=holder.id)
    for made in (holder.key, other, other):
        expect(spend(gateway, key=made), 200)
    assert spent(gateway, other) == 2 * COST_NANOS
    found = gateway.stack.call("GET", f"/team/info?team_id={holder.id}")["team_info"]["spend"]
    assert round(found * 1e9) == 3 * COST_NANOS


def test_spend_survives_a_restart_of_the_counters(gateway):
    """The ledger is the truth: a counter that is new begins with what it says."""
    if gateway.backend == "embedded":
        holder = key(gateway, max_budget=TWO_CALLS)
        expect(holder.spend(gateway), 200)
        assert spent(gateway, holder.key) == COST_NANOS
        gateway.stack.restart_sidecar()
    else:
        holder = key(gateway, max_budget=TWO_CALLS)
        expect(holder.spend(gateway), 200)
        assert spent(gateway, holder.key) == COST_NANOS
        gateway.redis.cli("flushall")
        time.sleep(2.5)
    expect(holder.spend(gateway), 200)
    settled(gateway)
    over(holder.spend(gateway), holder)
    assert info(gateway, holder.key)["max_budget"] == TWO_CALLS
