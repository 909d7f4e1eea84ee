"""Callers without a key: who they are is Envoy's word, from a certificate, a trusted proxy or a token."""

import base64
import hashlib
import json
import ssl
import time
import uuid

import httpx
import pytest
from certificates import Authority, openssl
from harness import Gateway, assert_envelope, chat, marked
from project import LOCAL, wait_for

INDEXER = "spiffe://corp.example/ns/search/sa/indexer"
WEB = "spiffe://corp.example/ns/search/sa/web-7"
STRANGER = "spiffe://corp.example/ns/other/sa/indexer"
ISSUER, AUDIENCE = "https://id.corp.example", "attache"
IDENTITIES = [
    {"name": "indexer", "spiffe": INDEXER, "key_alias": "search-prod"},
    {"name": "web", "spiffe": "spiffe://corp.example/ns/search/sa/web-*", "user_id": "web", "models": ["gpt-4o"]},
    {"name": "batch", "jwt": {"claim": "azp", "value": "batch-*"}, "key_alias": "batch"},
    {"name": "alice", "jwt": {"claim": "sub", "value": "alice"}, "key_alias": "alice"},
    {"name": "robots", "jwt": {"claim": "azp", "value": "robot-*"}, "user_id": "robot"},
]


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """An issuer of tokens."""

    def __init__(self, name):
        folder = LOCAL / "run" / "e2e" / "issuer"
        folder.mkdir(parents=True, exist_ok=True)
        self.key, self.jwks = folder / f"{name}.pem", folder / f"{name}.json"
        openssl("genrsa", "-out", self.key, "2048")
        modulus = openssl("rsa", "-in", self.key, "-noout", "-modulus").decode().strip().split("=")[1]
        jwk = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "test", "e": "AQAB",
               "n": encoded(bytes.fromhex(modulus))}
        self.jwks.write_text(json.dumps({"keys": [jwk]}))

    def token(self, alg="RS256", **claims):
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, **claims}
        header = {"alg": alg, "typ": "JWT", "kid": "test"}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = b"" if alg == "none" else openssl("dgst", "-sha256", "-sign", self.key, data=text.encode())
        return f"{text}.{encoded(signature)}"


def with_identities(config):
    config["features"] = {"identities": IDENTITIES}
    config["general_settings"]["user_header_name"] = "X-Corp-User"


def started(name, *flags, change=with_identities):
    gateway = Gateway(name, "embedded", change)
    gateway.stack.envoy_flags = list(flags)
    try:
        gateway.stack.start()
    except BaseException:
        gateway.close()
        raise
    return gateway


def ask(client, headers=None, **more):
    return client.post("/v1/chat/completions", json=chat(**more), headers=headers or {})


def row_of(client, master, call_id):
    """The ledger's row of a call."""
    def found():
        rows = client.get(f"/spend/logs?request_id={call_id}", headers={"authorization": f"Bearer {master}"}).json()
        return next((row for row in rows if row["request_id"] == call_id), None)

    return wait_for(f"spend row of {call_id}", found, 15, 0.1)


class MutualTls:
    """A gateway whose clients show certificates."""

    def __init__(self):
        self.authority = Authority("corp")
        server = self.authority.sign("DNS:localhost,IP:127.0.0.1", "serverAuth")
        self.gateway = started("identity-tls", "--tls-cert", server[0], "--tls-key", server[1],
                               "--tls-client-ca", self.authority.ca)
        admin = {"authorization": f"Bearer {self.gateway.master_key}"}
        self.admin = self.client(self.authority.sign("DNS:admin"), admin)
        made = self.admin.post("/key/generate", json={"key_alias": "search-prod", "models": ["gpt-4o"]})
        assert made.status_code == 200, made.text
        self.key = made.json()["key"]

    def client(self, certificate, headers=None):
        trust = ssl.create_default_context(cafile=self.authority.ca)
        if certificate:
            trust.load_cert_chain(*certificate)
        return httpx.Client(base_url=self.gateway.url.replace("http://127.0.0.1", "https://localhost"), verify=trust,
                            headers=headers, timeout=30, trust_env=False)

    def spiffe(self, uri):
        return self.client(self.authority.sign(f"URI:{uri}"))


@pytest.fixture(scope="module")
def tls():
    world = MutualTls()
    yield world
    world.gateway.close()


def test_a_certificate_stands_for_a_key(tls):
    headers, mark = marked()
    answer = ask(tls.spiffe(INDEXER), headers)
    assert answer.status_code == 200, answer.text
    [arrived] = tls.gateway.arrived(mark)
    assert not {name for name in arrived["headers"] if "client-cert" in name}
    row = row_of(tls.admin, tls.gateway.master_key, answer.headers["x-litellm-call-id"])
    assert row["api_key"] == hashlib.sha256(tls.key.encode()).hexdigest(), "the use is the key's"
    assert ask(tls.spiffe(INDEXER), model="gpt-4o-mini").status_code == 403, "and so are the rights"


