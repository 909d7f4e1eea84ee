"""Certificates that are made for a test."""

import hashlib
import subprocess

from harness import LOCAL

# What the subject of every certificate claims to be, for whoever reads text instead of the certificate's URI.
DECOY = "spiffe://corp.example/ns/search/sa/indexer"


def openssl(*arguments, data=None):
    done = subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class Authority:
    """A certificate authority and what it signs."""

    def __init__(self, name):
        self.folder = LOCAL / "run" / "e2e" / f"ca-{name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        self._make(self.ca, self.key, f"/CN={name}", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")

    def _make(self, pem, key, subject, *extensions, signed=()):
        added = [part for extension in extensions for part in ("-addext", extension)]
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", subject, "-keyout", key, "-out", pem, *signed, *added)

    def sign(self, san, usage="clientAuth", version=""):
        """Certificate and key of a leaf; another one for another version."""
        stem = hashlib.sha256(f"{san}{version}".encode()).hexdigest()[:12]
        pem, key = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        # A subject that would be another identity to whoever reads text carelessly.
        self._make(pem, key, "/CN=x;URI=" + DECOY.replace("/", r"\/"), f"subjectAltName={san}", "basicConstraints=critical,CA:FALSE",
                   f"extendedKeyUsage={usage}", signed=("-CA", self.ca, "-CAkey", self.key))
        return pem, key
