"""Stands between an Envoy and its sidecar, and makes one of them speak another version of their contract."""

import asyncio
import contextlib
import struct
import threading

DATA = 0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# As long as what it replaces: nothing else in the frame changes.
OURS, THEIRS = b'"contract":1', b'"contract":9'


class Between:
    """`who` speaks the other version: `filter`, `sidecar` or nobody (None); it may be changed at any time."""

    def __init__(self, path, sidecar):
        self.path, self.sidecar, self.who, self.changed = path, sidecar, None, 0
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(10)

    async def _serve(self):
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        await asyncio.start_unix_server(self._connected, str(self.path))
        self.ready.set()
        await self.over.wait()

    async def _connected(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            theirs, ours = await asyncio.open_unix_connection(str(self.sidecar))
            ours.write(await reader.readexactly(len(PREFACE)))
            ways = [asyncio.ensure_future(self._pass(*way)) for way in ((reader, ours, "filter"), (theirs, writer, "sidecar"))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            ours.close()
        writer.close()

    async def _pass(self, reader, writer, who):
        """Frame by frame."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(9)
                high, low, kind = struct.unpack(">BHB", head[:4])
                payload = await reader.readexactly(high << 16 | low)
                if kind == DATA and self.who == who:
                    self.changed += payload.count(OURS)
                    payload = payload.replace(OURS, THEIRS)
                writer.write(head + payload)
                await writer.drain()
