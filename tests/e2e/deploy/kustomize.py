"""Renders a kustomization as `kubectl kustomize` does, for what the ones in k8s/ use; anything else is an error.

No registry that the tests may use has the kustomize binary. Where `kubectl` is installed, test_manifests.py compares the two.
"""

import base64
import copy
import json
from pathlib import Path

import yaml
from harness import ROOT

K8S = ROOT / "k8s"
KNOWN = {"apiVersion", "kind", "namespace", "labels", "resources", "components", "configMapGenerator", "secretGenerator",
         "images", "patches"}
CLUSTER_WIDE = {"Namespace"}
# What a list of objects is merged by; any other list is replaced.
MERGE_KEYS = {"containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath"}


def build(folder):
    """The manifests of a kustomization."""
    return render(Path(folder), [])


def with_component(name):
    """The base with one component."""
    return render(K8S / "components" / name, build(K8S / "base"))


def render(folder, items):
    folder = folder.resolve()
    text = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(text) <= KNOWN, f"{folder}: {set(text) - KNOWN} is not implemented here"
    for name in text.get("resources", []):
        path = folder / name
        items += build(path) if path.is_dir() else load(path)
    for name in text.get("components", []):
        items = render(folder / name, items)
    for entry in text.get("configMapGenerator", []):
        generate(items, entry, folder, "ConfigMap", "data", str)
    for entry in text.get("secretGenerator", []):
        generate(items, entry, folder, "Secret", "data", lambda value: base64.b64encode(value.encode()).decode())
    for patch in text.get("patches", []):
        apply(items, patch, folder)
    for item in items:
        if "namespace" in text and item["kind"] not in CLUSTER_WIDE:
            item["metadata"]["namespace"] = text["namespace"]
        for entry in text.get("labels", []):
            assert set(entry) == {"pairs"}, entry
            item["metadata"].setdefault("labels", {}).update(entry["pairs"])
        for image in text.get("images", []):
            retag(item, image)
    return items


def load(path):
    """Documents of a file. What an anchor stands for is one object in many places: here each place has its own."""
    return [json.loads(json.dumps(item)) for item in yaml.safe_load_all(path.read_text()) if item]


def generate(items, entry, folder, kind, field, encode):
    options = entry.get("options", {})
    assert options.get("disableNameSuffixHash"), "names with a hash are not implemented here"
    data = {}
    for file in entry.get("files", []):
        name, _, path = file.rpartition("=")
        data[name or Path(path).name] = encode((folder / path).read_text())
    data.update((name, encode(value)) for name, _, value in (text.partition("=") for text in entry.get("literals", [])))
    made = {"apiVersion": "v1", "kind": kind, "metadata": {"name": entry["name"]}, field: data}
    if "labels" in options:
        made["metadata"]["labels"] = dict(options["labels"])
    if kind == "Secret":
        made["type"] = "Opaque"
    if entry.get("behavior", "create") == "replace":
        found = only(items, kind, entry["name"])
        found[field] = data
    else:
        items.append(made)


def only(items, kind, name):
    found = [item for item in items if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def apply(items, patch, folder):
    text = yaml.safe_load(patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text())
    if isinstance(text, list):
        item = only(items, **patch["target"])
        for operation in text:
            change(item, operation)
    else:
        merge(only(items, text["kind"], text["metadata"]["name"]), text)


def change(item, operation):
    """One operation of RFC 6902."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    node = item
    for part in parents:
        node = node[int(part) if isinstance(node, list) else part]
    match operation["op"], node, last:
        case "add", list(), "-":
            node.append(copy.deepcopy(operation["value"]))
        case "add" | "replace", dict(), _:
            assert operation["op"] == "add" or last in node, operation
            node[last] = copy.deepcopy(operation["value"])
        case "remove", list(), _:
            del node[int(last)]
        case _:
            raise AssertionError(f"{operation} is not implemented here")


def merge(target, patch):
    """A strategic merge."""
    for name, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            merge(target[name], value)
        elif isinstance(value, list) and name in MERGE_KEYS:
            target[name] = merged(target.get(name, []), value, MERGE_KEYS[name])
        else:
            target[name] = copy.deepcopy(value)


def merged(old, new, key):
    found = {entry[key]: entry for entry in old}
    added = {}
    for entry in new:
        if entry.get("$patch") == "delete":
            del found[entry[key]]
        elif entry[key] in found:
            merge(found[entry[key]], entry)
        else:
            added[entry[key]] = copy.deepcopy(entry)
    # As kustomize does: what is new comes first.
    return [*added.values(), *found.values()]


def retag(item, image):
    spec = item.get("spec", {}).get("template", {}).get("spec", {})
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        if container["image"].partition(":")[0] == image["name"]:
            container["image"] = f"{image['name']}:{image['newTag']}"
