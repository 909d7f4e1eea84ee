"""A client of HTTP/3: one connection per request."""

import asyncio
import json

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated


class Protocol(QuicConnectionProtocol):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.h3, self.events = H3Connection(self._quic), asyncio.Queue()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.events.put_nowait(event)
        for seen in self.h3.handle_event(event):
            self.events.put_nowait(seen)


class Answer:
    def __init__(self):
        self.headers, self.content, self.serial = {}, b"", None

    @property
    def status_code(self):
        return int(self.headers[":status"])

    @property
    def text(self):
        return self.content.decode()

    def json(self):
        return json.loads(self.content)


async def ask(address, ca, certificate, method, path, headers, body, seconds, leave):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], cafile=str(ca), server_name="localhost")
    if certificate:
        configuration.load_cert_chain(*certificate)
    host, port = address.split(":")
    async with connect(host, int(port), configuration=configuration, create_protocol=Protocol) as protocol:
        answer = Answer()
        answer.serial = protocol._quic.tls._peer_certificate.serial_number
        stream = protocol._quic.get_next_available_stream_id()
        sent = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path, **headers}
        protocol.h3.send_headers(stream, [(name.encode(), value.encode()) for name, value in sent.items()], end_stream=not body)
        if body:
            protocol.h3.send_data(stream, body, end_stream=True)
        protocol.transmit()
        while True:
            event = await asyncio.wait_for(protocol.events.get(), seconds)
            if isinstance(event, ConnectionTerminated):
                raise ConnectionError(event.reason_phrase or hex(event.error_code))
            if isinstance(event, HeadersReceived):
                answer.headers |= {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, DataReceived):
                answer.content += event.data
            if getattr(event, "stream_ended", False) or (leave and answer.content):
                return answer


def request(address, ca, path, body=None, headers=None, certificate=None, method=None, seconds=20, leave=False):
    """GET, or POST of JSON. ConnectionError when the server ends the connection. With `leave` the client goes when it has the
    first part of the answer's body."""
    data = None if body is None else json.dumps(body).encode()
    headers = {**({"content-type": "application/json"} if data else {}), **(headers or {})}
    return asyncio.run(ask(address, ca, certificate, method or ("POST" if data else "GET"), path, headers, data, seconds, leave))
