"""scripts/smoke.sh: passes against the real gateway, and says what is wrong with everything else."""

import http.server
import json
import os
import shutil
import subprocess
import threading

import pytest
from harness import ROOT

GOOD = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
    {"index": 0, "message": {"role": "assistant", "content": "say \"hi\"\tthere \\ \u00e9 \U0001f4ee"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2.0, "total_tokens": 3}, "extra": [[], {}, None, True, -1.5e-3]}


def smoke(*arguments, shell="sh", **environment):
    """Exit status, standard output, standard error."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SMOKE_", "OPENAI_"))}
    done = subprocess.run([shell, ROOT / "scripts" / "smoke.sh", *arguments], env={**clean, **environment}, text=True,
                          capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def server():
    """Answers every POST with what it is given, and keeps what came."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            Handler.came = (self.path, self.headers.get("authorization"),
                            json.loads(self.rfile.read(int(self.headers["content-length"]))))
            status, body = Handler.answer
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        Handler.url = f"http://127.0.0.1:{server.server_port}"
        yield Handler
        server.shutdown()


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_the_gateway_passes(gateway, path):
    status, out, err = smoke(f"{gateway.url}{path}", gateway.key(), "solo")
    assert (status, err) == (0, ""), err
    assert out.startswith("smoke: ok: solo answered in ") and " tokens: Envoys carry letters" in out, out


def test_the_provider_itself_passes(gateway):
    status, out, err = smoke(f"{gateway.provider.url}/one/v1", SMOKE_KEY="sk-direct", SMOKE_MODEL="gpt-4o")
    assert (status, err) == (0, "") and out.startswith("smoke: ok: "), err


def test_what_the_gateway_refuses_fails(gateway):
    status, out, err = smoke(gateway.url, "sk-nobody")
    assert (status, out) == (1, "") and "HTTP 401 instead of 200" in err and "invalid_api_key" in err, err
    status, _, err = smoke(gateway.url, gateway.key(), "no-such-model")
    assert status == 1 and "HTTP 404 instead of 200" in err, err


def test_a_gateway_that_is_not_there_fails():
    status, out, err = smoke("http://127.0.0.1:9", "sk-1")
    assert (status, out) == (1, "") and "FAILED: no answer from http://127.0.0.1:9/v1: curl: (7)" in err, err


@pytest.mark.parametrize("awk", ["mawk", "gawk", "busybox"])
def test_every_awk_reads_the_answer(server, awk, tmp_path):
    if not shutil.which(awk):
        pytest.skip(f"{awk} is not installed")
    (tmp_path / "awk").write_text(f'#!/bin/sh\nexec {awk}{" awk" if awk == "busybox" else ""} "$@"\n')
    (tmp_path / "awk").chmod(0o755)
    for escape in (True, False):
        server.answer = 200, json.dumps(GOOD, ensure_ascii=escape, indent=None if escape else 2).encode()
        status, out, err = smoke(f"{server.url}/gw", "sk-1", PATH=f"{tmp_path}:{os.environ['PATH']}")
        assert (status, err) == (0, "") and "m answered" in out and "3 tokens: say" in out, err
    path, key, body = server.came
    assert (path, key, body["model"]) == ("/gw/chat/completions", "Bearer sk-1", "gpt-4o")


def changed(**changes):
    return json.dumps({**GOOD, **changes}).encode()


@pytest.mark.parametrize("body, wanted", [
    (b"", "not JSON"), (b"<html>ok</html>", "not JSON"), (changed()[:-1], "not JSON"), (changed() + b"}", "not JSON"),
    (b'{"a":01}', "not JSON"), (b'{"a":"b\nc"}', "not JSON"), (b'{"a":1,}', "not JSON"),
    (changed(object="list"), "`object`"), (changed(object=None), "`object`"), (changed(id=7), "`id`"),
    (changed(model=""), "`model`"), (changed(choices=[]), "no message of the assistant"),
    (changed(choices=[{"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]), "is empty"),
    (changed(choices=[{"message": {"role": "assistant", "content": "x"}, "finish_reason": None}]), "finish_reason"),
    (changed(usage={"total_tokens": "3"}), "total_tokens"), (changed(usage={"total_tokens": 0}), "total_tokens"),
    (json.dumps({"choices": json.dumps(GOOD)}).encode(), "`object`"),
])
def test_a_200_of_another_shape_fails(server, body, wanted):
    server.answer = 200, body
    status, out, err = smoke(server.url, "sk-1")
    assert (status, out) == (1, "") and "FAILED: HTTP 200, but" in err and wanted in err, err


def test_no_key_sends_none_and_curl_takes_options(server):
    server.answer = 200, changed()
    assert smoke(server.url, "", "m", "--", "--header", "authorization: Basic eA==")[0] == 0
    assert server.came[1] == "Basic eA=="
    assert smoke(server.url)[0] == 0 and server.came[1] is None


@pytest.mark.parametrize("arguments, wanted", [
    ([], "BASE_URL is missing"), (["gateway:4000"], "want http"), (["http://x", "k", "m", "more"], "after --"),
    (["http://x", 'k"'], "quotes"),
])
def test_mistakes_are_named(arguments, wanted):
    status, _, err = smoke(*arguments)
    assert status == 2 and wanted in err, err
