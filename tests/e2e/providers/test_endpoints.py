"""Endpoints that pass through: pictures, sounds, moderation, ranking, files, batches, realtime sessions."""

import base64
import json
import os
import socket
import struct

import httpx
import openai
import pytest
from harness import REFUSED, Gateway, assert_envelope, marked

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
WAV = b"RIFF" + struct.pack("<I", 36 + 32000) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + \
    b"data" + struct.pack("<I", 32000) + bytes(32000)
BASE = "${FAKE_PROVIDER_URL}/media/v1"
MODELS = {"picture": "openai/gpt-image-1", "voice": "openai/tts-1", "ear": "openai/whisper-1",
          "judge": "openai/omni-moderation-latest", "store": "openai/gpt-4o-mini", "talk": "openai/gpt-realtime"}


def config():
    entries = [{"model_name": name, "litellm_params": {"model": model, "api_base": BASE, "api_key": "sk-media-0001"}}
               for name, model in MODELS.items()]
    entries.append({"model_name": "picture-down", "litellm_params": {
        "model": "openai/gpt-image-1", "api_base": REFUSED, "api_key": "sk-media-0001"}})
    entries.append({"model_name": "ranker", "litellm_params": {
        "model": "cohere/rerank-v3.5", "api_base": "${FAKE_PROVIDER_URL}/ranker/v2", "api_key": "co-0001"}})
    return {"model_list": entries,
            "router_settings": {"num_retries": 0, "allowed_fails": 100000, "fallbacks": [{"picture-down": ["picture"]}]},
            "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1,
                                 "files_model": "store", "moderation_model": "judge"}}


@pytest.fixture(scope="module")
def endpoints():
    with Gateway("endpoints", "embedded", config=config()) as gateway:
        yield gateway


def only(gateway, mark):
    """The one request at the provider, which refused nothing."""
    entries = gateway.arrived(mark)
    assert len(entries) == 1 and not entries[0]["refused"], entries
    return entries[0]


def row(gateway, raw):
    return gateway.spend(raw.headers["x-litellm-call-id"])


def test_pictures_are_made_and_paid(endpoints):
    headers, mark = marked()
    raw = endpoints.client().images.with_raw_response.generate(model="picture", prompt="a letter", extra_headers=headers)
    assert base64.b64decode(raw.parse().data[0].b64_json).startswith(b"\x89PNG")
    assert only(endpoints, mark)["body"]["model"] == "gpt-image-1"
    spent = row(endpoints, raw)
    assert spent["completion_tokens"] > 0 and spent["spend"] > 0, spent


def test_a_picture_falls_back(endpoints):
    headers, mark = marked()
    raw = endpoints.client().images.with_raw_response.generate(
        model="picture-down", prompt="a letter", extra_headers=headers)
    assert raw.parse().data and raw.headers["x-litellm-attempted-fallbacks"] == "1"
    only(endpoints, mark)


def test_pictures_are_edited(endpoints):
    headers, mark = marked()
    answer = endpoints.client().images.edit(
        model="picture", image=("a.png", PNG, "image/png"), prompt="a stamp", extra_headers=headers)
    assert answer.data
    shown = json.dumps(only(endpoints, mark))
    assert "gpt-image-1" in shown and "picture" not in shown.replace("picture.png", ""), shown


def test_speech_is_bytes(endpoints):
    headers, mark = marked()
    raw = endpoints.client().audio.speech.with_raw_response.create(
        model="voice", voice="alloy", input="Envoys carry letters.", extra_headers=headers)
    assert raw.headers["content-type"].startswith("audio/") and len(raw.content) > 10
    assert only(endpoints, mark)["body"]["model"] == "tts-1"
    assert row(endpoints, raw)["spend"] == pytest.approx(21 * 15e-6, rel=1e-6), "characters by the price table"


@pytest.mark.parametrize("kind", ["transcriptions", "translations"])
def test_sounds_are_written_down(endpoints, kind):
    headers, mark = marked()
    raw = getattr(endpoints.client().audio, kind).with_raw_response.create(
        model="ear", file=("a.wav", WAV, "audio/wav"), extra_headers=headers)
    assert "letters" in raw.parse().text
    assert "whisper-1" in json.dumps(only(endpoints, mark))
    spent = row(endpoints, raw)
    assert spent["spend"] > 0, spent


def form(*fields):
    parts = [f'--b\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
             for name, more, value in fields]
    return b"".join(parts) + b"--b--\r\n"


def send_form(gateway, body, key=None, headers=None):
    return gateway.http.post("/v1/audio/transcriptions", content=body, headers={
        "authorization": f"Bearer {key or gateway.default_key}", "content-type": "multipart/form-data; boundary=b",
        **(headers or {})})


