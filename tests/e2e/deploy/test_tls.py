"""TLS: HTTP/3 beside HTTP/1.1 and 2, clients' certificates over all of them, and new certificates while requests run."""

import hashlib
import re
import shutil
import socket
import ssl
import threading
import time
import warnings

import httpx
import pytest
from certificates import Authority
from facts import FACTS
from harness import ANSWER, Gateway, assert_envelope, chat, content_of, marked
from http3 import request
from project import LOCAL, wait_for
from stack import free_address, http

INDEXER = "spiffe://corp.example/ns/search/sa/indexer"
STRANGER = "spiffe://corp.example/ns/other/sa/indexer"
SERVER = "DNS:localhost,IP:127.0.0.1"


def with_identities(config):
    config["features"] = {"identities": [{"name": "indexer", "spiffe": INDEXER, "key_alias": "search-prod"}]}


def started(name, *flags, serve=()):
    gateway = Gateway(name, "embedded", with_identities)
    gateway.stack.envoy_flags, gateway.stack.serve_flags = list(flags), list(serve)
    try:
        gateway.stack.start()
    except BaseException:
        gateway.close()
        raise
    return gateway


def client(gateway, authority, certificate=None, **options):
    trust = ssl.create_default_context(cafile=authority.ca)
    if certificate:
        trust.load_cert_chain(*certificate)
    return httpx.Client(base_url=gateway.url.replace("http://127.0.0.1", "https://localhost"), verify=trust, timeout=30,
                        trust_env=False, **options)


@pytest.fixture(scope="module")
def mutual():
    """A gateway with HTTP/3 whose clients must show certificates."""
    authority = Authority("deploy-http3")
    cert, key = authority.sign(SERVER, "serverAuth")
    gateway = started("http3", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority.ca, "--http3", "8443")
    gateway.authority, gateway.admin_certificate = authority, authority.sign("DNS:admin")
    gateway.bearer = {"authorization": f"Bearer {gateway.master_key}"}
    with client(gateway, authority, gateway.admin_certificate, headers=gateway.bearer) as gateway.admin:
        made = gateway.admin.post("/key/generate", json={"key_alias": "search-prod", "models": ["gpt-4o"]})
        assert made.status_code == 200, made.text
        gateway.search_key = made.json()["key"]
        yield gateway
    gateway.close()


def rows(gateway, call_id):
    found = gateway.admin.get(f"/spend/logs?request_id={call_id}").json()
    return [row for row in found if row["request_id"] == call_id]


def h3(gateway, path, body=None, headers=None, certificate="admin", leave=False):
    shown = gateway.admin_certificate if certificate == "admin" else certificate
    return request(gateway.stack.listen, gateway.authority.ca, path, body, headers, shown, leave=leave)


