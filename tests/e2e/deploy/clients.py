"""Clients of one or several Envoys, who write down what they see, and what is to be said of it."""

import asyncio
import collections
import itertools
import json
import threading
import time

from customers import Broken, Connection

# (share, stream, script): most are short, some run long enough that something happens meanwhile.
KINDS = [(6, False, "*=usage:100/50,delay:15"), (3, True, "*=usage:100/50,chunks:8,chunk-delay:20"),
         (1, True, "*=usage:100/50,chunks:30,chunk-delay:50")]
PATIENCE = 15


class Seen:
    """A request and what its client saw. Status 0: no answer, or half of one."""

    def __init__(self, envoy, key, sent):
        self.envoy, self.key, self.sent, self.status, self.text, self.call = envoy, key, sent, 0, "", None
        self.headed = sent

    def __repr__(self):
        return f"{self.envoy} {self.status} {self.ended - self.sent:.2f} s {self.text[:200]}"


class Clients:
    """Ask every Envoy so many times a second, whatever becomes of it, and never again for the same: what they see is all that
    is to be seen."""

    def __init__(self, addresses, keys, rate):
        """`addresses` of Envoys by name, `keys`: (key, how many of ten requests)."""
        self.addresses, self.rate = addresses, rate
        self.keys = [key for key, share in keys for _ in range(share)]
        self.kinds = [kind for kind in KINDS for _ in range(kind[0])]
        self.seen, self.events = [], []
        # A key with a limit that is to be reached.
        self.limited = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(PATIENCE + 5)

    def event(self, name):
        """From here until the next one it is the time of `name`."""
        self.events.append((name, time.monotonic()))

    async def _all(self):
        await asyncio.gather(*(self._ask(envoy) for envoy in self.addresses))

    async def _ask(self, envoy):
        idle, running, due = [], set(), time.monotonic()
        for number in itertools.count():
            due += 1 / self.rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            if self.over.is_set():
                break
            task = asyncio.ensure_future(self._one(envoy, number, idle))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _one(self, envoy, number, idle):
        _, stream, script = self.kinds[number * 7 % len(self.kinds)]
        key = self.keys[number * 3 % len(self.keys)]
        body = json.dumps({"model": "gpt-4o", "stream": stream, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]})
        head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n"
                f"content-type: application/json\r\nx-fake-script: {script}\r\ncontent-length: {len(body)}\r\n\r\n")
        seen = Seen(envoy, key, time.monotonic())
        connection = idle.pop() if idle else Connection(self.addresses[envoy])
        try:
            status, headers, whole = await asyncio.wait_for(connection.request(head.encode(), body.encode()), PATIENCE)
            seen.status, seen.call = status if whole else 0, headers.get("x-litellm-call-id")
            seen.text, seen.headed = connection.said.decode() if whole else "cut", connection.headed
            idle.append(connection)
        except (Broken, asyncio.TimeoutError) as error:
            seen.text = str(error) or "no answer"
            # The others are of the same Envoy and as old.
            for one in (connection, *idle):
                one.close()
            idle.clear()
        seen.ended, seen.at = time.monotonic(), time.time()
        self.seen.append(seen)

    # -- what was seen ---------------------------------------------------------------------------------------------
    def during(self, name, envoy=None, after=0.0):
        """Requests sent in that time (`after` so many seconds of it), of all clients or those of one Envoy."""
        at = [event for event, _ in self.events].index(name)
        begin = self.events[at][1] + after
        end = self.events[at + 1][1] if at + 1 < len(self.events) else float("inf")
        return [seen for seen in self.seen if begin <= seen.sent < end and envoy in (None, seen.envoy)]

    def running(self, name, envoy=None):
        """Requests that were on their way when it began."""
        begin = dict(self.events)[name]
        return [seen for seen in self.seen if seen.sent < begin < seen.ended and envoy in (None, seen.envoy)]

    def bad(self, found):
        """They did not get what they asked for. The limit is no fault."""
        return [seen for seen in found if seen.status != 200 and (seen.status, seen.key) != (429, self.limited)]

    def lasted(self, name, bad):
        """Seconds until the last of these requests was sent, from when it began."""
        return max((seen.sent - dict(self.events)[name] for seen in bad), default=0.0)

    def table(self):
        lines = []
        for name, _ in self.events:
            for envoy in self.addresses:
                counts = collections.Counter(seen.status for seen in self.during(name, envoy))
                shown = ", ".join(f"{count} x {status or 'none'}" for status, count in sorted(counts.items()))
                lines.append(f"{name:24} {envoy}: {shown}")
        return "\n".join(lines)
