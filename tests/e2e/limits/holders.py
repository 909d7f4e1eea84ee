"""What the limits tests share: models with a price, and everyone who may have a limit or a budget."""

import uuid

from asking import Facts, ask, settled
from harness import deployment
from project import wait_for

FACTS = Facts("rpm", "parallel", "budget", "ledger", "flood")

# Dollars per token: a call with 8 prompt tokens (what the gate makes of the question) and 1,000 completion tokens.
PRICE = {"input_cost_per_token": 0.00001, "output_cost_per_token": 0.00002}
PROMPT, COMPLETION = 8, 1000
COST_NANOS = PROMPT * 10_000 + COMPLETION * 20_000
PAID = f"*=usage:{PROMPT}/{COMPLETION}"


def config(**general):
    def group(name, info=None, **params):
        return deployment(name, name, info={"id": name, **(info or {})}, **{**PRICE, **params})

    return {
        "model_list": [
            group("lim"), group("lim-other"), group("lim-slow"), group("lim-fails"),
            group("lim-cheap", input_cost_per_token=0.000001, output_cost_per_token=0.000002),
            group("lim-beta", info={"access_groups": ["beta"]}),
        ],
        "router_settings": {"num_retries": 0, "context_window_fallbacks": [{"lim-fails": ["lim-cheap"]}]},
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1, **general},
    }


def name(kind):
    return f"{kind}-{uuid.uuid4().hex[:10]}"


def call(gateway, path, body=None, method="POST"):
    return gateway.stack.call(method, path, body)


def spend(gateway, model="lim", key=None, script=PAID, **body):
    """One call that costs COST_NANOS, and says so beforehand."""
    return ask(gateway, model, script, key=key, max_tokens=COMPLETION, **body)


class Holder:
    """Someone with limits: the key to use, and what a request in their name says."""

    def __init__(self, kind, key, id=None, request=None, model="lim"):
        self.kind, self.key, self.id, self.request, self.model = kind, key, id, request or {}, model

    def ask(self, gateway, script=None, **more):
        return ask(gateway, self.model, script, key=self.key, **{**self.request, **more})

    def spend(self, gateway, **more):
        return spend(gateway, self.model, self.key, **{**self.request, **more})


def key(gateway, **limits):
    alias = name("key")
    return Holder("key", gateway.key(key_alias=alias, **limits), alias)


def user(gateway, **limits):
    made = call(gateway, "/user/new", {"user_id": name("user"), "auto_create_key": False, **limits})
    return Holder("user", gateway.key(user_id=made["user_id"]), made["user_id"])


def team(gateway, **limits):
    made = call(gateway, "/team/new", {"team_id": name("team"), **limits})
    return Holder("team", gateway.key(team_id=made["team_id"]), made["team_id"])


def member(gateway, **limits):
    """A team whose members have these limits each."""
    ours = {f"team_member_{what.replace('max_budget', 'budget')}": value for what, value in limits.items()}
    team_id, user_id = name("team"), name("user")
    call(gateway, "/team/new", {"team_id": team_id, **ours})
    call(gateway, "/team/member_add", {"team_id": team_id, "member": {"user_id": user_id, "role": "user"}})
    return Holder("team_member", gateway.key(team_id=team_id, user_id=user_id), user_id)


def organization(gateway, **limits):
    made = call(gateway, "/organization/new", {"organization_alias": name("org"), **limits})
    team_id = call(gateway, "/team/new", {"team_id": name("team"), "organization_id": made["organization_id"]})["team_id"]
    return Holder("organization", gateway.key(team_id=team_id), made["organization_id"])


def end_user(gateway, **limits):
    user_id = name("customer")
    call(gateway, "/customer/new", {"user_id": user_id, **limits})
    return Holder("end_user", gateway.key(), user_id, {"user": user_id})


def tag(gateway, **limits):
    tag = name("tag")
    call(gateway, "/tag/new", {"name": tag, **limits})
    return Holder("tag", gateway.key(), tag, {"metadata": {"tags": [tag]}})


def key_model(gateway, **limits):
    """A key with limits for one model; budgets in LiteLLM's shape."""
    ours = {f"model_{what}": {"lim": value} for what, value in limits.items() if what != "max_budget"}
    if "max_budget" in limits:
        ours["model_max_budget"] = {"lim": {"budget_limit": limits["max_budget"], "time_period": "30d"}}
    return Holder("model_per_key", gateway.key(**ours))


EVERYONE = [key, user, team, member, organization, end_user, tag, key_model]


def info(gateway, key):
    return gateway.stack.call("GET", f"/key/info?key={key}")["info"]


def spent(gateway, key):
    """Nano-dollars in the ledger, once every request that was made is in it."""
    settled(gateway, 10)
    wait_for("rows in the database", lambda: gateway.metric("attache_ledger_queue_rows") == 0, 10)
    return round(info(gateway, key)["spend"] * 1_000_000_000)
