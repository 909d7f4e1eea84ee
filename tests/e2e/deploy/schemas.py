"""Strict schemas: of Kubernetes from a package, of custom resources and compose files from tests/schemas."""

import json

import jsonschema
import kubernetes_validate
import yaml
from harness import ROOT

SCHEMAS = ROOT / "tests" / "schemas"
# Sidecars as Kubernetes means them are on by default since 1.29.
OLDEST, NEWEST = "1.29", "1.37"


class Unique(yaml.SafeLoader):
    """YAML in which no name comes twice: the second one would win in silence."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value if key.value != "<<"]
        assert len(names) == len(set(names)), f"a name comes twice {node.start_mark}: {names}"
        return super().construct_mapping(node, deep)


def documents(path):
    return [item for item in yaml.load_all(path.read_text(), Unique) if item]  # noqa: S506 - a SafeLoader


def schema(name):
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def check_compose(value):
    jsonschema.Draft202012Validator(schema("compose-spec")).validate(value)


def check_manifest(item):
    """Raises jsonschema's error for a manifest that an API server would not take as it is."""
    group, _, version = item["apiVersion"].rpartition("/")
    if "." in group and not group.endswith(".k8s.io") or group == "gateway.networking.k8s.io":
        jsonschema.Draft202012Validator(schema(f"{group}_{item['kind'].lower()}_{version}")).validate(item)
        return
    for release in (OLDEST, NEWEST):
        kubernetes_validate.validate(item, release, strict=True)
