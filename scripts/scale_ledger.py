#!/usr/bin/env python3
"""Ten million rows in the ledger: how long a page of /spend/logs and daily activity take. One table.

    scripts/scale_ledger.py [--rows 10000000] [--days 30] [--calls 200]

Rows are generated in a private Postgres, day by day, with their daily aggregates; then the admin API is asked through
Envoy, one call after the other, with other days, keys and pages each time.
"""

import argparse
import datetime
import http.client
import json
import random
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import LOCAL, Failure, main, say  # noqa: E402
from scale import CONFIG, Table, percentile  # noqa: E402
from servers import Postgres  # noqa: E402
from stack import Stack  # noqa: E402

KEYS, TEAMS, USERS = 2_000, 100, 1_000
WANTED_P95_MS = 100.0
DAY_US = 86_400_000_000
# With indexes and what Postgres needs beside.
BYTES_PER_ROW = 1_200

# Uses are skewed, as those of real keys: half of all rows are of a sixteenth of the keys.
ROWS = """
INSERT INTO {part} (start_us, duration_us, first_event_us, cost_nanos, prompt_tokens, completion_tokens, total_tokens,
    cached_tokens, cache_write_tokens, reasoning_tokens, status, attempts, fallbacks, stream, estimated, call_id, request_id, key_hash,
    user_id, team_id, end_user, tags, endpoint, model, model_group, deployment, provider, provider_model, outcome)
SELECT {first} + i * {step}, 400000 + i % 900000, CASE WHEN i % 3 = 0 THEN 90000 END, p * 2500 + c * 10000, p, c, p + c,
    0, 0, 0, CASE WHEN ok THEN 200 ELSE 500 END, 1, 0, i % 3 = 0, i % 50 = 0,
    MD5({day} || '/' || i), MD5(i || '/' || {day}), MD5('key' || k) || MD5('yek' || k),
    'user-' || k % {users}, 'team-' || k % {teams}, CASE WHEN i % 4 = 0 THEN 'customer-' || i % 500 END,
    CASE WHEN i % 5 = 0 THEN '["search"]' END, 'chat/completions', m, m, m || '-1', 'openai', m,
    CASE WHEN ok THEN 'success' ELSE 'failure' END
FROM (SELECT i, 20 + i % 3000 AS p, 5 + i % 700 AS c, i % 40 <> 0 AS ok, FLOOR({keys} * POWER(RANDOM(), 4))::int AS k,
    (ARRAY['gpt-4o', 'gpt-4o-mini', 'o3', 'gpt-4.1'])[(1 + i % 4)::int] AS m FROM GENERATE_SERIES(0::bigint, {count} - 1) AS i) AS made
"""
DAILY = """
INSERT INTO attache_daily (kind, id, day, key_hash, model, model_group, provider, endpoint, requests, successes, failures,
    prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, nanos, unpriced, estimated, duration_us)
SELECT kind, id, {day}, of_key, provider_model, model_group, provider, endpoint, COUNT(*),
    COUNT(*) FILTER (WHERE outcome = 'success'), COUNT(*) FILTER (WHERE outcome = 'failure'), SUM(prompt_tokens),
    SUM(completion_tokens), 0, 0, SUM(cost_nanos), 0, COUNT(*) FILTER (WHERE estimated), SUM(duration_us)
FROM (SELECT 'total' AS kind, '' AS id, '' AS of_key, * FROM {part} UNION ALL SELECT 'key', key_hash, key_hash, * FROM {part}
    UNION ALL SELECT 'user', user_id, key_hash, * FROM {part}
    UNION ALL SELECT 'team', team_id, key_hash, * FROM {part} UNION ALL SELECT 'customer', end_user, key_hash, * FROM {part} WHERE end_user IS NOT NULL
    UNION ALL SELECT 'tag', 'search', key_hash, * FROM {part} WHERE tags IS NOT NULL) AS counted
GROUP BY kind, id, of_key, provider_model, model_group, provider, endpoint
"""
ENTITIES = """
INSERT INTO attache_entities (kind, id, account, name, team_id, user_id, blocked, settings, spend_nanos, spend_reset_ms, created_ms,
    updated_ms)
SELECT 'team', 'team-' || i, 'team-' || i, '', NULL, NULL, FALSE, '{{}}', 0, 0, 0, 0 FROM GENERATE_SERIES(0, {teams} - 1) AS i
UNION ALL
SELECT 'user', 'user-' || i, 'user-' || i, '', NULL, NULL, FALSE, '{{}}', 0, 0, 0, 0 FROM GENERATE_SERIES(0, {users} - 1) AS i
UNION ALL
SELECT 'key', MD5('key' || i) || MD5('yek' || i), MD5('key' || i) || MD5('yek' || i), 'sk-...' || i, 'team-' || i % {teams},
    'user-' || i % {users}, FALSE, '{{}}', 0, 0, 0, 0 FROM GENERATE_SERIES(0, {keys} - 1) AS i
"""