def test_the_model_may_stand_last_in_a_form(endpoints):
    headers, mark = marked()
    body = form(("file", '; filename="a.wav"', WAV), ("model", "", b"ear"))
    answer = send_form(endpoints, body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert "whisper-1" in json.dumps(only(endpoints, mark))


def test_bad_forms_and_keys_are_refused(endpoints):
    whole = form(("file", '; filename="a.wav"', WAV), ("model", "", b"ear"))
    assert_envelope(send_form(endpoints, whole[:-40]), 400)
    assert_envelope(send_form(endpoints, form(("file", '; filename="a.wav"', WAV))), 400, param="model")
    assert_envelope(send_form(endpoints, form(("file", "", WAV), ("model", "", b"nobody"))), 404)
    assert_envelope(send_form(endpoints, whole, key="sk-nobodys-key-0001"), 401)
    with pytest.raises(openai.NotFoundError):
        endpoints.client().images.generate(model="nobody", prompt="x")
    answer = endpoints.http.get("/v1/images/generations", headers={"authorization": f"Bearer {endpoints.default_key}"})
    assert_envelope(answer, 405)


def test_moderation_is_free_and_needs_no_model(endpoints):
    for more in ({}, {"model": "judge"}):
        headers, mark = marked()
        raw = endpoints.client().moderations.with_raw_response.create(input="hello", extra_headers=headers, **more)
        assert raw.parse().results
        assert only(endpoints, mark)["body"]["model"] == "omni-moderation-latest"
        assert row(endpoints, raw)["spend"] == 0


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_ranking(endpoints, path):
    headers, mark = marked()
    body = {"model": "ranker", "query": "letters", "documents": ["a letter", "a stone"], "top_n": 1}
    answer = endpoints.post(body, path=path, headers=headers)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == 1
    assert only(endpoints, mark)["body"]["model"] == "rerank-v3.5"
    spent = row(endpoints, answer)
    assert spent["spend"], spent


def test_files_and_batches(endpoints):
    client = endpoints.client()
    line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o-mini"}})
    made = client.files.create(file=("batch.jsonl", line.encode()), purpose="batch")
    assert client.files.retrieve(made.id).id == made.id
    assert made.id in [file.id for file in client.files.list()]
    assert client.files.content(made.id).text == line
    batch = client.batches.create(input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert client.batches.retrieve(batch.id).id == batch.id
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)
    answer = httpx.get(f"{endpoints.url}/v1/files", trust_env=False)
    assert_envelope(answer, 401)


class Session:
    """A WebSocket by hand: what goes over the wire is what the test says."""

    def __init__(self, gateway, path, headers):
        host, port = gateway.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        lines = [f"GET {path} HTTP/1.1", f"host: {host}:{port}", "connection: Upgrade", "upgrade: websocket",
                 "sec-websocket-version: 13", f"sec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}", *headers]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.more()
        self.head, self.data = self.data.split(b"\r\n\r\n", 1)
        self.status = int(self.head.split()[1])

    def more(self):
        piece = self.socket.recv(65536)
        assert piece, "the connection ended"
        self.data += piece

    def take(self, size):
        while len(self.data) < size:
            self.more()
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def send(self, event):
        text, mask = json.dumps(event).encode(), os.urandom(4)
        length = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0xFE]) + struct.pack(">H", len(text))
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))
        self.socket.sendall(b"\x81" + length + mask + masked)

    def receive(self):
        first, length = self.take(2)
        if length == 126:
            (length,) = struct.unpack(">H", self.take(2))
        payload = self.take(length)
        return json.loads(payload) if first & 0x0F == 1 else self.receive()

    def until(self, kind):
        for _ in range(100):
            event = self.receive()
            if event["type"] == kind:
                return event
        raise AssertionError(f"no {kind}")

    def close(self):
        self.socket.sendall(b"\x88\x80" + os.urandom(4))
        self.socket.close()


@pytest.mark.parametrize("how", ["header", "subprotocol"])
def test_realtime_sessions_are_counted(endpoints, how):
    key = endpoints.default_key
    headers = {"header": [f"authorization: Bearer {key}"],
               "subprotocol": [f"sec-websocket-protocol: realtime, openai-insecure-api-key.{key}"]}[how]
    session = Session(endpoints, "/v1/realtime?model=talk", headers)
    assert session.status == 101, session.head
    assert session.until("session.created")
    for _ in range(2):
        session.send({"type": "response.create"})
        done = session.until("response.done")
    call_id = next(line.split(b": ")[1].decode() for line in session.head.split(b"\r\n")
                   if line.lower().startswith(b"x-litellm-call-id"))
    session.close()
    spent = endpoints.spend(call_id)
    used = done["response"]["usage"]
    assert spent["completion_tokens"] == 2 * used["output_tokens"] and spent["spend"] > 0, (spent, used)


def test_realtime_without_a_key_is_refused(endpoints):
    assert Session(endpoints, "/v1/realtime?model=talk", []).status == 401
    nobody = Session(endpoints, "/v1/realtime?model=nobody", [f"authorization: Bearer {endpoints.default_key}"])
    assert nobody.status in (403, 404)
