"""SIGHUP: a new configuration under load, without a failed request and without a restart."""

import signal
import threading

import yaml
from harness import Gateway, assert_envelope, chat, deployment, in_threads
from project import wait_for


def test_a_new_configuration_under_load():
    with Gateway("reload", "embedded") as gateway:
        path = gateway.stack.config
        config = yaml.safe_load(path.read_text())
        # A group without a fallback: nothing hides a moment in which nobody can be asked.
        solo = chat(model="solo")
        place = next(i for i, entry in enumerate(config["model_list"]) if entry["model_name"] == "solo")
        stop, statuses = threading.Event(), []

        def worker(_):
            while not stop.is_set():
                statuses.append(gateway.post(solo).status_code)

        load = threading.Thread(target=in_threads, args=(16, worker), daemon=True)
        load.start()
        try:
            assert_envelope(gateway.post(chat(model="added")), 404, code="model_not_found")
            before = gateway.post(solo).headers["x-litellm-model-id"]
            # The model in use moves to another upstream: a new deployment, and the old one goes.
            config["model_list"][place] = deployment("solo", "moved")
            config["model_list"].append(deployment("added", "added"))
            path.write_text(yaml.safe_dump(config))
            gateway.stack.sidecar.child.send_signal(signal.SIGHUP)
            wait_for("the new model", lambda: gateway.post(chat(model="added")).status_code == 200, 10, 0.05)
            after = wait_for("the new deployment", lambda: (
                found := gateway.post(solo).headers["x-litellm-model-id"]) != before and found, 5)
            assert gateway.provider.requests("moved"), "the new upstream was not asked"

            # A file with an error changes nothing and is named in the log.
            path.write_text(path.read_text().replace("api_base", "api_bas"))
            gateway.stack.sidecar.child.send_signal(signal.SIGHUP)
            wait_for("the complaint", lambda: "did you mean `api_base`" in gateway.stack.sidecar.log.read_text(), 5)
            assert gateway.post(solo).headers["x-litellm-model-id"] == after
            assert gateway.post(chat(model="added")).status_code == 200
        finally:
            stop.set()
            load.join(20)
        assert set(statuses) == {200}, {status: statuses.count(status) for status in set(statuses)}
        assert len(statuses) > 100
