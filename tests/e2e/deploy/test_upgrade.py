"""Old and new side by side. The contract between filter and sidecar has a version: within one all fits, another is refused."""

import collections
import signal
import subprocess
import threading
import time

import pytest
from between import Between
from clients import Clients
from facts import FACTS
from harness import Gateway, assert_envelope, chat, content_of, deployment
from project import envoy_binary, wait_for
from stack import Stack

RATE = 20
# A sidecar that starts again: its socket, and Envoy's xDS stream to it.
RESTART_SECONDS = 3
SLOW = {"x-fake-script": "*=usage:100/50,chunks:20,chunk-delay:100"}


def config():
    return {"model_list": [deployment("gpt-4o", "main")], "router_settings": {"num_retries": 0},
            "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1}}


def start(name, way):
    return Gateway(name, "embedded", config=config(), concurrency=1, envoy_flags=["--decisions", way])


# -- within one version --------------------------------------------------------------------------------------------------
@pytest.fixture
def second():
    """Starts a second Envoy of a gateway, at addresses of its own, with other flags."""
    started = []

    def start_second(gateway, way):
        first = gateway.stack
        other = Stack(first.config, gateway.folder / "second", environment=first.environment, provider=first.provider,
                      concurrency=1, envoy_flags=["--decisions", way])
        other.socket, other.sidecar, other.health = first.socket, first.sidecar, first.health
        other.start_envoy()
        started.append(other)
        other.wait_ready()
        return other

    yield start_second
    for other in started:
        other.envoy.stop(signal.SIGKILL)


def test_a_rollout_from_the_old_way_of_asking_to_the_new_one(second):
    """First the sidecar, then Envoy. What an Envoy from before the choice is told has no word of it, and asks with ext_proc;
    such a one and one that asks for many at once are served by one sidecar."""
    with start("deploy-rollout", "ext-proc") as gateway:
        stack, addresses = gateway.stack, {"old": gateway.stack.listen}
        assert "decisions" not in stack.bootstrap().read_text(), "filters from before refuse what they do not know"
        with Clients(addresses, [(gateway.default_key, 10)], RATE) as clients:
            clients.event("old")
            time.sleep(2)
            clients.event("sidecar restarts")
            stack.restart_sidecar()
            time.sleep(2)
            assert gateway.metric("attache_decide_calls_total") == 0, "a sidecar from before has no such endpoint"
            other = second(gateway, "batched")
            with Clients({"new": other.listen}, [(gateway.default_key, 10)], RATE) as later:
                later.event("new")
                time.sleep(3)
                # The load balancer has the new one.
                clients.over.set()
                clients.thread.join()
                assert stack.drain()
                stack.envoy.stop()
                time.sleep(1)
            assert gateway.metric("attache_decide_calls_total") > 0
        gateway.stack.envoy, gateway.stack.admin, gateway.stack.listen = other.envoy, other.admin, other.listen
        gateway.http.base_url = gateway.url
        judge(gateway, clients, later)


def judge(gateway, clients, later):
    """Nobody is refused but in the moment without a sidecar, no stream is cut, and every answer has its row."""
    print(clients.table(), later.table(), sep="\n")
    assert len(later.seen) > RATE * 3 and not later.bad(later.seen), later.bad(later.seen)
    assert not clients.bad(clients.during("old"))
    refused = clients.bad(clients.during("sidecar restarts"))
    assert {seen.status for seen in refused} <= {503, 504}, refused
    assert any(seen.ended - seen.sent > 1 for seen in clients.running("sidecar restarts")), "no stream was running"
    seconds = clients.lasted("sidecar restarts", refused)
    assert seconds < RESTART_SECONDS, refused
    answered = [seen.call for seen in clients.seen + later.seen if seen.status == 200]

    def rows():
        found = collections.Counter(row["request_id"] for row in gateway.rows())
        return found if all(found[call] for call in answered) else None

    found = wait_for("a row for each answer", rows, 15, 0.5)
    assert set(found.values()) == {1}
    asked = len(clients.seen + later.seen)
    FACTS.record("upgrade", len(refused), f"sidecar, then Envoy replaced: {len(refused)} of {asked} requests refused, for "
                 f"{seconds:.1f} s, {len(answered)} answers with one row each")


# -- another version -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pair(request, tmp_path_factory):
    """A gateway whose Envoy reaches its sidecar through somebody who can change the version."""
    gateway = start(f"deploy-{request.param}", request.param)
    stack, path = gateway.stack, tmp_path_factory.mktemp("between") / "b.sock"
    with Between(path, stack.socket) as between, gateway:
        stack.envoy.stop(signal.SIGKILL)
        text = stack.bootstrap().read_text()
        assert str(stack.socket) in text
        stack.start_envoy(text.replace(str(stack.socket), str(path)))
        stack.wait_ready()
        gateway.between, gateway.way = between, request.param
        wait_for("an answer", lambda: gateway.post().status_code == 200, 10)
        yield gateway


# Not the sidecar with ext_proc: there it refuses the question itself, and its answer has no version but the note's.
@pytest.mark.parametrize("pair, who, said", [
    ("batched", "filter", "it does not speak contract version 1 of this filter"),
    ("batched", "sidecar", "it speaks contract version 9, this filter 1"),
    ("ext-proc", "filter", "it does not speak contract version 1 of this filter"),
], indirect=["pair"])
def test_another_version_is_refused_and_what_was_used_is_kept(pair, who, said):
    unused, streams = pair.key(), []
    told = pair.stack.envoy.log.read_text().count("sidecar reached again")
    running = threading.Thread(target=lambda: streams.append(pair.post(chat(stream=True), headers=SLOW)))
    running.start()
    wait_for("the stream", lambda: pair.stack.active() > 0, 5)
    time.sleep(0.3)
    try:
        pair.between.who = who
        for key in (None, unused):
            answer = pair.post(key=key)
            assert_envelope(answer, 503)
            assert answer.headers["retry-after"] == "1"
        running.join()
        assert streams[0].status_code == 200 and content_of(streams[0].text), "a stream that runs needs no sidecar"
        time.sleep(0.5)
        assert pair.stack.pending() > 0, "what was not acknowledged is kept"
        # A worker says that it changed not more often than every five seconds.
        wait_for("the log", lambda: said in pair.stack.envoy.log.read_text(), 10)
    finally:
        pair.between.who = None
    if who == "filter":
        assert "contract version" in pair.stack.sidecar.log.read_text()
    wait_for("usage", lambda: pair.stack.pending() == 0, 10)
    assert pair.post().status_code == 200 and pair.post(key=unused).status_code == 200
    # It may have been taken several times before it was acknowledged.
    assert pair.spend(streams[0].headers["x-litellm-call-id"])["spend"] > 0
    time.sleep(1.5)
    assert len(pair.rows(streams[0].headers["x-litellm-call-id"])) == 1
    wait_for("the log", lambda: pair.stack.envoy.log.read_text().count("sidecar reached again") > told, 10)
    FACTS.record("versions", 1, "another contract version is refused, its usage kept and written once")


@pytest.mark.parametrize("pair", ["batched"], indirect=True)
@pytest.mark.parametrize("change, said", [
    ('\\"contract\\":2', "configuration has contract version 2, this filter 1"),
    ('\\"later\\":7,\\"contract\\":1', "the gate's configuration is not valid: unknown field `later`"),
])
def test_a_filter_does_not_start_with_a_configuration_that_it_does_not_understand(pair, change, said, tmp_path):
    """A bootstrap of another version than the filter: Envoy says so and ends, before it listens."""
    text = pair.stack.bootstrap().read_text()
    assert text.count('\\"contract\\":1') == 1
    path = tmp_path / "envoy.yaml"
    path.write_text(text.replace('\\"contract\\":1', change))
    command = [envoy_binary(), "-c", path, "--mode", "validate"]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0 and said in done.stderr + done.stdout, done.stderr[-2000:]
