"""Circuit breakers: when a deployment goes out of service, how it comes back, and who knows."""

import contextlib
import time

import pytest
from harness import Gateway, assert_envelope, chat, in_threads, marked
from project import wait_for
from world import (FACTS, add, ask, client_of, config_of, counted, expect, health, health_report, open_breakers, settled, wait_closed,
                   wait_open)


def allowed(fails, cooldown):
    return {"info": {"allowed_fails": fails, "cooldown_time": cooldown}}


def configure(config):
    for kind in ("server", "client", "abort"):
        add(config, f"cb-count-{kind}", f"cb-count-{kind}", **allowed(2, 2))
    add(config, "cb-seed", "cb-seed", **allowed(2, 30))
    add(config, "cb-half", "cb-half", **allowed(1, 1))
    add(config, "cb-again", "cb-again", **allowed(1, 1))
    add(config, "cb-stream", "cb-stream", **allowed(1, 1))
    add(config, "cb-half-pair", ("cb-half-pair-a", {"weight": 1, **allowed(1, 1)}), ("cb-half-pair-b", {"weight": 0}))
    add(config, "cb-wait", ("cb-wait-a", {"weight": 1}), ("cb-wait-b", {"weight": 0}), num_retries=1)
    for status in (401, 403):
        add(config, f"cb-cred-{status}", (f"cb-cred-{status}-a", {"weight": 1}), (f"cb-cred-{status}-b", {"weight": 0}),
            cooldown_time=2)
    add(config, "cb-never", "cb-never", info={"allowed_fails": 0}, cooldown_time=0)
    add(config, "cb-share", ("cb-share-a", {"weight": 1}), ("cb-share-b", {"weight": 0}), num_retries=1, cooldown_time=2)
    add(config, "cb-lone", "cb-lone", cooldown_time=2)
    add(config, "cb-policy", "cb-policy", cooldown_time=2,
        info={"allowed_fails_policy": {"RateLimitErrorAllowedFails": 1, "InternalServerErrorAllowedFails": 3}})


def fail(gateway, group, times, what="status:500", **options):
    """Fails a group so often; the breaker hears of it within two batches of usage."""
    for _ in range(times):
        assert ask(gateway, group, f"*={what}", **options).status != 200
    settled(gateway)


def opened_metric(gateway):
    return gateway.metric("attache_cooldowns_total")


def test_opens_after_more_than_allowed_and_recovers(gateway):
    fail(gateway, "cb-count-server", 2)
    assert "cb-count-server" not in open_breakers(gateway)
    before = opened_metric(gateway)
    fail(gateway, "cb-count-server", 1)
    wait_open(gateway, "cb-count-server", seconds=1)
    assert opened_metric(gateway) == before + 1
    outcome = ask(gateway, "cb-count-server")
    assert_envelope(outcome.answer, 429, "all_deployments_in_cooldown")
    assert outcome.names == [] and 1 <= int(outcome.headers["retry-after"]) <= 2
    shown = health(gateway)["cb-count-server"]
    assert not shown["healthy"] and "500" in str(shown), shown
    wait_for("recovery", lambda: ask(gateway, "cb-count-server").status == 200, 4, 0.1)
    wait_closed(gateway, "cb-count-server")
    wait_for("health", lambda: health(gateway)["cb-count-server"]["healthy"], 1)
    # Recovered means: counting begins anew.
    fail(gateway, "cb-count-server", 2)
    assert "cb-count-server" not in open_breakers(gateway)


def test_thirty_seconds_after_three_failures(gateway):
    """The seed's example."""
    fail(gateway, "cb-seed", 3)
    wait_open(gateway, "cb-seed", seconds=1)
    assert 27 <= int(ask(gateway, "cb-seed").headers["retry-after"]) <= 30


@pytest.mark.parametrize("what", ["error:context", "error:content", "error:badrequest", "status:422"])
def test_the_clients_mistakes_never_count(gateway, what):
    fail(gateway, "cb-count-client", 4, what)
    assert "cb-count-client" not in open_breakers(gateway)
    expect(ask(gateway, "cb-count-client"), 200)


