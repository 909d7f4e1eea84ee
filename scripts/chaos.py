#!/usr/bin/env python3
"""Everything dies, and the ledger balances: sidecar, Redis, Postgres and Envoy go and come back under load.

    scripts/chaos.py [--requests 20000] [--rate 200] [--postgres-seconds 30] [--backend redis+postgres|embedded]

The provider's own books are the truth. In the end every request that it served is in the database exactly once, with its
tokens; sums of costs are the provider's, and equal the budget counters, the daily aggregates and the stored spend, to the
nano-dollar.
"""

import argparse
import collections
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent))
from audit import Audit, Database, served, sums  # noqa: E402
from customers import Customers  # noqa: E402
from project import ATTACHE, LOCAL, Failure, main, say, wait_for  # noqa: E402
from servers import Postgres, Redis  # noqa: E402
from stack import Stack, http  # noqa: E402

# Femto-dollars per token, (input, output), by upstream.
PRICES = {"main": (730_000_000, 2_910_000_000), "first": (1_000_000_001, 3_000_000_003), "spare": (123_456_700, 765_432_100)}
TEAMS, KEYS_PER_TEAM = 3, 3
TAGS = ["search", "mail"]
# A reservation that nobody settles (the sidecar died with it) holds money for as long as its request might have taken.
TIMEOUT = 3


def model(name):
    prices = {f"{side}_cost_per_token": float(f"{price}e-15") for side, price in zip(("input", "output"), PRICES[name])}
    return {"model_name": name, "model_info": {"id": name}, "litellm_params": {
        "model": "openai/gpt-4o", "api_base": "${FAKE_PROVIDER_URL}/" + name + "/v1", "api_key": "sk-upstream-chaos-1111", **prices}}


def configuration(shared):
    config = {
        "model_list": [model(name) for name in PRICES],
        "router_settings": {"num_retries": 0, "allowed_fails": 1_000_000, "timeout": TIMEOUT, "fallbacks": [{"first": ["spare"]}]},
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1},
    }
    if shared:
        config["general_settings"]["database_url"] = "${DATABASE_URL}"
        config["router_settings"].update(redis_host="os.environ/REDIS_HOST", redis_port="os.environ/REDIS_PORT",
                                         redis_password="os.environ/REDIS_PASSWORD")
    return config


