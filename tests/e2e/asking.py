"""What the suites share beside the gateway: requests and what became of them, minutes, figures for the last line."""

import time

import httpx
from harness import chat, events, marked
from project import wait_for


class Facts:
    """Figures for the last line. One per name: the worst of those recorded."""

    def __init__(self, *order):
        self.order, self.found = order, {}

    def record(self, name, value, text):
        """`text` is shown for the highest `value`; {value} in it is filled in."""
        if name not in self.found or value > self.found[name][0]:
            self.found[name] = (value, text.format(value=value))

    def lines(self):
        known = [name for name in self.order if name in self.found]
        return [self.found[name][1] for name in known + sorted(set(self.found) - set(known))]


class Outcome:
    """A request, its answer, and the attempts that the provider saw."""

    def __init__(self, gateway, answer, mark, seconds):
        self.gateway, self.answer, self.mark, self.seconds = gateway, answer, mark, seconds
        self.status, self.headers, self.text = answer.status_code, answer.headers, answer.text

    @property
    def call_id(self):
        return self.headers["x-litellm-call-id"]

    @property
    def arrived(self):
        return self.gateway.arrived(self.mark)

    @property
    def names(self):
        """Upstreams asked, in order."""
        return [entry["name"] for entry in self.arrived]

    @property
    def row(self):
        return self.gateway.spend(self.call_id)

    @property
    def error(self):
        return self.answer.json()["error"]

    def __repr__(self):
        shown = {name: value for name, value in self.headers.items() if name.startswith(("x-litellm", "retry", "x-attache"))}
        try:
            names = self.names
        except Exception:  # noqa: BLE001 - shown after the gateway is gone
            names = "?"
        return f"{self.status} {names} in {self.seconds:.2f} s {shown} {self.text[:300]}"


def ask(gateway, model, script=None, stream=False, key=None, headers=None, client=None, **body):
    """One chat completion; the whole answer is read."""
    sent, mark = marked(script, **(headers or {}))
    began = time.monotonic()
    answer = gateway.post(chat(model, stream=stream, **body), key=key, headers=sent, client=client)
    outcome = Outcome(gateway, answer, mark, time.monotonic() - began)
    if stream and answer.status_code == 200:
        outcome.events = events(answer.text)
    return outcome


def expect(outcome, status, names=None, retries=None, fallbacks=None):
    """Asserts what the client and the provider saw; the message tells all of it."""
    assert outcome.status == status, outcome
    if names is not None:
        assert outcome.names == names, outcome
    if retries is not None:
        assert outcome.headers["x-litellm-attempted-retries"] == str(retries), outcome
    if fallbacks is not None:
        assert outcome.headers["x-litellm-attempted-fallbacks"] == str(fallbacks), outcome
    return outcome


def fresh_minute(need=8):
    """Waits for the next minute if less than `need` seconds are left of this one; returns the Unix minute."""
    left = 60 - time.time() % 60
    if left < need:
        time.sleep(left + 0.05)
    return int(time.time() // 60)


def seconds_left():
    return 60 - time.time() % 60


def counted(gateway, name, minute=None):
    """Requests that an upstream got, in one minute or altogether."""
    minutes = gateway.provider.upstreams().get(name, {}).get("minutes", {})
    return sum(entry["requests"] for at, entry in minutes.items() if minute is None or int(at) == minute)


def settled(gateway, seconds=3):
    """Waits until Envoy has handed over what it knows (in batches, each 100 ms), and it is settled."""
    time.sleep(0.15)
    wait_for("handed over usage", lambda: gateway.stack.pending() == 0, seconds)
    time.sleep(0.1)


def client_of(gateway, connections=100):
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.Client(base_url=gateway.url, timeout=30, trust_env=False, limits=limits)


def report(config, name, facts):
    """A suite's `pytest_unconfigure`: last of all, the figures in one line."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not (reporter.stats.get("passed") or reporter.stats.get("failed")):
        return
    passed, failed = (len(reporter.stats.get(outcome, ())) for outcome in ("passed", "failed"))
    failed += len(reporter.stats.get("error", ()))
    checks = f"{passed} checks" + (f", {failed} FAILED" if failed else "")
    figures = "".join(f"{', ' if n else '; '}{text}" for n, text in enumerate(facts.lines()))
    reporter.write_line(f"{name}: {checks}{figures}")