def test_leaving_never_counts(gateway):
    for _ in range(5):
        headers, _ = marked("cb-count-abort=chunk-delay:200", authorization=f"Bearer {gateway.default_key}")
        with gateway.http.stream("POST", "/v1/chat/completions", json=chat("cb-count-abort", stream=True),
                                 headers=headers) as answer:
            assert answer.status_code == 200
            next(answer.iter_bytes())
    settled(gateway)
    assert "cb-count-abort" not in open_breakers(gateway)


def test_a_lone_deployment_stays(gateway):
    for what in ("status:429,retry-after:30", "status:401", "status:500", "cut"):
        fail(gateway, "cb-lone", 3, what)
    assert "cb-lone" not in open_breakers(gateway)
    expect(ask(gateway, "cb-lone"), 200, ["cb-lone"])


def test_zero_seconds_is_never(gateway):
    fail(gateway, "cb-never", 5)
    assert "cb-never" not in open_breakers(gateway)
    expect(ask(gateway, "cb-never"), 200)


def test_allowed_fails_per_class(gateway):
    fail(gateway, "cb-policy", 3, "status:500")
    assert "cb-policy" not in open_breakers(gateway)
    fail(gateway, "cb-policy", 1, "status:429")
    assert "cb-policy" not in open_breakers(gateway), "classes count apart"
    fail(gateway, "cb-policy", 1, "status:429")
    wait_open(gateway, "cb-policy", seconds=1)


def test_half_of_five(gateway):
    """The default rule: more than half of at least five outcomes in a minute, and another deployment is there."""
    for _ in range(7):
        expect(ask(gateway, "cb-share", "cb-share-a=status:500"), 200)
    settled(gateway)
    wait_open(gateway, "cb-share-a", seconds=1)
    expect(ask(gateway, "cb-share", "cb-share-a=status:500"), 200, ["cb-share-b"])


def test_retry_after_is_the_cooldown(gateway):
    expect(ask(gateway, "cb-wait", "cb-wait-a=status:429,retry-after:3"), 200, ["cb-wait-a", "cb-wait-b"])
    wait_open(gateway, "cb-wait-a", seconds=1)
    began = time.monotonic()
    assert ask(gateway, "cb-wait").names == ["cb-wait-b"]
    wait_for("its return", lambda: ask(gateway, "cb-wait").names == ["cb-wait-a"], 5, 0.1)
    assert 2.0 <= time.monotonic() - began <= 4.0


# -- half-open ---------------------------------------------------------------------------------------------------------
def storm(gateway, group, script, count=20, stream=False):
    client = client_of(gateway)
    return in_threads(count, lambda _: ask(gateway, group, script, stream, client=client))


@pytest.mark.parametrize("group, stream", [("cb-half", False), ("cb-stream", True)])
def test_one_probe_among_twenty(gateway, group, stream):
    fail(gateway, group, 2)
    wait_open(gateway, group, seconds=1)
    time.sleep(1.1)
    before = counted(gateway, group)
    # For a stream, the first event is what proves the deployment; this one begins late.
    outcomes = storm(gateway, group, f"{group}=delay:600", stream=stream)
    probes = counted(gateway, group) - before
    FACTS.record("half_open", probes, "half-open probes {value} of 20 requests")
    assert probes == 1
    assert sorted(outcome.status for outcome in outcomes) == [200] + [429] * 19
    wait_closed(gateway, group)
    assert {outcome.status for outcome in storm(gateway, group, None)} == {200}


def test_a_failed_probe_opens_it_again(gateway):
    fail(gateway, "cb-again", 2)
    wait_open(gateway, "cb-again", seconds=1)
    for _ in range(2):
        time.sleep(1.1)
        before = counted(gateway, "cb-again")
        outcomes = storm(gateway, "cb-again", "cb-again=delay:300,status:500")
        assert counted(gateway, "cb-again") - before == 1
        assert sorted(outcome.status for outcome in outcomes) == [429] * 19 + [500]
        wait_open(gateway, "cb-again", seconds=1)
    time.sleep(1.1)
    expect(ask(gateway, "cb-again"), 200)
    wait_closed(gateway, "cb-again")


