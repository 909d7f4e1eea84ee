"""Holds the ledger against the provider's own books: every attempt that was served, every row, every sum.

Money is integers throughout: nano-dollars for amounts, femto-dollars per token for prices.
"""

import collections
import json
import sqlite3

FEMTO_PER_NANO = 1_000_000


def cost(price, prompt, completion):
    """Nano-dollars of one attempt, rounded half up once. `price` is (input, output), femto-dollars per token."""
    return (prompt * price[0] + completion * price[1] + FEMTO_PER_NANO // 2) // FEMTO_PER_NANO


def served(path):
    """The provider's books by `x-request-id`: attempts in the order in which they ended."""
    books = collections.defaultdict(list)
    for line in path.read_text().splitlines():
        attempt = json.loads(line)
        books[attempt["request"]].append(attempt)
    return books


class Database:
    """Reads a ledger, Postgres (a URL) or SQLite (a path), past the gateway."""

    def __init__(self, where):
        self.where = str(where)

    def query(self, text):
        """Rows of a statement, as dictionaries."""
        if self.where.startswith("postgres"):
            import psycopg  # in the virtual environment
            from psycopg.rows import dict_row

            with psycopg.connect(self.where, row_factory=dict_row) as connection:
                return connection.execute(text).fetchall()
        connection = sqlite3.connect(self.where, timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(text).fetchall()]
        finally:
            connection.close()

    def rows(self):
        return self.query("SELECT call_id, request_id, key_hash, team_id, user_id, status, outcome, attempts, prompt_tokens, "
                          "completion_tokens, estimated, cost_nanos FROM attache_spend")

    def spend(self, kind):
        """Stored spend of entities by id, nano-dollars."""
        found = self.query(f"SELECT id, spend_nanos FROM attache_entities WHERE kind = '{kind}'")
        return {row["id"]: int(row["spend_nanos"]) for row in found}

    def daily(self, kind, column="id"):
        """Sums of the daily aggregates of a kind by `column`: (requests, prompt tokens, completion tokens, nano-dollars)."""
        found = self.query(f"SELECT {column} AS name, SUM(requests) AS r, SUM(prompt_tokens) AS p, SUM(completion_tokens) AS c, "
                           f"SUM(nanos) AS n FROM attache_daily WHERE kind = '{kind}' GROUP BY {column}")
        return {row["name"]: tuple(int(row[part]) for part in "rpcn") for row in found}


def sums(rows, column):
    """The same, from the rows; those without a value in the column are left out."""
    found = collections.defaultdict(lambda: [0, 0, 0, 0])
    for row in rows:
        name = row[column] if column else ""
        if name is not None:
            for at, part in enumerate((1, row["prompt_tokens"], row["completion_tokens"], row["cost_nanos"] or 0)):
                found[name][at] += int(part)
    return {name: tuple(parts) for name, parts in found.items()}


class Audit:
    """What is wrong, and figures of what is right."""

    def __init__(self, books, rows, prices):
        """`prices`: (input, output) in femto-dollars per token by upstream name."""
        self.books, self.rows, self.prices = books, rows, prices
        self.wrong, self.figures = collections.Counter(), collections.Counter()
        self.examples = {}

    def note(self, what, example):
        self.wrong[what] += 1
        self.examples.setdefault(what, example)

    def once(self):
        """Every request that was served has exactly one row, and every row with tokens or attempts was served."""
        by_request = collections.defaultdict(list)
        for row in self.rows:
            by_request[row["request_id"]].append(row)
        for request, attempts in self.books.items():
            found = by_request.get(request, ())
            if len(found) != 1:
                self.note("served without a row" if not found else "served once, more than one row", (request, attempts, found))
            self.figures["served requests"] += 1
            self.figures["served attempts"] += len(attempts)
        for request, found in by_request.items():
            self.figures["rows"] += len(found)
            if request in self.books:
                continue
            self.figures["rows of refused requests"] += len(found)
            for row in found:
                if row["estimated"] and row["outcome"] == "aborted" and not row["completion_tokens"]:
                    # Its client left while the request was on the way: Envoy had sent it, the provider never began.
                    self.figures["estimates of requests that were on the way"] += 1
                    continue
                if row["cost_nanos"] or row["prompt_tokens"] or row["completion_tokens"] or row["outcome"] == "success":
                    self.note("a row with use that nobody served", row)
        return self

    def amounts(self):
        """Tokens are the provider's, where it told them; costs follow from them."""
        total = 0
        for row in self.rows:
            attempts = self.books.get(row["request_id"], ())
            told = [attempt for attempt in attempts if attempt["told"]]
            silent = [a for a in attempts if a["status"] == 200 and not a["told"]]
            tokens = sum(a["prompt"] for a in told), sum(a["completion"] for a in told)
            nanos = sum(cost(self.prices[a["name"]], a["prompt"], a["completion"]) for a in told)
            ours = row["prompt_tokens"], row["completion_tokens"]
            if row["estimated"]:
                self.figures["estimated rows"] += 1
                left = any(a["end"] == "left" for a in attempts) or row["outcome"] == "aborted"
                if not silent and not left:
                    self.note("estimated, though the provider told", (row, attempts))
                # Who saw the client leave decides, not the provider, whose last words may have met nobody.
                nanos = cost(self.prices[attempts[-1]["name"]], *ours) if len(attempts) == 1 else int(row["cost_nanos"])
            elif ours != tokens:
                self.note("tokens are not the provider's", (row, attempts))
            elif any(a["end"] == "whole" for a in silent):
                self.note("a whole answer without usage is not estimated", (row, attempts))
            else:
                self.figures["exact rows"] += 1
            if row["cost_nanos"] is None or int(row["cost_nanos"]) != nanos:
                self.note("the cost is not that of the tokens", (row, nanos, attempts))
            total += nanos or 0
        self.figures["nano-dollars by the provider's books"] = total
        self.figures["nano-dollars in the ledger"] = sum(int(row["cost_nanos"] or 0) for row in self.rows)
        return self

    def agrees(self, what, wanted, found):
        """Two tables of the same thing; who is missing counts as nothing."""
        def nothing(value):
            return not any(value) if isinstance(value, tuple) else not value

        self.figures[what] = len(wanted)
        for name in set(wanted) | set(found):
            ours, theirs = wanted.get(name), found.get(name)
            if ours != theirs and not (nothing(ours) and nothing(theirs)):
                self.note(f"{what} differ", (name, "rows", ours, "found", theirs))
        return self

    def raise_if_wrong(self):
        if self.wrong:
            shown = [f"{count} x {what}, e.g. {self.examples[what]}" for what, count in self.wrong.items()]
            raise AssertionError("the ledger is wrong:\n" + "\n".join(shown))
        return self
