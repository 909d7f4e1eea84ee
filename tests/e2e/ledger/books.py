"""What the ledger tests share: priced models, the database past the gateway, and a quiet gateway."""

from asking import Facts, settled
from audit import Database, cost
from harness import deployment
from project import wait_for

FACTS = Facts("chaos", "rows", "balance", "envoy-kill", "embedded")

# Femto-dollars per token, (input, output), by group; each group has one deployment of the same name.
PRICES = {
    "led": (730_000_000, 2_910_000_000),
    "led-spare": (123_456_700, 765_432_100),
    "led-broken": (1_000_000_001, 3_000_000_003),
}


def decimal(femto):
    """Dollars. The shortest decimal number that reads as this float is the one of the femto-dollars."""
    return float(f"{femto}e-15")


def group(name, **params):
    price = PRICES[name]
    return deployment(name, name, info={"id": name}, **{
        "input_cost_per_token": decimal(price[0]), "output_cost_per_token": decimal(price[1]), **params})


def config(**general):
    return {
        "model_list": [group(name) for name in PRICES],
        "router_settings": {"num_retries": 0, "allowed_fails": 100_000, "timeout": 20,
                            "fallbacks": [{"led-broken": ["led-spare"]}]},
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1, **general},
    }


def price(name, prompt, completion):
    """Nano-dollars of one attempt."""
    return cost(PRICES[name], prompt, completion)


def database(gateway):
    """The gateway's database, read past it."""
    if gateway.postgres:
        return Database(gateway.postgres.url)
    found = [path for path in gateway.stack.data.iterdir() if path.suffix == ".db"]
    assert len(found) == 1, found
    return Database(found[0])


def quiet(gateway, seconds=30):
    """Waits until everything that was used is in the database."""
    settled(gateway, seconds)
    wait_for("rows in the database", lambda: gateway.metric("attache_ledger_queue_rows") == 0, seconds, 0.1)


def row_of(gateway, outcome):
    """The stored row of a request, every column."""
    quiet(gateway)
    found = database(gateway).query(f"SELECT * FROM attache_spend WHERE call_id = '{outcome.call_id}'")
    assert len(found) == 1, found
    return found[0]
