#!/usr/bin/env python3
"""A million keys, a cold gate, and a flood of made-up keys. One table.

    scripts/scale.py [--keys 1000000] [--touch 200000] [--flood-rate 10000] [--flood-seconds 60]

Keys are copied into a private Postgres. Everything runs on this machine: Postgres, sidecar, Envoy, the fake provider and
the load generators share its cores, so that times under full load are those of a queue for the processor.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import LOAD, LOCAL, Failure, main, say  # noqa: E402
from servers import Postgres  # noqa: E402
from stack import Stack, http as ask  # noqa: E402

CONFIG = """
model_list:
- model_name: scale
  litellm_params: {model: openai/gpt-4o, api_base: "${FAKE_PROVIDER_URL}/scale/v1", api_key: sk-upstream-scale-1111}
general_settings:
  master_key: ${LITELLM_MASTER_KEY}
  database_url: ${DATABASE_URL}
"""
TEAMS, USERS = 1_000, 50_000
CONTRACT = 1
LOOKUPS = 5_000
WANTED_P99_MS = 5.0


# -- keys ------------------------------------------------------------------------------------------------------------
def plain(number):
    return f"sk-scale-{number:016d}"


def hashed(key):
    return hashlib.sha256(key.encode()).hexdigest()


def entities(keys):
    """Rows of attache_entities: teams, users, and keys that belong to both."""
    now = int(time.time() * 1000)

    def row(kind, id, name="", team=None, user=None, settings="{}"):
        return (kind, id, id, name, team, user, False, settings, 0, 0, now, now)

    for number in range(TEAMS):
        yield row("team", f"team-{number}")
    for number in range(USERS):
        yield row("user", f"user-{number}")
    settings = json.dumps({"models": ["scale"], "rpm_limit": 1_000_000, "metadata": {"service": "search"}})
    for number in range(keys):
        key = plain(number)
        yield row("key", hashed(key), f"sk-...{key[-4:]}", f"team-{number % TEAMS}", f"user-{number % USERS}", settings)


COLUMNS = ("kind, id, account, name, team_id, user_id, blocked, settings, spend_nanos, spend_reset_ms, created_ms, "
           "updated_ms")


class Database:
    """A client of the private Postgres, for what the gateway does not do itself."""

    def __init__(self, postgres):
        import psycopg  # in the virtual environment

        self.connection = psycopg.connect(postgres.url, autocommit=True)

    def load(self, keys):
        with self.connection.cursor() as cursor:
            with cursor.copy(f"COPY attache_entities ({COLUMNS}) FROM STDIN") as copy:
                for row in entities(keys):
                    copy.write_row(row)
            cursor.execute("VACUUM ANALYZE attache_entities")

    def one(self, query):
        return self.connection.execute(query).fetchone()

    def table(self):
        """Scans of the whole table, and of its indexes, so far."""
        self.connection.execute("SELECT pg_stat_clear_snapshot()")
        return self.one("SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'attache_entities'")

    def transactions(self):
        """Statements so far, as far as each is a transaction of its own."""
        self.connection.execute("SELECT pg_stat_clear_snapshot()")
        return self.one("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")[0]


# -- measuring -------------------------------------------------------------------------------------------------------
def rss_mib(process):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise Failure(f"no VmRSS of {process.name}")


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) * percent // 100, len(values) - 1)]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("sidecar", timeout=10)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def lookups(stack, numbers):
    """Milliseconds of the gate's own question for each of these keys, one after the other."""
    connection, times = UnixConnection(stack.socket), []
    for number in numbers:
        body = json.dumps({"contract": CONTRACT, "hash": hashed(plain(number))})
        begun = time.perf_counter()
        connection.request("POST", "/internal/v1/keys/lookup", body, {"content-type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        times.append((time.perf_counter() - begun) * 1000)
        if not answer.get("key"):
            raise Failure(f"key {number} is not known: {answer}")
    connection.close()
    return times


def load_command(stack, **options):
    """The load generator's command line."""
    options = {"target": stack.listen, "warm_up": 0, "body_bytes": 200, **options}
    command = [str(LOAD)]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        command += [flag] if value is True else [flag, str(value)]
    return command


def load(stack, **options):
    done = subprocess.run(load_command(stack, **options), check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def key_file(folder, numbers):
    path = folder / "keys.txt"
    path.write_text("".join(f"{plain(number)}\n" for number in numbers))
    return path


def metric(stack, name):
    """Sum of a metric of the sidecar."""
    text = ask("GET", f"{stack.health_url}/metrics")[1]
    lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
    if not lines:
        raise Failure(f"no metric {name}")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Flood:
    """Made-up keys beside somebody's ordinary requests."""

    def __init__(self, stack, key, model, database=None):
        self.stack, self.key, self.model, self.database = stack, key, model, database

    def ordinary(self, seconds, rate):
        # Open loop: as many at a time as there happen to be, or their wait for each other would be taken for the gateway's.
        return load(self.stack, key=self.key, model=self.model, seconds=seconds, rate=rate, concurrency=64)

    def run(self, seconds, rate, ordinary_rate, concurrency=64):
        """What became of both, what the database heard of it, and how long a key made meanwhile was unknown."""
        stack, before = self.stack, self.counts()
        flood = subprocess.Popen(load_command(stack, random_keys=True, model=self.model, expect=401, rate=rate,
                                              seconds=seconds + 1, concurrency=concurrency), text=True,
                                 stdout=subprocess.PIPE)
        try:
            time.sleep(0.5)
            fresh = {}
            newcomer = threading.Thread(target=lambda: fresh.update(self.newcomer(seconds / 2)), daemon=True)
            newcomer.start()
            ordinary = self.ordinary(seconds, ordinary_rate)
            newcomer.join(seconds + 30)
            flooded = json.loads(flood.communicate(timeout=seconds + 60)[0])
        finally:
            with contextlib.suppress(ProcessLookupError):
                flood.kill()
        after = self.counts()
        return {"ordinary": ordinary, "flood": flooded, "seconds": seconds + 1, **fresh,
                **{name: after[name] - before[name] for name in after}}

    def newcomer(self, wait):
        """Seconds from the moment that a key is made to its first good answer."""
        time.sleep(wait)
        key, begun = self.stack.new_key(key_alias=f"newcomer-{time.time_ns()}"), time.monotonic()
        body, headers = {"model": self.model, "messages": [{"role": "user", "content": "Hello"}]}, {
            "authorization": f"Bearer {key}"}
        while True:
            status, text = ask("POST", f"{self.stack.url}/v1/chat/completions", body, headers)
            if status == 200 or time.monotonic() > begun + 10:
                return {"newcomer_seconds": time.monotonic() - begun, "newcomer_status": status, "newcomer": text}
            time.sleep(0.02)

    def counts(self):
        counts = {"queries": metric(self.stack, "attache_directory_queries_total"),
                  "lookups": metric(self.stack, "attache_directory_lookups_total")}
        if self.database:
            counts["transactions"] = self.database.transactions()
        return counts


# -- the run ---------------------------------------------------------------------------------------------------------
class Table:
    def __init__(self):
        self.broken = []

    def row(self, what, value, wanted=None, holds=True):
        note = "" if wanted is None else f"{'' if holds else 'NOT '}{wanted}"
        print(f"  {what:58}{value:>34}   {note}", flush=True)
        if not holds:
            self.broken.append(what)


def times(values):
    return f"p50 {percentile(values, 50):.2f} ms, p99 {percentile(values, 99):.2f} ms"


def loaded(result):
    return f"p50 {result['p50_ms']:.2f} ms, p99 {result['p99_ms']:.2f} ms"


def good(result, what):
    if result["errors"] or not result["requests"]:
        raise Failure(f"{what}: {result}")
    return result


def memory(stack):
    return f"{rss_mib(stack.sidecar):.0f} + {rss_mib(stack.envoy):.0f} MiB"


def cold(stack, database, arguments, table):
    """Keys that nobody has used yet."""
    scans = database.table()[0]
    table.row("memory, sidecar + Envoy, at the start", memory(stack))
    found = lookups(stack, range(LOOKUPS))
    table.row(f"key lookup, {LOOKUPS:,} keys nobody knew", times(found), f"below {WANTED_P99_MS:.0f} ms",
              percentile(found, 99) < WANTED_P99_MS)
    found = lookups(stack, range(LOOKUPS))
    table.row("key lookup, the same keys again", times(found))
    first = key_file(stack.folder, range(LOOKUPS, 2 * LOOKUPS))
    options = {"keys": first, "model": "scale", "rate": 200, "concurrency": 64, "seconds": 600}
    new = good(load(stack, **options), "first requests")
    known = good(load(stack, **options), "second requests")
    table.row("whole request, first of a key (200 a second)", loaded(new))
    table.row("whole request, second of a key", loaded(known))
    rest = key_file(stack.folder, range(2 * LOOKUPS, 2 * LOOKUPS + arguments.touch))
    queries = metric(stack, "attache_directory_queries_total")
    result = good(load(stack, keys=rest, model="scale", concurrency=32, seconds=3600), "many keys")
    queries = metric(stack, "attache_directory_queries_total") - queries
    table.row(f"first requests of {arguments.touch:,} keys, as fast as they go", f"{result['rps']:.0f}/s, {loaded(result)}")
    table.row("reads of keys, teams and users for them", f"{queries:,.0f} queries")
    table.row("memory, sidecar + Envoy, after them", memory(stack), "below 600 MiB each",
              max(rss_mib(stack.sidecar), rss_mib(stack.envoy)) < 600)
    full = database.table()[0] - scans
    table.row("reads of the whole table of entities", f"{full}", "none", full == 0)


def flooded(stack, database, arguments, table):
    flood = Flood(stack, plain(0), "scale", database)
    quiet = good(flood.ordinary(10, 100), "ordinary requests")
    table.row("ordinary requests (100 a second), in quiet", loaded(quiet))
    before = rss_mib(stack.sidecar), rss_mib(stack.envoy)
    result = flood.run(arguments.flood_seconds, arguments.flood_rate, 100)
    bad, ordinary = result["flood"], result["ordinary"]
    table.row(f"made-up keys, {arguments.flood_rate:,.0f} a second wanted", f"{bad['rps']:.0f}/s for {result['seconds']:.0f} s")
    other = {status: count for status, count in bad["bad"].items() if status != "401"}
    table.row("answers to them other than 401", json.dumps(other) if other else "none")
    table.row("ordinary requests meanwhile", loaded(ordinary))
    table.row("errors among them", f"{ordinary['errors']} of {ordinary['requests']}", "none", ordinary["errors"] == 0)
    table.row("a key made meanwhile answers 200 after", f"{result['newcomer_seconds'] * 1000:.0f} ms", "within a second",
              result["newcomer_status"] == 200 and result["newcomer_seconds"] < 1)
    rate = result["queries"] / result["seconds"]
    table.row("queries for keys during the flood", f"{result['queries']:,.0f}, {rate:.0f}/s", "at most 550 a second", rate <= 550)
    table.row("transactions of Postgres during the flood", f"{result['transactions']:,.0f} for {bad['requests']:,} bad keys")
    grown = [after - start for after, start in zip((rss_mib(stack.sidecar), rss_mib(stack.envoy)), before)]
    table.row("memory that it left, sidecar + Envoy", f"{grown[0]:+.0f} {grown[1]:+.0f} MiB", "below 100 MiB each", max(grown) < 100)
    scans = database.table()
    table.row("index scans of entities in all", f"{scans[1]:,}")


def scale():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--touch", type=int, default=200_000, help="distinct keys to use")
    parser.add_argument("--flood-rate", type=float, default=10_000, help="made-up keys per second")
    parser.add_argument("--flood-seconds", type=float, default=60)
    arguments = parser.parse_args()
    if arguments.keys < arguments.touch + 2 * LOOKUPS:
        raise Failure(f"--keys must be at least --touch + {2 * LOOKUPS}")
    folder = LOCAL / "run" / "scale"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    postgres, table = Postgres(folder).start(), Table()
    try:
        with Stack(config, folder / "stack", environment={"DATABASE_URL": postgres.url},
                   concurrency=min(2, os.cpu_count() or 1)) as stack:
            database = Database(postgres)
            say(f"copying {arguments.keys:,} keys")
            begun = time.monotonic()
            database.load(arguments.keys)
            say(f"{arguments.keys:,} keys of {TEAMS:,} teams and {USERS:,} users, copied in {time.monotonic() - begun:.0f} s")
            cold(stack, database, arguments, table)
            flooded(stack, database, arguments, table)
    finally:
        postgres.remove()
    if table.broken:
        raise Failure("does not hold: " + "; ".join(table.broken))


if __name__ == "__main__":
    main(scale)
