"""Large bodies, chunked bodies, HTTP/2."""

import json
import subprocess

import httpx
import pytest
from harness import ANSWER, BODY_LIMIT, assert_envelope, body_of_size, chat, events, marked


class Answered:
    """What curl saw, with the names that httpx uses."""

    def __init__(self, text):
        body, self.status_code = text.rsplit("\n", 1)[0], int(text.rsplit("\n", 1)[1])
        head, self.text = body.split("\r\n\r\n", 1) if body.startswith("HTTP/") else ("", body)
        lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line]
        self.headers = {name.lower(): value for name, value in lines}

    def json(self):
        return json.loads(self.text)


def curl(gateway, tmp_path, body, *options):
    file = tmp_path / "body.json"
    file.write_bytes(body)
    command = ["curl", "-sS", "-i", "--max-time", "60", "-H", f"authorization: Bearer {gateway.default_key}", "-H",
               "content-type: application/json", "-H", "Expect:", "--data-binary", f"@{file}", "-w", "\n%{http_code}",
               *options, f"{gateway.url}/v1/chat/completions"]
    # Not in text mode: that would make one of the two line ends that part head and body.
    done = subprocess.run(command, capture_output=True, check=False)
    return Answered(done.stdout.decode())


WAYS = {"http1": [], "chunked": ["-H", "Transfer-Encoding: chunked"], "http2": ["--http2-prior-knowledge"]}


@pytest.mark.parametrize("way", WAYS)
def test_body_at_the_limit(gateway, tmp_path, way):
    headers, mark = marked()
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    answer = curl(gateway, tmp_path, body_of_size(BODY_LIMIT), *WAYS[way], *options)
    assert answer.status_code == 200, answer.text[:500]
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER
    assert gateway.arrived(mark)[0]["body_length"] >= BODY_LIMIT - 100


@pytest.mark.parametrize("way", WAYS)
def test_one_byte_more(gateway, tmp_path, way):
    headers, mark = marked()
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    answer = curl(gateway, tmp_path, body_of_size(BODY_LIMIT + 1), *WAYS[way], *options)
    assert_envelope(answer, 413, "invalid_request_error")
    assert not gateway.arrived(mark)


def test_a_large_body_is_replayed(gateway, tmp_path):
    headers, mark = marked("one=status:500;two=status:429")
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    answer = curl(gateway, tmp_path, body_of_size(5 * 1024 * 1024), *options)
    assert answer.status_code == 200, answer.text[:500]
    lengths = {entry["name"]: entry["body_length"] for entry in gateway.arrived(mark)}
    assert set(lengths) == {"one", "two", "azure"}
    assert min(lengths.values()) > 5 * 1024 * 1024 - 200


def test_chunked_body_in_pieces(gateway):
    body = json.dumps(chat()).encode()

    def pieces():
        for at in range(0, len(body), 5):
            yield body[at:at + 5]

    headers = {"authorization": f"Bearer {gateway.default_key}", "content-type": "application/json"}
    answer = gateway.http.post("/v1/chat/completions", content=pieces(), headers=headers)
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize("stream", [False, True])
def test_http2(gateway, stream):
    with httpx.Client(base_url=gateway.url, http1=False, http2=True, trust_env=False) as client:
        answer = gateway.post(chat(stream=stream), client=client)
        assert answer.http_version == "HTTP/2"
        assert answer.status_code == 200
        if stream:
            assert events(answer.text)[-1] == "[DONE]"
        assert_envelope(gateway.post(chat("no-such-model"), client=client), 404)


def test_body_without_content_type(gateway):
    headers = {"authorization": f"Bearer {gateway.default_key}"}
    assert gateway.http.post("/v1/chat/completions", content=json.dumps(chat()), headers=headers).status_code == 200


@pytest.mark.parametrize("text", ["é" * 1000, "\U0001f600" * 500, "a\\\"b\\n\u2028", "\u0000"])
def test_text_passes_unharmed(gateway, text):
    headers, mark = marked()
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}
    assert gateway.post(body, headers=headers).status_code == 200
    assert gateway.arrived(mark)[0]["body"]["messages"][0]["content"] == text