def test_http3_serves_what_the_others_serve(mutual):
    headers, mark = marked(**mutual.bearer)
    answer = h3(mutual, "/v1/chat/completions", chat(), headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER
    [arrived] = mutual.arrived(mark)
    assert "alt-svc" not in arrived["headers"]
    wait_for("its row", lambda: rows(mutual, answer.headers["x-litellm-call-id"]), 15, 0.1)
    streamed = h3(mutual, "/v1/chat/completions", chat(stream=True), mutual.bearer)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert content_of(streamed.text) == ANSWER
    wait_for("the stream's row", lambda: len(rows(mutual, streamed.headers["x-litellm-call-id"])) == 1, 15, 0.1)
    assert len(rows(mutual, answer.headers["x-litellm-call-id"])) == 1, "told once, though two listeners have the gate"
    large = chat()
    large["messages"] = [{"role": "user", "content": "x" * 1_000_000}]
    assert h3(mutual, "/v1/chat/completions", large, mutual.bearer).status_code == 200
    assert_envelope(h3(mutual, "/v1/chat/completions", chat(), {"authorization": "Bearer sk-nobody-knows-this-one"}), 401)
    assert h3(mutual, "/internal/v1/usage", {}, mutual.bearer).status_code == 404
    assert h3(mutual, "/health/readiness").status_code == 200
    assert mutual.stack.stats("downstream_rq_http3_total")["http.public.downstream_rq_http3_total"] >= 6


def test_a_client_that_leaves_over_http3_is_in_the_ledger(mutual):
    """Envoy tells filters no more of it than that it is over: not that the client left."""
    headers, _ = marked("one=chunk-delay:30,chunks:1000", **mutual.bearer)
    cancelled = mutual.provider.counts()["cancelled"]
    answer = h3(mutual, "/v1/chat/completions", chat(stream=True), headers, leave=True)
    assert answer.status_code == 200
    wait_for("cancelled upstream call", lambda: mutual.provider.counts()["cancelled"] == cancelled + 1, 5)
    [row] = wait_for("its row", lambda: rows(mutual, answer.headers["x-litellm-call-id"]), 15, 0.1)
    assert row["estimated"] and row["spend"] > 0, row


def test_clients_are_told_of_http3(mutual):
    for version in (False, True):
        with client(mutual, mutual.authority, mutual.admin_certificate, http2=version) as one:
            answer = one.get("/v1/models", headers=mutual.bearer)
            assert answer.http_version == ("HTTP/2" if version else "HTTP/1.1")
            assert answer.headers["alt-svc"] == 'h3=":8443"; ma=86400', "at the port that clients reach"
            answer = one.post("/v1/chat/completions", json=chat(), headers=mutual.bearer)
            assert answer.status_code == 200 and answer.headers["alt-svc"] == 'h3=":8443"; ma=86400'


def test_a_certificate_stands_for_a_key_over_http3_too(mutual):
    certificate = mutual.authority.sign(f"URI:{INDEXER}")
    answer = h3(mutual, "/v1/chat/completions", chat(), certificate=certificate)
    assert answer.status_code == 200, answer.text
    [row] = wait_for("its row", lambda: rows(mutual, answer.headers["x-litellm-call-id"]), 15, 0.1)
    assert row["api_key"] == hashlib.sha256(mutual.search_key.encode()).hexdigest(), "the use is the key's"
    assert h3(mutual, "/v1/chat/completions", chat("gpt-4o-mini"), certificate=certificate).status_code == 403
    stranger = mutual.authority.sign(f"URI:{STRANGER}")
    assert_envelope(h3(mutual, "/v1/chat/completions", chat(), certificate=stranger), 401)
    forged = {"x-forwarded-client-cert": f"By=spiffe://a/b;URI={INDEXER}"}
    assert_envelope(h3(mutual, "/v1/chat/completions", chat(), forged, certificate=stranger), 401)
    FACTS.record("spiffe", 1, "a SPIFFE id has its key's rights and spend")


def test_without_a_good_certificate_nobody_gets_in(mutual):
    impostor = Authority("deploy-impostor").sign(f"URI:{INDEXER}")
    for certificate in (None, impostor):
        with client(mutual, mutual.authority, certificate) as one, pytest.raises(httpx.TransportError):
            one.get("/v1/models", headers=mutual.bearer)
        with pytest.raises((ConnectionError, TimeoutError)):
            h3(mutual, "/v1/models", headers=mutual.bearer, certificate=certificate)
    FACTS.record("mtls", 1, "clients without a certificate are refused over TCP and QUIC")


def test_old_versions_of_tls_are_refused(mutual):
    trust = ssl.create_default_context(cafile=mutual.authority.ca)
    trust.load_cert_chain(*mutual.admin_certificate)
    trust.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        trust.minimum_version, trust.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError), connected(mutual.stack.listen) as plain:
        trust.wrap_socket(plain, server_hostname="localhost")


def connected(address):
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), 10)


class Mount:
    """A folder as the kubelet mounts a Secret: files are links into a folder that is swapped as a whole."""

    def __init__(self, folder, **files):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.version = folder, 0
        self.swap(**files)
        for name in files:
            (folder / name.replace("_", ".")).symlink_to(f"..data/{name.replace('_', '.')}")

    def swap(self, **files):
        self.version += 1
        new = self.folder / f"..{self.version}"
        new.mkdir()
        for name, content in files.items():
            (new / name.replace("_", ".")).write_bytes(content)
        (self.folder / "..next").symlink_to(new.name)
        (self.folder / "..next").rename(self.folder / "..data")

    def __truediv__(self, name):
        return self.folder / name