def test_the_others_are_served_while_one_probes(gateway):
    fail(gateway, "cb-half-pair", 2)
    wait_open(gateway, "cb-half-pair-a", seconds=1)
    time.sleep(1.1)
    before = [counted(gateway, f"cb-half-pair-{name}") for name in "ab"]
    outcomes = storm(gateway, "cb-half-pair", "cb-half-pair-a=delay:400")
    after = [counted(gateway, f"cb-half-pair-{name}") for name in "ab"]
    assert {outcome.status for outcome in outcomes} == {200}
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 19]


# -- credentials -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [401, 403])
def test_a_credential_failure_is_reported(gateway, status):
    """The provider refuses the gateway's key: the group goes on with its other deployment, and the operator hears it."""
    group = f"cb-cred-{status}"
    log = gateway.stack.sidecar.log.read_text()
    assert_envelope(ask(gateway, group, f"{group}-a=status:{status}").answer, status)
    wait_open(gateway, f"{group}-a", seconds=1)
    for _ in range(5):
        expect(ask(gateway, group, f"{group}-a=status:{status}"), 200, [f"{group}-b"])
    found = gateway.metrics("attache_credential_failures_total")
    assert any(f"{group}-a" in labels and value >= 1 for labels, value in found.items()), found
    report = health_report(gateway)
    assert [entry for entry in report["credential_failures"] if entry["model_id"] == f"{group}-a"], report
    assert str(status) in str(health(gateway)[f"{group}-a"]["error"])
    news = gateway.stack.sidecar.log.read_text()[len(log):]
    assert any("credential" in line and f"{group}-a" in line for line in news.splitlines()), news[-2000:]


# -- another replica ---------------------------------------------------------------------------------------------------
def test_another_replica_knows_within_a_second():
    config = config_of()
    config["model_list"].clear()
    add(config, "cb-shared", ("cb-shared-a", {"weight": 1}), ("cb-shared-b", {"weight": 0}), num_retries=1, cooldown_time=4)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Gateway("breaker-1", "redis+postgres", config=config))
        second = stack.enter_context(Gateway("breaker-2", "redis+postgres", config=config, sibling=first))
        expect(ask(second, "cb-shared"), 200, ["cb-shared-a"])
        began = time.monotonic()
        expect(ask(first, "cb-shared", "cb-shared-a=status:429"), 200, ["cb-shared-a", "cb-shared-b"])
        wait_open(first, "cb-shared-a", seconds=1)
        wait_for("the other replica", lambda: ask(second, "cb-shared").names == ["cb-shared-b"], 3, 0.01)
        took = time.monotonic() - began
        FACTS.record("cooldown", round(took * 1000), "cooldown seen by the other replica in {value} ms")
        assert took < 1.3, took
        wait_open(second, "cb-shared-a", seconds=1)
        # One of both replicas probes, and both know that it is back.
        wait_for("its return", lambda: ask(second, "cb-shared").names == ["cb-shared-a"], 6, 0.1)
        wait_closed(first, "cb-shared-a")
        wait_for("its traffic", lambda: ask(first, "cb-shared").names == ["cb-shared-a"], 2, 0.1)


def test_switched_off():
    config = config_of(disable_cooldowns=True, allowed_fails=0)
    config["model_list"].clear()
    add(config, "cb-off", ("cb-off-a", {"weight": 1}), ("cb-off-b", {"weight": 0}))
    with Gateway("breaker-off", "embedded", config=config) as gateway:
        for what in ("status:429,retry-after:30", "status:401", "status:500"):
            fail(gateway, "cb-off", 3, what)
        assert not open_breakers(gateway)
        expect(ask(gateway, "cb-off"), 200, ["cb-off-a"])
