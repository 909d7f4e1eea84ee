"""Requests of a busy key are decided a few at a time, before they come: limits hold as they do for everyone else."""

import hashlib
import time

import pytest
from asking import fresh_minute, settled
from harness import Gateway
from holders import call, config, name
from project import wait_for
from scale import load

# As fast as they go: some hundred a second on each of two workers.
CONNECTIONS = 8


def run(gateway, key, seconds=3):
    return load(gateway.stack, key=key, model="lim", seconds=seconds, concurrency=CONNECTIONS)


def leased(gateway):
    return gateway.stat("leased")


def used(gateway, key):
    """What the counters say of the key: requests of this minute, by what an answer's headers leave of the limit."""
    answer = gateway.post({"model": "lim", "messages": [{"role": "user", "content": "?"}]}, key=key)
    assert answer.status_code == 200, answer.text
    limit, left = (int(answer.headers[f"x-ratelimit-{what}-requests"]) for what in ("limit", "remaining"))
    return limit - left - 1


@pytest.fixture
def quiet(gateway):
    """Nothing is on its way."""
    settled(gateway)
    return gateway


def test_each_request_is_counted_once_and_has_a_row(quiet):
    gateway, alias = quiet, name("busy")
    key = gateway.key(key_alias=alias, rpm_limit=1_000_000)
    fresh_minute(12)
    before = leased(gateway)
    result = run(gateway, key)
    assert result["errors"] == 0, result
    ahead = leased(gateway) - before
    assert ahead > result["requests"] / 20, f"{ahead} of {result['requests']} were decided ahead"
    settled(gateway)
    # What was decided for requests that did not come is given back.
    wait_for("the counter to be what was asked", lambda: used(gateway, key) in range(result["requests"], result["requests"] + 40), 5)
    spent = wait_for_rows(gateway, key, result["requests"])
    assert len({row["request_id"] for row in spent}) == len(spent)


def wait_for_rows(gateway, key, count):
    """The key's rows, when there are enough of them."""
    hashed = hashlib.sha256(key.encode()).hexdigest()

    def rows():
        found = gateway.stack.call("GET", f"/spend/logs?api_key={hashed}&limit=10000")
        return found if len(found) >= count else None
    return wait_for(f"{count} rows", rows, 20, 0.3)


@pytest.mark.parametrize("limit", [700, 1_500])
def test_a_limit_holds_exactly(quiet, limit):
    gateway = quiet
    key = gateway.key(key_alias=name("limited"), rpm_limit=limit)
    fresh_minute(20)
    result = run(gateway, key, seconds=6)
    refused = int(result["bad"].get("429", 0))
    assert result["errors"] == refused and refused > 0, result
    assert result["requests"] == limit, f"{result['requests']} of {limit} were let in, {refused} refused"


def test_headers_say_what_is_left_when_the_request_is_let_in(quiet):
    """One after another, as fast as they go: each answer leaves one request less. What is given back is told again."""
    gateway = quiet
    key = gateway.key(key_alias=name("headers"), rpm_limit=1_000_000)
    fresh_minute(15)
    run(gateway, key, seconds=1)
    before, seen, until = leased(gateway), [], time.monotonic() + 3
    while time.monotonic() < until:
        answer = gateway.post({"model": "lim", "messages": [{"role": "user", "content": "?"}]}, key=key)
        assert answer.status_code == 200
        seen.append(int(answer.headers["x-ratelimit-remaining-requests"]))
    assert leased(gateway) > before, "none was decided ahead"
    assert len(set(seen)) > 0.8 * len(seen), "hardly two requests had the same place"
    assert max(seen) - min(seen) < len(set(seen)) + 200, "and they are next to each other"


def test_a_blocked_key_stops_within_a_second(quiet):
    gateway = quiet
    key = gateway.key(key_alias=name("blocked"))
    before = leased(gateway)
    assert run(gateway, key, seconds=1)["errors"] == 0
    assert leased(gateway) > before
    call(gateway, "/key/block", {"key": key})
    time.sleep(1)
    result = run(gateway, key, seconds=1)
    assert result["requests"] == 0, result


def test_it_can_be_switched_off():
    with Gateway("unleased", "embedded", config=config(decision_leases=False)) as gateway:
        key = gateway.key(key_alias=name("busy"))
        assert run(gateway, key, seconds=2)["errors"] == 0
        assert leased(gateway) == 0
        assert gateway.metrics("attache_leases_total")['result="refused"'] > 0