def fill(connection, rows, days):
    """The last so many days, today included; each is made apart and attached, so that its indexes are built at once."""
    today = int(time.time()) // 86_400
    sizes = {"keys": KEYS, "teams": TEAMS, "users": USERS}
    connection.execute(ENTITIES.format(**sizes))
    for day in range(today - days + 1, today + 1):
        part = f"attache_spend_{datetime.date.fromordinal(datetime.date(1970, 1, 1).toordinal() + day):%Y%m%d}"
        first, count = day * DAY_US, rows // days
        connection.execute(f"DROP TABLE IF EXISTS {part}")
        connection.execute(f"CREATE TABLE {part} (LIKE attache_spend INCLUDING DEFAULTS, "
                           f"CONSTRAINT of_its_day CHECK (start_us >= {first} AND start_us < {first + DAY_US}))")
        connection.execute(ROWS.format(part=part, first=first, step=DAY_US // count, day=day, count=count, **sizes))
        connection.execute(DAILY.format(part=part, day=day))
        connection.execute(f"ALTER TABLE attache_spend ATTACH PARTITION {part} FOR VALUES FROM ({first}) TO ({first + DAY_US})")
    connection.execute("VACUUM ANALYZE attache_spend, attache_daily, attache_entities")


def key_hash(connection, number):
    return connection.execute(f"SELECT MD5('key{number}') || MD5('yek{number}')").fetchone()[0]


class Api:
    """Calls of the admin API over one connection."""

    def __init__(self, stack):
        host, port = stack.listen.split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=60)
        self.headers = {"authorization": f"Bearer {stack.master_key}"}

    def time(self, path, **query):
        """Milliseconds and the answer."""
        begun = time.perf_counter()
        self.connection.request("GET", f"{path}?{urlencode(query)}", headers=self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        took = (time.perf_counter() - begun) * 1000
        if answer.status != 200:
            raise Failure(f"{path}?{urlencode(query)} was answered {answer.status}: {text[:500]}")
        return took, json.loads(text)


def day(days_ago):
    return f"{datetime.datetime.now(datetime.timezone.utc).date() - datetime.timedelta(days=days_ago):%Y-%m-%d}"


def questions(days, hashes):
    """Name -> (path, query of the n-th call, where its answer lists what was found)."""
    pick = random.Random(7)

    def span(length):
        end = pick.randrange(0, max(days - length, 1))
        return {"start_date": day(end + length - 1), "end_date": day(end)}

    def logs(length, **more):
        return {**span(length), "page_size": 50, **{name: value() for name, value in more.items()}}

    def activity(length, **more):
        return {**span(length), **{name: value() for name, value in more.items()}}

    one_page, team, user = (lambda: pick.randint(1, 40)), (lambda: f"team-{pick.randrange(TEAMS)}"), (
        lambda: f"user-{pick.randrange(USERS)}")
    key, week, whole = (lambda: pick.choice(hashes)), (lambda: pick.randint(1, -(-days // 7))), (lambda: days)
    return {
        "/spend/logs/v2, a day, pages 1 to 40": ("/spend/logs/v2", lambda: logs(1, page=one_page), "data"),
        "/spend/logs/v2, all days, first page": ("/spend/logs/v2", lambda: logs(days), "data"),
        "/spend/logs/v2, a key, all days": ("/spend/logs/v2", lambda: logs(days, api_key=key), "data"),
        "/spend/logs/v2, a team, 7 days": ("/spend/logs/v2", lambda: logs(7, team_id=team), "data"),
        "/spend/logs/v2, a user, 7 days": ("/spend/logs/v2", lambda: logs(7, user_id=user), "data"),
        "/user/daily/activity, all, 7 days": ("/user/daily/activity", lambda: activity(7), "results"),
        "/user/daily/activity, all days, any page": ("/user/daily/activity", lambda: activity(days, page=week), "results"),
        "/user/daily/activity, a user, all days": ("/user/daily/activity", lambda: activity(days, page_size=whole, user_id=user), "results"),
        "/team/daily/activity, a team, all days": ("/team/daily/activity", lambda: activity(days, page_size=whole, team_ids=team), "results"),
    }


def measure(stack, hashes, days, calls, table):
    api = Api(stack)
    for what, (path, query, found) in questions(days, hashes).items():
        taken, empty = [], 0
        for _ in range(calls):
            took, answer = api.time(path, **query())
            taken.append(took)
            empty += not answer.get(found)
        p95 = percentile(taken, 95)
        table.row(what, f"p50 {percentile(taken, 50):.1f} ms, p95 {p95:.1f} ms", f"below {WANTED_P95_MS:.0f} ms", p95 < WANTED_P95_MS)
        if empty > calls // 2:
            raise Failure(f"{what}: {empty} of {calls} answers had nothing in {found!r}")


def scale():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--calls", type=int, default=200, help="of each kind")
    arguments = parser.parse_args()
    import psycopg  # in the virtual environment

    folder = LOCAL / "run" / "scale-ledger"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    postgres, table = Postgres(folder), Table()
    free = shutil.disk_usage(postgres.home).free
    if free < arguments.rows * BYTES_PER_ROW:
        postgres.remove()
        raise Failure(f"{postgres.home} has {free >> 30} GiB free, {arguments.rows * BYTES_PER_ROW >> 30} are needed")
    try:
        postgres.start()
        with Stack(config, folder / "stack", environment={"DATABASE_URL": postgres.url}, own_provider=True) as stack:
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                begun = time.monotonic()
                say(f"making {arguments.rows:,} rows over {arguments.days} days")
                fill(connection, arguments.rows, arguments.days)
                rows, size = connection.execute(
                    "SELECT (SELECT COUNT(*) FROM attache_daily), PG_DATABASE_SIZE(CURRENT_DATABASE())").fetchone()
                say(f"made in {time.monotonic() - begun:.0f} s; {rows:,} daily sums, {size / 2**30:.1f} GiB")
                hashes = [key_hash(connection, number) for number in range(0, KEYS, 50)]
            measure(stack, hashes, arguments.days, arguments.calls, table)
    finally:
        postgres.remove()
    if table.broken:
        raise Failure("does not hold: " + "; ".join(table.broken))


if __name__ == "__main__":
    main(scale)
