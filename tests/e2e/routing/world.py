"""What the routing tests share: requests and what became of them, states of deployments, minutes, figures."""

import time

import httpx
from harness import REFUSED, chat, deployment, events, marked
from project import wait_for



class Facts:
    """Figures for the last line. One per name: the worst of those recorded."""

    ORDER = ["rpm", "tpm", "in_flight", "cooldown", "half_open", "redis"]

    def __init__(self):
        self.found = {}

    def record(self, name, value, text):
        """`text` is shown for the highest `value`; {value} in it is filled in."""
        if name not in self.found or value > self.found[name][0]:
            self.found[name] = (value, text.format(value=value))

    def lines(self):
        known = [name for name in self.ORDER if name in self.found]
        return [self.found[name][1] for name in known + sorted(set(self.found) - set(known))]


FACTS = Facts()


def config_of(*modules, **router):
    """A configuration with the groups of these test modules and nothing else."""
    config = {
        "model_list": [],
        "router_settings": {"num_retries": 0, "fallbacks": [], "routing_groups": [], "model_group_alias": {},
                            "model_group_retry_policy": {}, **router},
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1},
    }
    for module in modules:
        getattr(module, "configure", lambda config: None)(config)
    if not config["model_list"]:
        config["model_list"].append(deployment("gpt-4o", "one"))
    return config


def add(config, group, *upstreams, strategy=None, args=None, fallbacks=None, info=None, model="openai/gpt-4o", **params):
    """Adds a group with one deployment per upstream. An upstream is a name, or a name with parameters of its own; the
    deployment's id is the upstream's name."""
    for upstream in upstreams:
        name, own = upstream if isinstance(upstream, tuple) else (upstream, {})
        own = dict(own)
        infos = {"id": name, **(info or {}), **own.pop("info", {})}
        config["model_list"].append(deployment(group, name, own.pop("model", model), infos, **{**params, **own}))
    router = config["router_settings"]
    if strategy:
        entry = {"group_name": f"by-{group}", "models": [group], "routing_strategy": strategy}
        router["routing_groups"].append({**entry, **({"routing_strategy_args": args} if args else {})})
    if fallbacks:
        router["fallbacks"].append({group: fallbacks})


def refused():
    return {"api_base": REFUSED}


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


def health_report(gateway):
    """`/health` for the admin."""
    answer = gateway.http.get("/health", headers={"authorization": f"Bearer {gateway.master_key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def health(gateway):
    """The deployments of `/health` by id."""
    body, found = health_report(gateway), {}
    for kind in ("healthy", "unhealthy"):
        for entry in body[f"{kind}_endpoints"]:
            found[entry["model_id"]] = {**entry, "healthy": kind == "healthy"}
    assert body["healthy_count"] + body["unhealthy_count"] == len(found), body
    return found


def breakers(gateway):
    """State of each deployment's circuit breaker as the metrics say: 0 closed, 1 half-open, 2 open."""
    values = gateway.metrics("attache_deployment_state")
    assert values, "no metric attache_deployment_state"
    return {label_of(labels, "deployment"): value for labels, value in values.items()}


def open_breakers(gateway):
    """Ids of the deployments that are out of service."""
    return {name for name, state in breakers(gateway).items() if state == 2}


def label_of(labels, name):
    return dict(part.split("=", 1) for part in labels.split(","))[name].strip('"')


def wait_open(gateway, *ids, seconds=2.0):
    """Waits until the deployments are out of service; returns how long it took, in seconds."""
    began = time.monotonic()
    wait_for(f"open breakers of {ids}", lambda: set(ids) <= open_breakers(gateway), seconds)
    return time.monotonic() - began


def wait_closed(gateway, *ids, seconds=3.0):
    """Waits until a success has been observed: half-open is not closed."""
    wait_for(f"closed breakers of {ids}", lambda: all(breakers(gateway)[name] == 0 for name in ids), seconds)


def settled(gateway, seconds=3):
    """Waits until Envoy has handed over what it knows (in batches, each 100 ms), and it is settled."""
    time.sleep(0.15)
    wait_for("handed over usage", lambda: gateway.stack.pending() == 0, seconds)
    time.sleep(0.1)


def explain(gateway, model, key=None, status=200, **body):
    """`x-attache-route: explain` as JSON."""
    answer = gateway.post(chat(model, **body), key=key or gateway.master_key, headers={"x-attache-route": "explain"})
    assert answer.status_code == status, answer.text
    return answer.json()


def used(gateway, model, what):
    """What the routing decision believes to be in use of each deployment of a group: `in_flight`, `rpm`, `tpm`."""
    found = {}
    for group in explain(gateway, model)["groups"]:
        for deployment in group["deployments"]:
            values = [usage["used"] for usage in deployment["usage"] if usage["what"] == what]
            assert values, deployment
            found[deployment["deployment"]] = values[0]
    return found


def client_of(gateway, connections=100):
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.Client(base_url=gateway.url, timeout=30, trust_env=False, limits=limits)
