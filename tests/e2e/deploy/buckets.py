"""A small object store: S3 (it checks the signature) and GCS, with the servers that hand out credentials for them."""

import datetime
import hashlib
import hmac
import json
import ssl
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import ROOT
from stack import free_address

CERTIFICATES = ROOT / "ext-proc" / "src" / "server" / "testdata"
CA = CERTIFICATES / "ca.pem"
BUCKET, REGION = "conf", "eu-central-1"
# Access key id -> secret, session token: of static keys, of the machine's role, of a role by web identity.
KEYS = {"AKIASTATIC": ("static-secret", None), "ASIAMACHINE": ("machine-secret", "machine-session"),
        "ASIAWEB": ("web-secret", "web-session")}
GOOGLE_TOKEN = "ya29.of-the-metadata-server"
WEB_TOKEN = "token.of.the-cluster"


def signature(request, secret):
    """Signature version 4 of a request as it arrived."""
    scope = request.headers["authorization"].split("Credential=")[1].split(",")[0].split("/", 1)[1]
    names = request.headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    path, _, query = request.path.partition("?")
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names.split(";"))
    canonical = "\n".join([request.command, path, query, headers, names, request.headers["x-amz-content-sha256"]])
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def world(self):
        return self.server.world

    def answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, code):
        self.answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} it is</Message></Error>",
                    content_type="application/xml")

    def do_PUT(self):
        assert self.path == "/latest/api/token" and self.headers["x-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200, "imds-session")

    def do_POST(self):
        """STS."""
        sent = self.path.partition("?")[2] or self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        form = dict(urllib.parse.parse_qsl(sent))
        self.world.asked.append(form["Action"])
        if form.get("WebIdentityToken") != WEB_TOKEN or form["RoleArn"] != "arn:aws:iam::1:role/conf":
            return self.refuse(403, "AccessDenied")
        until = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).isoformat()
        keys = ("<AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>web-secret</SecretAccessKey>"
                f"<SessionToken>web-session</SessionToken><Expiration>{until}</Expiration>")
        self.answer(200, "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
                    f"{keys}</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>")

    def do_GET(self):
        if self.path.startswith("/latest/meta-data/"):
            return self.machine()
        if self.path.startswith("/computeMetadata/"):
            assert self.headers["metadata-flavor"] == "Google"
            return self.answer(200, json.dumps({"access_token": GOOGLE_TOKEN, "expires_in": 3600, "token_type": "Bearer"}))
        bucket, _, key = urllib.parse.unquote(self.path.partition("?")[0]).lstrip("/").partition("/")
        allowed = self.world.allows(self)
        self.world.seen.append(self.headers)
        if self.world.broken:
            return self.refuse(503, "SlowDown")
        if not allowed:
            return self.refuse(403, "SignatureDoesNotMatch")
        if bucket != BUCKET or self.world.gone:
            return self.refuse(404, "NoSuchBucket")
        if key not in self.world.objects:
            return self.refuse(404, "NoSuchKey")
        body = self.world.objects[key].encode()
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        if self.headers["if-none-match"] == etag:
            self.world.unchanged += 1
            return self.answer(304, etag=etag)
        self.world.sent += 1
        self.answer(200, body, etag=etag, last_modified="Sun, 29 Nov 2026 10:00:00 GMT")

    def machine(self):
        assert self.headers["x-aws-ec2-metadata-token"] == "imds-session"
        if self.path.endswith("/security-credentials/"):
            return self.answer(200, "machine-role")
        until = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.answer(200, json.dumps({"AccessKeyId": "ASIAMACHINE", "SecretAccessKey": "machine-secret",
                                     "Token": "machine-session", "Expiration": until}))


class Buckets:
    """`objects` are those of the one bucket; `broken` and `gone` take it away."""

    def __init__(self):
        self.objects, self.broken, self.gone = {}, False, False
        self.seen, self.asked, self.sent, self.unchanged = [], [], 0, 0
        self.plain, self.tls = self.serve(False), self.serve(True)

    def serve(self, tls):
        host, port = free_address().split(":")
        server = ThreadingHTTPServer((host, int(port)), Handler)
        server.world, server.daemon_threads = self, True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    @property
    def url(self):
        return f"http://127.0.0.1:{self.plain.server_port}"

    @property
    def tls_url(self):
        return f"https://localhost:{self.tls.server_port}"

    def allows(self, request):
        given = request.headers["authorization"] or ""
        if given == f"Bearer {GOOGLE_TOKEN}":
            return True
        if not given.startswith("AWS4-HMAC-SHA256 Credential="):
            return False
        secret, session = KEYS.get(given.split("Credential=")[1].split("/")[0], ("", None))
        scoped = f"/{REGION}/s3/aws4_request" in given
        own = hmac.compare_digest(given.split("Signature=")[1], signature(request, secret))
        return own and scoped and request.headers["x-amz-security-token"] == session

    def close(self):
        for server in (self.plain, self.tls):
            server.shutdown()
            server.server_close()
