"""What the routing tests share: their groups, and states of deployments."""

import time

from asking import Facts, ask, client_of, counted, expect, fresh_minute, seconds_left, settled  # noqa: F401 - for the tests
from harness import REFUSED, chat, deployment
from project import wait_for

FACTS = Facts("rpm", "tpm", "in_flight", "cooldown", "half_open", "redis")


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