def files(leaf, *authorities):
    """`tls.crt`, `tls.key` and the CAs that are trusted."""
    return {"tls_crt": leaf[0].read_bytes(), "tls_key": leaf[1].read_bytes(),
            "ca_crt": b"".join(authority.ca.read_bytes() for authority in authorities)}


class Load:
    """Requests one after another from several threads, half of them over a new connection each time."""

    def __init__(self, gateway, authorities, certificate):
        bundle = gateway.folder / "load-ca.pem"
        bundle.write_bytes(b"".join(authority.ca.read_bytes() for authority in authorities))
        self.gateway, self.bundle, self.certificate = gateway, bundle, certificate
        self.stop, self.seen = threading.Event(), []
        self.threads = [threading.Thread(target=self.run, args=(n % 2 == 0,), daemon=True) for n in range(8)]

    def context(self):
        trust = ssl.create_default_context(cafile=self.bundle)
        trust.load_cert_chain(*self.certificate)
        return trust

    def run(self, keep):
        def make():
            return httpx.Client(base_url=self.gateway.url.replace("http://127.0.0.1", "https://localhost"),
                                verify=self.context(), timeout=30, trust_env=False,
                                headers={"authorization": f"Bearer {self.gateway.load_key}"})

        kept = make() if keep else None
        number = 0
        while not self.stop.is_set():
            number += 1
            one = kept or make()
            try:
                answer = one.post("/v1/chat/completions", json=chat("solo", stream=number % 2 == 0))
                good = answer.status_code == 200 and (number % 2 or content_of(answer.text) == ANSWER)
                self.seen.append("good" if good else f"{answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as error:
                self.seen.append(repr(error))
            finally:
                if not keep:
                    one.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)


def serial_at(address, authorities, certificate):
    """Serial number of the certificate that a new connection is shown."""
    trust = ssl.create_default_context()
    for authority in authorities:
        trust.load_verify_locations(authority.ca)
    trust.load_cert_chain(*certificate)
    with connected(address) as plain, trust.wrap_socket(plain, server_hostname="localhost") as tls:
        return int(tls.getpeercert()["serialNumber"], 16)


def serial_of(leaf):
    return int(ssl._ssl._test_decode_cert(str(leaf[0]))["serialNumber"], 16)


