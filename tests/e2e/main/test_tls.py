"""TLS at the public door, and a sidecar reached over TCP with mutual TLS instead of its Unix socket."""

import ssl

import httpx
import openai
import pytest
from harness import ANSWER, QUESTION, ROOT, Gateway
from project import wait_for
from stack import free_address

CERTIFICATES = ROOT / "ext-proc" / "src" / "server" / "testdata"
CA, CLIENT, CLIENT_KEY = (CERTIFICATES / name for name in ("ca.pem", "client.pem", "client.key"))
SERVER, SERVER_KEY = CERTIFICATES / "server.pem", CERTIFICATES / "server.key"


def own_client(gateway, certificate):
    trust = ssl.create_default_context(cafile=CA)
    if certificate:
        trust.load_cert_chain(CLIENT, CLIENT_KEY)
    return openai.OpenAI(base_url=gateway.url.replace("http://127.0.0.1", "https://localhost") + "/v1",
                         api_key=gateway.master_key, max_retries=0, http_client=httpx.Client(verify=trust))


def test_mutual_tls_to_clients_and_to_the_sidecar():
    gateway = Gateway("tls", "embedded")
    sidecar = free_address()
    gateway.stack.serve_flags = ["--listen-tls", sidecar, "--tls-cert", SERVER, "--tls-key", SERVER_KEY,
                                 "--tls-client-ca", CA]
    gateway.stack.envoy_flags = ["--sidecar", sidecar.replace("127.0.0.1", "localhost"), "--sidecar-ca", CA,
                                 "--sidecar-cert", CLIENT, "--sidecar-key", CLIENT_KEY,
                                 "--tls-cert", SERVER, "--tls-key", SERVER_KEY, "--tls-client-ca", CA]
    try:
        gateway.stack.start()
        client = own_client(gateway, certificate=True)
        answer = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=QUESTION)
        assert answer.parse().choices[0].message.content == ANSWER
        pieces = client.chat.completions.create(model="gpt-4o", messages=QUESTION, stream=True)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == ANSWER
        admin = client.with_options(base_url=str(client.base_url).removesuffix("v1/"))

        def recorded():
            rows = admin.get("spend/logs", cast_to=httpx.Response).json()
            return answer.headers["x-litellm-call-id"] in {row["request_id"] for row in rows}

        wait_for("the row of the request", recorded, 10, 0.2)
        with pytest.raises(openai.APIConnectionError):
            own_client(gateway, certificate=False).models.list()
        with pytest.raises(httpx.TransportError):
            httpx.get(gateway.url)
    finally:
        gateway.close()