class World:
    """A gateway with stores of its own, and customers with budgets."""

    def __init__(self, folder, backend="redis+postgres", concurrency=2):
        folder.mkdir(parents=True, exist_ok=True)
        self.shared, self.redis, self.postgres, environment = backend != "embedded", None, None, {}
        if self.shared:
            self.redis, self.postgres = Redis(folder).start(), Postgres(folder).start()
            environment = {"DATABASE_URL": self.postgres.url, "REDIS_HOST": self.redis.host,
                           "REDIS_PORT": str(self.redis.port), "REDIS_PASSWORD": self.redis.password}
        path = folder / "config.json"  # JSON is YAML
        path.write_text(json.dumps(configuration(self.shared), indent=1))
        self.stack = Stack(path, folder / "stack", environment=environment, provider_log=True, concurrency=concurrency)
        self.events = []

    def __enter__(self):
        try:
            self.stack.start()
            self._customers()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stack.kill()
        if self.shared:
            self.redis.stop()
            self.postgres.remove()

    def _customers(self):
        """Teams and keys with budgets that nobody uses up, for ever and by the month."""
        self.keys, self.teams = {}, []
        for number in range(TEAMS):
            team = self.stack.call("POST", "/team/new", {"team_id": f"team-{number}", "max_budget": 1e6})["team_id"]
            self.teams.append(team)
            for each in range(KEYS_PER_TEAM):
                window = {"budget_duration": "30d"} if each == 1 else {}
                alias = f"key-{number}-{each}"
                made = self.stack.call("POST", "/key/generate", {"key_alias": alias, "team_id": team, "max_budget": 1e5,
                                                                 "user_id": f"user-{number}", **window})
                self.keys[alias] = (made["key"], made.get("token") or made.get("token_id"))

    def database(self):
        return Database(self.postgres.url if self.shared else self.stack.data / "attache.db")

    def metric(self, name):
        text = http("GET", f"{self.stack.health_url}/metrics")[1]
        values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(map(float, values)) if values else None

    # -- what goes wrong ---------------------------------------------------------------------------------------------
    def event(self, text):
        self.events.append(text)
        say(f"{time.monotonic() - self.begun:6.1f} s  {text}")

    def kill_sidecar(self, down=0.7):
        self.event("sidecar killed")
        self.stack.sidecar.stop(signal.SIGKILL)
        time.sleep(down)
        self.stack.start_sidecar()
        self.stack.wait_ready()

    def kill_redis(self, down=1.5, sidecar=False):
        self.event("Redis killed, and comes back empty" + (", the sidecar killed with it" if sidecar else ""))
        self.redis.stop(signal.SIGKILL)
        if sidecar:
            time.sleep(0.2)
            self.stack.sidecar.stop(signal.SIGKILL)
        time.sleep(down)
        self.redis.start()
        if sidecar:
            self.stack.start_sidecar()
            self.stack.wait_ready()

    def stop_postgres(self, seconds):
        """The sidecar is killed in the middle of it: until the database is back, its successor knows no key."""
        self.event(f"Postgres stopped for {seconds:.0f} s")
        self.postgres.stop()
        time.sleep(seconds - 3)
        self.kill_sidecar()
        time.sleep(2)
        self.postgres.start()
        self.event("Postgres back")

    def restart_envoy(self):
        self.event("Envoy drains")
        if not self.stack.drain(30):
            raise Failure("Envoy did not drain")
        self.stack.envoy.stop()
        self.stack.start_envoy()
        self.stack.wait_ready()
        self.event("Envoy back")

    def script(self, postgres_seconds):
        """(share of the requests that are done, what happens then)."""
        if not self.shared:
            return [*((share, self.kill_sidecar) for share in (0.1, 0.25, 0.4, 0.7, 0.85)), (0.55, self.restart_envoy)]
        return [(0.08, self.kill_sidecar), (0.18, self.kill_redis), (0.28, self.kill_sidecar),
                (0.36, lambda: self.stop_postgres(postgres_seconds)), (0.54, self.restart_envoy), (0.68, self.kill_sidecar),
                (0.82, lambda: self.kill_redis(sidecar=True))]

    def storm(self, requests, rate, postgres_seconds=30):
        """All of it, beside the load. Raises what the script raises."""
        customers = Customers(self.stack.listen, [key for key, _ in self.keys.values()], TAGS)
        failures = []
        self.begun = time.monotonic()

        def disturb():
            try:
                for share, act in sorted(self.script(postgres_seconds), key=lambda step: step[0]):
                    wait_for("progress", lambda share=share: customers.done >= share * requests, 600, 0.05)
                    act()
            except BaseException as failure:  # noqa: BLE001 - raised below
                failures.append(failure)

        # Children die with the thread that started them: the disturber is this one, the load runs in another.
        load = threading.Thread(target=customers.run, args=(requests, rate), daemon=True)
        load.start()
        disturb()
        load.join(600)
        if failures:
            raise failures[0]
        if load.is_alive() or customers.unserved:
            raise Failure(f"not everything was served: {customers.done} of {requests}, given up {customers.unserved[:5]}")
        return customers

    # -- when it is quiet --------------------------------------------------------------------------------------------
    def quiesce(self, seconds=120):
        """Until everything is in the database and no reservation runs."""
        wait_for("requests in progress", lambda: self.stack.active() == 0, seconds, 0.1)
        time.sleep(1)  # what has just ended is told with the next tick
        wait_for("usage handed over", lambda: self.stack.pending() == 0, seconds, 0.1)
        wait_for("rows in the database", lambda: self.metric("attache_ledger_queue_rows") == 0, seconds, 0.1)

    def counters(self):
        """Budget counters as limits would use them, nano-dollars: by key (alias) and by team."""
        keys, teams = {}, collections.defaultdict(set)
        for alias, (_, token) in self.keys.items():
            found = self.stack.call("GET", f"/router/explain?model=main&key={quote(token or alias)}")
            for limit in found["limits"]:
                if limit["limit_type"] != "max_budget":
                    continue
                if "team" in limit["entity_type"]:
                    teams[limit["entity_id"]].add(limit["used"])
                else:
                    keys[alias] = limit["used"]
        return keys, {team: next(iter(used)) if len(used) == 1 else used for team, used in teams.items()}

    def counters_follow(self, rows, seconds=150):
        """Until counters and rows agree. Returns (seconds, largest difference at the first look)."""
        by_key, by_team = sums(rows, "key_hash"), sums(rows, "team_id")
        wanted_keys = {alias: by_key.get(token, (0,) * 4)[3] for alias, (_, token) in self.keys.items()}
        wanted_teams = {team: by_team.get(team, (0,) * 4)[3] for team in self.teams}
        begun, first = time.monotonic(), None
        while True:
            keys, teams = self.counters()
            off = {name: (wanted, found.get(name)) for table, found in ((wanted_keys, keys), (wanted_teams, teams))
                   for name, wanted in table.items() if wanted != found.get(name)}
            if first is None:
                first = max((abs(a - b) for a, b in off.values() if isinstance(b, int)), default=0)
            if not off:
                if sum(keys.values()) != sum(row["cost_nanos"] or 0 for row in rows if row["key_hash"] in by_key) or not rows:
                    raise Failure("the counters of keys do not add up to the ledger")
                return time.monotonic() - begun, first
            if time.monotonic() > begun + seconds:
                raise Failure(f"counters are not the ledger's sums (ledger, counter): {off}")
            time.sleep(1)

    def verify(self):
        """What the gateway itself says of its ledger."""
        command = [ATTACHE, "spend", "verify", "--config", self.stack.config, "--data-dir", self.stack.data]
        done = subprocess.run([str(part) for part in command], env=self.stack.environment, text=True, capture_output=True, check=False)
        if done.returncode:
            raise Failure(f"`attache spend verify` ended with status {done.returncode}:\n{done.stdout}{done.stderr}")

    def audit(self):
        """The ledger against the provider's books; an AssertionError says what is wrong."""
        database = self.database()
        rows = database.rows()
        audit = Audit(served(self.stack.provider.books), rows, PRICES).once().amounts()
        self.sums(audit, database, rows)
        return audit.raise_if_wrong(), rows

    def sums(self, audit, database, rows):
        """Sums that are kept are those of the rows."""
        spend = {kind: {name: total[3] for name, total in sums(rows, column).items()}
                 for kind, column in (("key", "key_hash"), ("team", "team_id"), ("user", "user_id"))}
        for kind, wanted in spend.items():
            found = database.spend(kind)
            audit.agrees(f"stored spend of {kind}s", {name: wanted.get(name, 0) for name in found}, found)
        tables = {row["name"] for row in database.query(
            "SELECT table_name AS name FROM information_schema.tables" if self.shared else "SELECT name FROM sqlite_master")}
        if "attache_daily" in tables:
            audit.agrees("daily sums of all", sums(rows, None), database.daily("total"))
            audit.agrees("daily sums of keys", sums(rows, "key_hash"), database.daily("key"))
            audit.agrees("daily sums of teams", sums(rows, "team_id"), database.daily("team"))
            audit.agrees("daily sums of users", sums(rows, "user_id"), database.daily("user"))