def test_a_certificate_stands_for_a_user(tls):
    answer = ask(tls.spiffe(WEB))
    assert answer.status_code == 200, answer.text
    row = row_of(tls.admin, tls.gateway.master_key, answer.headers["x-litellm-call-id"])
    assert row["api_key"] == "workload/web", row
    assert ask(tls.spiffe(WEB), model="gpt-4o-mini").status_code == 403


def test_other_certificates_are_nobody(tls):
    error = assert_envelope(ask(tls.spiffe(STRANGER)), 401, "auth_error", "invalid_api_key")
    assert STRANGER in error["message"]
    nobody = tls.client(tls.authority.sign("DNS:indexer.search"))
    assert "No api key" in assert_envelope(ask(nobody), 401, "auth_error")["message"]
    # Its subject names the indexer, and it says so in the header too.
    forged = {"x-forwarded-client-cert": f"By=spiffe://a/b;URI={INDEXER}"}
    assert ask(nobody, forged).status_code == 401
    assert ask(tls.spiffe(STRANGER), forged).status_code == 401


def test_a_client_without_a_good_certificate_does_not_get_in(tls):
    with pytest.raises(httpx.TransportError):
        ask(tls.client(None))
    own = Authority("corp-impostor").sign(f"URI:{INDEXER}")
    with pytest.raises(httpx.TransportError):
        ask(tls.client(own))


def test_a_key_that_is_sent_wins(tls):
    assert ask(tls.spiffe(STRANGER), {"authorization": f"Bearer {tls.key}"}).status_code == 200
    bad = {"authorization": "Bearer sk-nobody-knows-this-one"}
    assert_envelope(ask(tls.spiffe(INDEXER), bad), 401, "token_not_found_in_db")
    hashed = {"authorization": f"Bearer {hashlib.sha256(tls.key.encode()).hexdigest()}"}
    assert_envelope(ask(tls.spiffe(INDEXER), hashed), 401, "auth_error")


def test_blocking_the_key_stops_the_certificate(tls):
    client = tls.spiffe(INDEXER)
    assert ask(client).status_code == 200
    assert tls.admin.post("/key/block", json={"key": tls.key}).status_code == 200
    wait_for("401 for the certificate", lambda: ask(client).status_code == 401, 2, 0.05)
    assert tls.admin.post("/key/unblock", json={"key": tls.key}).status_code == 200
    wait_for("200 for the certificate", lambda: ask(client).status_code == 200, 2, 0.05)


@pytest.fixture(scope="module")
def tokens():
    issuer = Issuer("good")
    gateway = started("identity-jwt", "--jwt-issuer", ISSUER, "--jwt-jwks", issuer.jwks, "--jwt-audience", AUDIENCE)
    gateway.issuer = issuer
    gateway.named = {alias: gateway.key(key_alias=alias) for alias in ("batch", "alice")}
    with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as gateway.http:
        yield gateway
    gateway.close()


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def test_a_token_stands_for_a_key(tokens):
    headers, mark = marked()
    token = tokens.issuer.token(azp="batch-1", sub=uuid.uuid4().hex)
    answer = ask(tokens.http, {**headers, **bearer(token)})
    assert answer.status_code == 200, answer.text
    [arrived] = tokens.arrived(mark)
    assert token not in json.dumps(arrived), "the token went upstream"
    row = row_of(tokens.http, tokens.master_key, answer.headers["x-litellm-call-id"])
    assert row["api_key"] == hashlib.sha256(tokens.named["batch"].encode()).hexdigest()
    # Nobody knows this azp; the next claim is asked for.
    answer = ask(tokens.http, bearer(tokens.issuer.token(azp="portal", sub="alice")))
    assert answer.status_code == 200, answer.text
    row = row_of(tokens.http, tokens.master_key, answer.headers["x-litellm-call-id"])
    assert row["api_key"] == hashlib.sha256(tokens.named["alice"].encode()).hexdigest()


def test_a_token_stands_for_a_user(tokens):
    answer = ask(tokens.http, bearer(tokens.issuer.token(azp="robot-1")))
    assert answer.status_code == 200, answer.text
    row = row_of(tokens.http, tokens.master_key, answer.headers["x-litellm-call-id"])
    assert row["api_key"] == "workload/robots", row


