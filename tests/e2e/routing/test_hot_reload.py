"""An edited file becomes the configuration in force, without a signal; a bad one does not."""

import threading
import time

import pytest
import yaml
from harness import Gateway, in_threads
from project import wait_for
from world import add, ask, config_of, expect


@pytest.fixture
def gateway():
    config = config_of()
    config["model_list"].clear()
    add(config, "hr-stays", "hr-stays")
    add(config, "hr-moves", "hr-before")
    config["general_settings"]["proxy_config_reload_interval_seconds"] = 0.5
    with Gateway("hot-reload", "embedded", config=config) as gateway:
        yield gateway


def edit(gateway, change):
    path = gateway.stack.config
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def generation(gateway):
    value = int(gateway.metric("attache_config_generation"))
    assert int(ask(gateway, "hr-stays").headers["x-attache-generation"]) == value
    return value


def test_an_edited_file_is_picked_up(gateway):
    stop, statuses = threading.Event(), []

    def worker(_):
        while not stop.is_set():
            statuses.append(ask(gateway, "hr-stays").status)

    load = threading.Thread(target=in_threads, args=(8, worker), daemon=True)
    load.start()
    try:
        before = generation(gateway)
        # A stream that is running when the change comes, through a deployment that goes away.
        running = []
        stream = threading.Thread(target=lambda: running.append(
            ask(gateway, "hr-moves", "hr-before=chunk-delay:200", stream=True)))
        stream.start()

        def move(config):
            config["model_list"] = [entry for entry in config["model_list"] if entry["model_name"] != "hr-moves"]
            add(config, "hr-moves", "hr-after")
            add(config, "hr-new", "hr-new")

        edit(gateway, move)
        wait_for("the new group", lambda: ask(gateway, "hr-new").status == 200, 10, 0.05)
        wait_for("the new deployment", lambda: ask(gateway, "hr-moves").names == ["hr-after"], 5, 0.05)
        after = generation(gateway)
        assert after == before + 1
        stream.join(10)
        expect(running[0], 200, ["hr-before"])
        assert running[0].events[-1] == "[DONE]", "a running stream was cut by the change"
        assert int(running[0].headers["x-attache-generation"]) == before
    finally:
        stop.set()
        load.join(20)
    assert set(statuses) == {200} and len(statuses) > 50


@pytest.mark.parametrize("text, complaint", [
    ("model_list: [", "YAML"), ("model_list:\n- model_name: x\n  litellm_parms: {}\n", "litellm_parms"),
    ("", "model")])
def test_a_bad_file_is_refused(gateway, text, complaint):
    before, log = generation(gateway), len(gateway.stack.sidecar.log.read_text())
    good = gateway.stack.config.read_text()
    gateway.stack.config.write_text(text)
    news = wait_for("the complaint", lambda: (n := gateway.stack.sidecar.log.read_text()[log:]) and "reload" in n and n, 5, 0.05)
    assert complaint.lower() in news.lower(), news
    assert generation(gateway) == before
    expect(ask(gateway, "hr-stays"), 200)
    assert gateway.metric("attache_config_reload_failures_total") >= 1
    # Mended: in force again.
    gateway.stack.config.write_text(good.replace("hr-before", "hr-mended"))
    wait_for("the mended file", lambda: ask(gateway, "hr-moves").names == ["hr-mended"], 8, 0.05)


def test_nothing_changed_is_no_new_generation(gateway):
    before = generation(gateway)
    gateway.stack.config.touch()
    time.sleep(1.5)
    assert generation(gateway) == before