def prove(world, requests, rate, postgres_seconds):
    """The whole run. Returns the figures; raises when something does not balance."""
    begun = time.monotonic()
    customers = world.storm(requests, rate, postgres_seconds)
    took = time.monotonic() - begun
    world.quiesce()
    audit, rows = world.audit()
    seconds, off = world.counters_follow(rows)
    world.verify()
    return {"requests": requests, "seconds": took, "again": dict(customers.again), "seen": customers.seen,
            "slowest": customers.slowest, "counters_after": seconds, "off_at_first": off, **audit.figures}


def kill_envoy(world, rate=150, seconds=6):
    """Envoy dies under load with what it had not handed over. Returns how many answers have no row, how many requests were in
    progress, and how old the oldest lost answer was, milliseconds."""
    customers = Customers(world.stack.listen, [key for key, _ in world.keys.values()])
    load = threading.Thread(target=customers.run, args=(int(rate * seconds), rate), daemon=True)
    load.start()
    time.sleep(seconds * 0.6)
    killed_ms = time.time() * 1000
    world.stack.envoy.stop(signal.SIGKILL)
    world.stack.start_envoy()
    world.stack.wait_ready()
    load.join(120)
    world.quiesce()
    database, books = world.database(), served(world.stack.provider.books)
    audit = Audit(books, database.rows(), PRICES).once()
    found = {row["request_id"] for row in audit.rows}
    lost = [attempts for request, attempts in books.items() if request not in found]
    over = [attempts for attempts in lost if all(a["ended_ms"] <= killed_ms and a["end"] != "left" for a in attempts)]
    late = [a for attempts in lost for a in attempts if a["ended_ms"] > killed_ms + 2_000]
    if set(audit.wrong) - {"served without a row"} or late:
        raise Failure(f"more is wrong than the lost interval: {audit.wrong} {audit.examples} {late[:3]}")
    ages = [killed_ms - max(a["ended_ms"] for a in attempts) for attempts in over]
    return {"served": len(books), "lost": len(over), "in_progress": len(lost) - len(over), "oldest_ms": max(ages, default=0.0)}


def show(world, figures):
    for what, value in figures.items():
        if what == "seen":
            for (kind, status, whole), count in sorted(value.items()):
                print(f"    {count:6}  {kind}: {status or 'left'}{'' if whole else ', not to its end'}")
        else:
            print(f"  {what:45}{value:>20.1f}" if isinstance(value, float) else f"  {what:45}{value!s:>20}")
    print(summary(world, figures), flush=True)


def summary(world, figures):
    counts = collections.Counter(event.split(",")[0].split(" for ")[0] for event in world.events)
    counts["sidecar killed"] += sum("the sidecar killed with it" in event for event in world.events)
    happened = ", ".join(f"{event} x{count}" for event, count in counts.items() if "back" not in event)
    return (f"chaos: {figures['served requests']} served requests in {figures['seconds']:.0f} s ({happened}): "
            f"{figures['rows']} rows, 0 missing, 0 twice; ${figures['nano-dollars in the ledger'] / 1e9:.9f} in the ledger, "
            f"provider and counters differ by 0 nano-dollars (counters {figures['counters_after']:.0f} s after the last row)")


def chaos():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200, help="requests per second")
    parser.add_argument("--postgres-seconds", type=float, default=30, help="how long Postgres is away")
    parser.add_argument("--backend", default="redis+postgres", choices=["redis+postgres", "embedded"])
    arguments = parser.parse_args()
    folder = LOCAL / "run" / f"chaos-{arguments.backend.replace('+', '-')}"
    with World(folder, arguments.backend) as world:
        show(world, prove(world, arguments.requests, arguments.rate, arguments.postgres_seconds))


if __name__ == "__main__":
    main(chaos)
