"""Made-up keys by the thousand: nobody else notices, and the database hardly does."""

import pytest
from harness import Gateway
from holders import FACTS, config, name
from scale import Database, Flood, rss_mib

SECONDS, RATE, ORDINARY = 8, 3_000, 50
# Queries a second that the sidecar allows itself for keys, and the burst before that.
QUERIES, BURST = 500, 100
# What else the gateway writes and reads in a second: ordinary requests' ledger rows, the feed of changes, the ping.
OTHERS = 60


@pytest.fixture(scope="module")
def gateway():
    """A gateway of its own: the flood fills its tables."""
    with Gateway("flood", "redis+postgres", config=config()) as gateway:
        yield gateway


def test_a_flood_of_made_up_keys_is_noticed_by_nobody(gateway):
    key = gateway.key(key_alias=name("ordinary"))
    flood = Flood(gateway.stack, key, "lim", Database(gateway.postgres))
    flood.run(1, RATE, ORDINARY)  # connections, caches, V8's compiler
    memory = rss_mib(gateway.stack.sidecar), rss_mib(gateway.stack.envoy)
    # Suites beside this one take the processors for moments at a time: what is the flood's doing shows every time.
    for _ in range(3):
        quiet = flood.ordinary(3, ORDINARY)
        result = flood.run(SECONDS, RATE, ORDINARY)
        bad, ordinary = result["flood"], result["ordinary"]
        if ordinary["p99_ms"] < 50 + 10 * quiet["p99_ms"]:
            break

    assert set(bad["bad"]) <= {"503"}, f"answers other than 401 and 503: {bad}"
    assert bad["errors"] <= bad["requests"] / 100, f"too many lookups that had no turn: {bad}"
    assert bad["requests"] >= RATE * SECONDS / 3, f"this was no flood: {bad}"
    assert quiet["errors"] == 0 and ordinary["errors"] == 0, (quiet, ordinary)
    # The flood takes its share of the processors; nobody waits for the keys in it.
    assert ordinary["p99_ms"] < 50 + 10 * quiet["p99_ms"], (quiet, ordinary)
    assert result["newcomer_status"] == 200 and result["newcomer_seconds"] < 1, result

    seconds, keys = result["seconds"], bad["requests"] + bad["errors"]
    assert result["queries"] <= QUERIES * (seconds + 1) + BURST, result
    assert result["queries"] < keys / 2, "a query per bad key"
    assert result["lookups"] <= keys + 2_000, "a bad key is read more than once"
    assert result["transactions"] <= result["queries"] + OTHERS * (seconds + 1), result
    grown = [after - before for after, before in zip((rss_mib(gateway.stack.sidecar), rss_mib(gateway.stack.envoy)), memory)]
    assert max(grown) < 100, f"MiB more, sidecar and Envoy: {grown}"
    FACTS.record("flood", bad["rps"], "{value:.0f} made-up keys a second: p99 of others "
                 f"{quiet['p99_ms']:.1f} -> {ordinary['p99_ms']:.1f} ms, {result['queries'] / keys:.2f} queries a key")


def test_a_name_that_nobody_stored_is_asked_for_once(gateway):
    """End users that a good key invents: one lookup each, and none while it is remembered."""
    key = gateway.key(key_alias=name("inventive"))
    flood = Flood(gateway.stack, key, "lim")

    def ask(user):
        body = {"model": "lim", "messages": [{"role": "user", "content": "?"}], "user": user}
        assert gateway.post(body, key=key).status_code == 200

    ask(name("first"))
    before = flood.counts()["lookups"]
    for _ in range(50):
        ask(name("nobody"))
    made_up = flood.counts()["lookups"]
    assert 50 <= made_up - before <= 55
    somebody = name("somebody")
    for _ in range(20):
        ask(somebody)
    assert flood.counts()["lookups"] - made_up <= 5
