"""What operators and load balancers see of the deployments' health."""

import httpx
import pytest
from harness import BACKENDS, Gateway, assert_envelope, chat
from project import wait_for
from world import add, ask, config_of, counted, expect, health, refused


def health_config(**general):
    config = config_of()
    config["model_list"].clear()
    add(config, "he-good", "he-good")
    add(config, "he-pair", ("he-pair-a", {"weight": 1}), ("he-pair-b", {"weight": 0}))
    config["general_settings"].update(general)
    return config


@pytest.fixture(scope="module")
def probed():
    """Background probes each second; deployments that fail them are left out."""
    config = health_config(background_health_checks=True, health_check_interval=1)
    config["features"] = {"pre_call_health_checks": True}
    add(config, "he-gone", "he-gone", **refused())
    with Gateway("health-probed", "embedded", config=config) as gateway:
        yield gateway


@pytest.fixture
def plain():
    with Gateway("health-plain", "embedded", config=health_config()) as gateway:
        yield gateway


def test_nobody_is_asked_for_health(plain):
    """Without background probes `/health` tells what traffic showed, however often a monitor asks."""
    for _ in range(20):
        assert set(health(plain)) == {"he-good", "he-pair-a", "he-pair-b"}
    assert plain.provider.requests() == []
    assert all(entry["healthy"] for entry in health(plain).values())


def test_health_is_the_admins(plain):
    assert_envelope(plain.http.get("/health"), 401)
    answer = plain.http.get("/health", headers={"authorization": f"Bearer {plain.default_key}"})
    assert answer.status_code in (200, 403)
    if answer.status_code == 200:
        assert "127.0.0.1" not in answer.text


def test_health_tells_no_secret(plain):
    answer = plain.http.get("/health", headers={"authorization": f"Bearer {plain.master_key}"})
    assert "sk-upstream" not in answer.text


def test_probes_find_what_is_wrong(probed):
    wait_for("the refused deployment", lambda: not health(probed)["he-gone"]["healthy"], 6, 0.2)
    assert health(probed)["he-good"]["healthy"]
    probed.provider.script("he-pair-a", "status:401")
    shown = wait_for("the refused credential", lambda: not (h := health(probed)["he-pair-a"])["healthy"] and h, 6, 0.2)
    assert "401" in str(shown), shown
    # What failed its probe gets no traffic, without having to fail a client first.
    before = [entry for entry in probed.provider.requests("he-pair-a") if entry["method"] == "POST"]
    for _ in range(5):
        expect(ask(probed, "he-pair"), 200, ["he-pair-b"])
    after = [entry for entry in probed.provider.requests("he-pair-a") if entry["method"] == "POST"
             and entry["headers"].get("x-test-id")]
    assert not after, before
    probed.provider.script("he-pair-a", None)
    wait_for("its recovery", lambda: health(probed)["he-pair-a"]["healthy"], 6, 0.2)
    wait_for("its traffic", lambda: ask(probed, "he-pair").names == ["he-pair-a"], 4, 0.1)


def test_probes_come_by_the_clock_not_by_the_scrape(probed):
    health(probed)
    before = counted(probed, "he-good")
    for _ in range(50):
        health(probed)
    assert counted(probed, "he-good") - before <= 6


def test_probes_cost_no_tokens_and_are_nobodys_spend(probed):
    """A list of models is asked for, which no provider charges for."""
    wait_for("a probe", lambda: probed.provider.requests("he-good"), 5, 0.1)
    asked = [entry for entry in probed.provider.requests("he-good") if not entry["headers"].get("x-test-id")]
    assert asked and {(entry["method"], entry["path"].rsplit("/", 1)[-1]) for entry in asked} == {("GET", "models")}
    assert {entry["headers"]["authorization"] for entry in asked} == {"...2222"}


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_readiness_waits_for_what_is_required(backend):
    config = health_config(readiness_requires=["envoy", "redis", "database"])
    with Gateway("health-ready", backend, config=config) as gateway:
        def ready():
            return httpx.get(f"{gateway.stack.health_url}/health/readiness", trust_env=False)

        assert ready().status_code == 200
        gateway.redis.stop()
        gateway.post(chat("he-good"))
        wait_for("unready without Redis", lambda: ready().status_code == 503 and "redis" in ready().text.lower(), 5, 0.1)
        gateway.redis.start()
        wait_for("ready again", lambda: ready().status_code == 200, 15, 0.2)


def test_readiness_can_need_a_deployment():
    config = health_config(readiness_requires=["envoy", "deployments"], background_health_checks=True,
                           health_check_interval=1)
    config["features"] = {"pre_call_health_checks": True}
    with Gateway("health-deployments", "embedded", config=config) as gateway:
        def status():
            return httpx.get(f"{gateway.stack.health_url}/health/readiness", trust_env=False).status_code

        for name in ("he-good", "he-pair-a", "he-pair-b"):
            gateway.provider.script(name, "status:503")
        wait_for("unready without deployments", lambda: status() == 503, 8, 0.2)
        gateway.provider.script("he-good", None)
        wait_for("ready with one", lambda: status() == 200, 8, 0.2)