def lets_in(address, authority, certificate):
    """Does a server take this client's certificate? With TLS 1.3 it says so after the handshake."""
    trust = ssl.create_default_context(cafile=authority.ca)
    trust.load_cert_chain(*certificate)
    try:
        with connected(address) as plain, trust.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return tls.recv(100).startswith(b"HTTP/1.1")
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.timeout(180)
def test_certificates_are_rotated_under_load():
    old, new = Authority("deploy-old"), Authority("deploy-new")
    leaf = {(who, name): who.sign(san, usage, name) for who in (old, new) for name, san, usage in (
        ("public", SERVER, "serverAuth"), ("sidecar", SERVER, "serverAuth"), ("envoy", "DNS:envoy", "clientAuth"),
        ("client", "DNS:load", "clientAuth"))}
    base = LOCAL / "run" / "e2e" / "rotation-mounts"
    public = Mount(base / "public", **files(leaf[old, "public"], old))
    envoy = Mount(base / "envoy", **files(leaf[old, "envoy"], old))
    sidecar = Mount(base / "sidecar", **files(leaf[old, "sidecar"], old))
    address = free_address()
    gateway = started(
        "rotation", "--tls-cert", public / "tls.crt", "--tls-key", public / "tls.key", "--tls-client-ca", public / "ca.crt",
        "--http3", "--sidecar", address.replace("127.0.0.1", "localhost"), "--sidecar-ca", envoy / "ca.crt",
        "--sidecar-cert", envoy / "tls.crt", "--sidecar-key", envoy / "tls.key",
        serve=["--listen-tls", address, "--tls-cert", sidecar / "tls.crt", "--tls-key", sidecar / "tls.key",
               "--tls-client-ca", sidecar / "ca.crt"])
    stack = gateway.stack
    try:
        bearer = {"authorization": f"Bearer {gateway.master_key}"}
        with client(gateway, old, leaf[old, "client"]) as admin:
            gateway.load_key = admin.post("/key/generate", json={}, headers=bearer).json()["key"]

        def in_use():
            """Serial numbers of the certificates that Envoy has now."""
            text = http("GET", f"{stack.admin_url}/certs")[1]
            return {int(serial, 16) for serial in re.findall(r'"serial_number": "([0-9a-f]+)"', text)}

        def rotate(what, leaf_of, *authorities):
            reloads = stack.sidecar.log.read_text().count("TLS certificates reloaded")
            public.swap(**files(leaf[leaf_of, "public"], *authorities))
            envoy.swap(**files(leaf[leaf_of, "envoy"], *authorities))
            sidecar.swap(**files(leaf[leaf_of, "sidecar"], *authorities))
            wanted = {serial_of(leaf[leaf_of, "public"]), serial_of(leaf[leaf_of, "envoy"]), serial_of([authorities[0].ca])}
            wait_for(f"{what}: Envoy", lambda: wanted <= in_use(), 15, 0.05)
            wait_for(f"{what}: sidecar", lambda: stack.sidecar.log.read_text().count("TLS certificates reloaded") > reloads, 15)
            time.sleep(0.5)

        with Load(gateway, [old, new], leaf[old, "client"]) as load:
            wait_for("requests", lambda: len(load.seen) > 50, 30)
            assert serial_at(stack.listen, [old], leaf[old, "client"]) == serial_of(leaf[old, "public"])
            rotate("both are trusted", old, new, old)
            load.certificate = leaf[new, "client"]
            rotate("new leaves", new, new, old)
            wanted = serial_of(leaf[new, "public"])
            assert serial_at(stack.listen, [new], leaf[new, "client"]) == wanted
            assert request(stack.listen, new.ca, "/health/readiness", certificate=leaf[new, "client"]).serial == wanted
            assert serial_at(address, [new], leaf[new, "envoy"]) == serial_of(leaf[new, "sidecar"])
            assert lets_in(stack.listen, new, leaf[old, "client"]), "the old authority is trusted still"
            rotate("only the new one is trusted", new, new)
            wait_for("refusal", lambda: not lets_in(stack.listen, new, leaf[old, "client"]), 15)
            assert not lets_in(address, new, leaf[old, "envoy"])
            assert lets_in(stack.listen, new, leaf[new, "client"]) and lets_in(address, new, leaf[new, "envoy"])
            # A key that is another's: both keep what they have.
            for mount in (public, sidecar):
                mount.swap(**{**files(leaf[new, "public"], new), "tls_key": leaf[old, "public"][1].read_bytes()})
            wait_for("the sidecar's complaint", lambda: "certificates not reloaded" in stack.sidecar.log.read_text(), 15)
            wait_for("Envoy's", lambda: sum(stack.stats("^sds.attache_public.*(rejected|failed)").values()), 15)
            assert serial_at(stack.listen, [new], leaf[new, "client"]) == wanted
            assert serial_at(address, [new], leaf[new, "envoy"]) == serial_of(leaf[new, "sidecar"])
            before = len(load.seen)
            wait_for("more requests", lambda: len(load.seen) > before + 50, 30)
        bad = [seen for seen in load.seen if seen != "good"]
        assert not bad, f"{len(bad)} of {len(load.seen)}: {bad[:5]}"

        # A sidecar that never saw the old authority is reached: Envoy shows its new certificate.
        sidecar.swap(**files(leaf[new, "sidecar"], new))
        public.swap(**files(leaf[new, "public"], new))
        stack.restart_sidecar()
        with client(gateway, new, leaf[new, "client"], headers={"authorization": f"Bearer {gateway.load_key}"}) as one:
            assert one.post("/v1/chat/completions", json=chat("solo")).status_code == 200
        FACTS.record("rotation", len(load.seen), "{value} requests while all certificates were changed three times: none failed")
    finally:
        gateway.close()
