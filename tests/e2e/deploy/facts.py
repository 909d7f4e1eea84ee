"""Figures for the suite's last line, in the order in which issue and line tell them."""

from asking import Facts

FACTS = Facts("manifests", "bootstraps", "mtls", "spiffe", "rotation", "sidecar", "envoy", "link", "hang", "lost", "limit", "upgrade",
              "versions")
