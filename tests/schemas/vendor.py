#!/usr/bin/env python3
"""Turns a CustomResourceDefinition on standard input into a strict JSON Schema of one version, on standard output.

    git show v1.6.1:config/crd/standard/gateway.networking.k8s.io_httproutes.yaml | tests/schemas/vendor.py v1 > ...

Texts go (they are most of it), and rules in CEL, which a JSON Schema cannot say. What an API server would prune in silence
becomes an error: a misspelt field must not pass. Names after the version are paths to leave out (`spec.acme`).
"""

import json
import sys

import yaml

KEPT = ("type", "properties", "items", "additionalProperties", "required", "enum", "pattern", "minimum", "maximum",
        "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "anyOf", "oneOf", "allOf", "not",
        "const", "uniqueItems", "exclusiveMinimum", "exclusiveMaximum")


def strict(node):
    """The schema of a value. Only here are unknown fields refused: branches of `anyOf` and the like name some fields."""
    found = plain(node)
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return {} if "properties" not in node else found
    if node.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
        found["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in node and "additionalProperties" not in node:
        found["additionalProperties"] = False
    if node.get("nullable") and "type" in found:
        found["type"] = [found["type"], "null"]
    return found


def plain(node):
    found = {key: node[key] for key in KEPT if key in node}
    if "properties" in node:
        found["properties"] = {name: strict(value) for name, value in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            found[key] = strict(node[key])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in node:
            found[key] = [branch(value) for value in node[key]]
    if "not" in node:
        found["not"] = branch(node["not"])
    return found


def branch(node):
    """A condition on a value whose fields are described elsewhere."""
    found = {key: node[key] for key in KEPT if key in node}
    if "properties" in node:
        found["properties"] = {name: branch(value) for name, value in node["properties"].items()}
    for key in ("anyOf", "oneOf", "allOf"):
        if key in node:
            found[key] = [branch(value) for value in node[key]]
    return found


def convert(crd, version, left_out):
    """`apiVersion` and `kind` are constants; `metadata` is the API server's to check."""
    spec = crd["spec"]
    schema = next(entry["schema"]["openAPIV3Schema"] for entry in spec["versions"] if entry["name"] == version)
    for path in left_out:
        *parents, last = path.split(".")
        node = schema
        for name in parents:
            node = node["properties"][name]
        del node["properties"][last]
    found = strict(schema)
    found["properties"] |= {
        "apiVersion": {"const": f"{spec['group']}/{version}"}, "kind": {"const": spec["names"]["kind"]},
        "metadata": {"type": "object", "required": ["name"]},
    }
    found["properties"].pop("status", None)
    found["required"] = sorted({"apiVersion", "kind", "metadata", *found.get("required", [])})
    return found


if __name__ == "__main__":
    print(json.dumps(convert(yaml.safe_load(sys.stdin), sys.argv[1], sys.argv[2:]), separators=(",", ":"), sort_keys=True))
