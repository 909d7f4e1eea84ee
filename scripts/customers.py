"""Customers of a gateway in bad times: a small HTTP/1.1 client, requests of every kind, retries until they are served."""

import asyncio
import collections
import contextlib
import json
import random
import time
import uuid

# Statuses after which a customer comes again; the provider is never told to answer with one of them.
AGAIN = {401, 429, 503}
RETRY_SECONDS = 0.25
PATIENCE_SECONDS = 150


class Broken(Exception):
    """The connection ended before the answer did."""


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, address):
        self.host, self.port = address.split(":")
        self.reader = self.writer = None
        # Body of the last answer, if it said how long it is.
        self.said = b""
        # When its headers were there.
        self.headed = 0.0

    async def request(self, head, body, leave_after=None):
        """Status, headers, and whether the answer was read to its end. With `leave_after` the connection is closed after so
        many chunks; 0: as soon as the request is sent."""
        if self.writer is None:
            try:
                self.reader, self.writer = await asyncio.open_connection(self.host, int(self.port))
            except OSError as error:
                raise Broken(str(error)) from error
        try:
            self.writer.write(head + body)
            if leave_after == 0:
                await asyncio.sleep(0.03)
                self.close()
                return 0, {}, False
            status, headers = await self._head()
            self.headed = time.monotonic()
            whole = await self._body(headers, leave_after)
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            raise Broken(str(error)) from error
        if not whole or headers.get("connection") == "close":
            self.close()
        return status, headers, whole

    async def _head(self):
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.strip().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split(" ")[1]), headers

    async def _body(self, headers, leave_after):
        """Is it whole? An answer that is cut after its headers is not, and nobody asks again for it."""
        self.said = b""
        try:
            if "content-length" in headers:
                self.said = await self.reader.readexactly(int(headers["content-length"]))
                return True
            seen = 0
            while True:
                size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
                await self.reader.readexactly(size + 2)
                if size == 0:
                    return True
                seen += 1
                if leave_after and seen >= leave_after:
                    return False
        except (OSError, asyncio.IncompleteReadError, ValueError):
            return False

    def close(self):
        if self.writer is not None:
            with contextlib.suppress(OSError):
                self.writer.transport.abort()
        self.reader = self.writer = None


# Kind -> (share of all requests, group, stream, script, chunks after which the client leaves). {} is the usage.
KINDS = {
    "whole": (30, "main", False, "main=usage:{}", None),
    "stream": (30, "main", True, "main=usage:{},chunks:6,chunk-delay:4", None),
    "slow stream": (6, "main", True, "main=usage:{},chunks:20,chunk-delay:40", None),
    "fallback": (6, "first", False, "first=status:500;spare=usage:{}", None),
    "fallback of a stream": (6, "first", True, "first=error-at:0;spare=usage:{}", None),
    "error after usage": (3, "main", True, "main=usage:{},error-at:99", None),
    "error in the stream": (3, "main", True, "main=usage:{},error-at:4,chunk-delay:4", None),
    "cut connection": (3, "main", True, "main=usage:{},cut-at:5,chunk-delay:4", None),
    "cut before the answer": (2, "first", False, "first=cut;spare=usage:{}", None),
    "client leaves": (3, "main", True, "main=usage:{},chunks:40,chunk-delay:10", 5),
    "client leaves at once": (2, "main", False, "main=usage:{},delay:200", 0),
    "no usage": (2, "main", False, "main=no-usage", None),
    "no usage in a stream": (2, "main", True, "main=no-usage,chunks:9", None),
    "refused by the provider": (2, "main", False, "main=error:badrequest", None),
}


class Customers:
    """Sends so many requests at so many a second; each is repeated until the gateway lets it in."""

    def __init__(self, address, keys, tags=(), workers=64, seed=5):
        self.address, self.keys, self.tags, self.workers = address, keys, tags, workers
        self.random = random.Random(seed)
        self.next = self.done = 0
        self.seen, self.again = collections.Counter(), collections.Counter()
        self.unserved = []
        self.slowest = 0.0

    def run(self, requests, rate):
        """Returns when the last one is served or given up."""
        self.begun, self.requests, self.rate = time.monotonic(), requests, rate
        asyncio.run(self._all())
        return self

    async def _all(self):
        await asyncio.gather(*(self._worker() for _ in range(self.workers)))

    async def _worker(self):
        connection = Connection(self.address)
        while self.next < self.requests:
            number, self.next = self.next, self.next + 1
            await asyncio.sleep(max(self.begun + number / self.rate - time.monotonic(), 0))
            await self._serve(connection, number)
            self.done += 1
        connection.close()

    def _ask(self, number):
        kind = self.random.choices(list(KINDS), [kind[0] for kind in KINDS.values()])[0]
        _, group, stream, script, leave_after = KINDS[kind]
        usage = f"{self.random.randint(1, 4000)}/{self.random.randint(1, 900)}"
        body = {"model": group, "stream": stream, "max_tokens": 900, "messages": [{"role": "user", "content": f"question {number}"}]}
        if self.tags and number % 4 == 0:
            body["metadata"] = {"tags": [self.random.choice(self.tags)]}
        return kind, json.dumps(body).encode(), script.replace("{}", usage), leave_after

    async def _serve(self, connection, number):
        kind, body, script, leave_after = self._ask(number)
        key, begun = self.keys[number % len(self.keys)], time.monotonic()
        while time.monotonic() < begun + PATIENCE_SECONDS:
            head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n"
                    f"content-type: application/json\r\nx-request-id: {uuid.uuid4()}\r\nx-fake-script: {script}\r\n"
                    f"content-length: {len(body)}\r\n\r\n").encode()
            try:
                status, _, whole = await connection.request(head, body, leave_after)
            except Broken:
                self.again["no answer"] += 1
            else:
                if status not in AGAIN:
                    self.seen[kind, status, whole] += 1
                    self.slowest = max(self.slowest, time.monotonic() - begun)
                    return
                self.again[status] += 1
            await asyncio.sleep(RETRY_SECONDS * self.random.uniform(0.5, 1.5))
        self.unserved.append((number, kind))