def test_tokens_that_are_not_good_are_refused_by_envoy(tokens):
    forged = Issuer("impostor").token(azp="batch-1")
    good = tokens.issuer.token(azp="batch-1")
    cut = good.rsplit(".", 1)[0] + "."
    bad = [forged, cut, tokens.issuer.token(alg="none", azp="batch-1"), good[:-4] + "AAAA",
           tokens.issuer.token(azp="batch-1", exp=int(time.time()) - 120),
           tokens.issuer.token(azp="batch-1", iss="https://elsewhere.example")]
    for token in bad:
        error = assert_envelope(ask(tokens.http, bearer(token)), 401, "authentication_error")
        assert error["message"].startswith("The token is not valid"), error
    other = tokens.issuer.token(azp="batch-1", aud="somebody-else")
    error = assert_envelope(ask(tokens.http, bearer(other)), 403)
    assert error["message"].startswith("The token is not for this gateway"), error
    unsigned = {"x-jwt-payload": encoded(b'{"azp":"batch-1"}')}
    assert_envelope(ask(tokens.http, unsigned), 401, "auth_error")


def test_a_token_of_nobody_is_refused_without_its_claims(tokens):
    token = tokens.issuer.token(azp="portal", sub="mallory@corp.example")
    error = assert_envelope(ask(tokens.http, bearer(token)), 401, "auth_error", "invalid_api_key")
    assert "mallory" not in error["message"] and "claim" in error["message"], error
    # A claim that is no text is none.
    assert ask(tokens.http, bearer(tokens.issuer.token(azp=7, sub=["alice"]))).status_code == 401


def test_keys_still_work_beside_tokens(tokens):
    assert ask(tokens.http, bearer(tokens.key())).status_code == 200
    assert_envelope(ask(tokens.http), 401, "auth_error")
    two = [("authorization", f"Bearer {tokens.issuer.token(azp='batch-1')}"), ("x-api-key", tokens.key())]
    assert tokens.http.post("/v1/chat/completions", json=chat(), headers=two).status_code == 200


def test_whom_a_request_is_made_for(tokens):
    """LiteLLM's headers, then the configured one, then the body, under three names."""
    def end_user(headers=None, **body):
        answer = ask(tokens.http, {**bearer(tokens.named["alice"]), **(headers or {})}, **body)
        assert answer.status_code == 200, answer.text
        return row_of(tokens.http, tokens.master_key, answer.headers["x-litellm-call-id"])["end_user"]

    names = {"user": "u", "safety_identifier": "s", "metadata": {"user_id": "m"}}
    assert end_user({"x-litellm-customer-id": "c", "x-corp-user": "h"}, **names) == "c"
    assert end_user({"x-corp-user": "h"}, **names) == "h"
    assert end_user(**names) == "u"
    assert end_user(safety_identifier="s", metadata=names["metadata"]) == "s"
    assert end_user(metadata=names["metadata"]) == "m"
    headers, mark = marked()
    ask(tokens.http, {**bearer(tokens.named["alice"]), **headers, "x-corp-user": "h"}, **names)
    [arrived] = tokens.arrived(mark)
    assert "x-corp-user" not in arrived["headers"], "the end user's header went upstream"
    for body in ({"user": "a\0b"}, {"metadata": {"tags": ["a\nb"]}}, {"user": "x" * 2000}):
        refused = ask(tokens.http, bearer(tokens.named["alice"]), **body)
        assert_envelope(refused, 400, "invalid_request_error")


def test_a_header_is_not_believed_by_itself(tokens):
    for value in (f"URI={INDEXER}", f"By=spiffe://corp.example/proxy;URI={INDEXER}"):
        error = assert_envelope(ask(tokens.http, {"x-forwarded-client-cert": value}), 401, "auth_error")
        assert "No api key" in error["message"] and INDEXER not in error["message"], error


def test_a_trusted_proxy_says_who_its_client_is():
    gateway = started("identity-xfcc", "--trust-xfcc")
    try:
        gateway.key(key_alias="search-prod")
        with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as client:
            def said(value):
                return ask(client, {"x-forwarded-client-cert": value}).status_code

            headers, mark = marked()
            answer = ask(client, {**headers, "x-forwarded-client-cert": f"By=spiffe://a/proxy;Hash=ab;URI={INDEXER}"})
            assert answer.status_code == 200, answer.text
            [arrived] = gateway.arrived(mark)
            assert "x-forwarded-client-cert" not in arrived["headers"]
            assert said(f"URI={STRANGER},By=spiffe://a/proxy;URI={INDEXER}") == 200, "the nearest proxy's client"
            for value in (f"URI={INDEXER},By=spiffe://a/proxy;URI={STRANGER}", f"URI={INDEXER},By=spiffe://a/proxy",
                          f'Subject="CN=x;URI={INDEXER}"', f"URI={INDEXER};URI={STRANGER}", f"URI={INDEXER}\""):
                assert said(value) == 401, value
    finally:
        gateway.close()
