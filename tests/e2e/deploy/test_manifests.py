"""The manifests of k8s/: schemas, strict ones, and what schemas do not see: that every name refers to something."""

import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml
from facts import FACTS
from harness import ROOT
from kustomize import K8S, build, with_component
from project import ATTACHE
from schemas import SCHEMAS, check_manifest, documents

OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
SECRET = K8S / "base" / "secret.example.yaml"
CHECKED = []


def manifests_of(what):
    return build(K8S / "overlays" / what) if what in OVERLAYS else with_component(what)


@pytest.fixture(params=[*OVERLAYS, *COMPONENTS])
def manifests(request):
    return manifests_of(request.param)


def test_every_manifest_has_its_schema(manifests):
    for item in manifests:
        check_manifest(item)
    CHECKED.extend(manifests)
    FACTS.record("manifests", len(CHECKED), "{value} manifests are valid")


def test_every_file_is_part_of_something():
    """And is YAML in which no name comes twice."""
    kinds = []
    for path in K8S.rglob("*.yaml"):
        kinds += [item.get("kind") for item in documents(path)]
        used = (path.parent / "kustomization.yaml").read_text()
        assert path.name in ("kustomization.yaml", "prometheus-adapter.yaml", SECRET.name) or path.name in used, path
    check_manifest(documents(SECRET)[0])
    assert {"HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"} <= set(kinds)


@pytest.mark.parametrize("path, change", [
    ("base/deployment.yaml", lambda item: item["spec"].update(replica=1)),
    ("base/deployment.yaml", lambda item: item["spec"]["template"]["spec"]["containers"][0].update(comand=[])),
    ("base/service.yaml", lambda item: item["spec"]["ports"][0].update(port="http")),
    ("components/gateway/route.yaml", lambda item: item["spec"]["rules"][0]["timeouts"].update(requests="0s")),
    ("components/gateway/route.yaml", lambda item: item["spec"]["rules"][0]["timeouts"].update(request="never")),
    ("components/gateway/certificate.yaml", lambda item: item["spec"].pop("secretName")),
    ("components/monitoring/servicemonitor.yaml", lambda item: item["spec"]["endpoints"][0].update(intervall="5s")),
    ("components/monitoring/rules.yaml", lambda item: item["spec"]["groups"][0]["rules"][0].update({"for": "soon"})),
    ("components/external-secrets/externalsecret.yaml", lambda item: item["spec"]["target"].update(creationPolicy="Mine")),
    ("overlays/central/certificates.yaml", lambda item: item["spec"].update(selfsigned={})),
])
def test_the_schemas_are_strict(path, change):
    item = documents(K8S / path)[0]
    check_manifest(item)
    change(item)
    with pytest.raises(jsonschema.ValidationError):
        check_manifest(item)


@pytest.mark.parametrize("what", [*OVERLAYS, *COMPONENTS])
def test_kustomize_says_the_same(what, tmp_path):
    """Where it is installed: the renderer of these tests is our own."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    folder = K8S / "overlays" / what
    if what in COMPONENTS:
        folder = tmp_path / "one"
        shutil.copytree(K8S, tmp_path / "k8s")
        folder.mkdir()
        (folder / "kustomization.yaml").write_text(f"resources: [../k8s/base]\ncomponents: [../k8s/components/{what}]\n")
    done = subprocess.run(["kubectl", "kustomize", folder], text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr

    def by_name(items):
        return {(item["kind"], item["metadata"]["name"]): item for item in items}

    assert by_name(yaml.safe_load_all(done.stdout)) == by_name(manifests_of(what))


# -- names -------------------------------------------------------------------------------------------------------------
def named(items, kind):
    return {item["metadata"]["name"]: item for item in items if item["kind"] == kind}


def pods(items):
    """Pod templates by the name of their Deployment."""
    return {name: item["spec"]["template"] for name, item in named(items, "Deployment").items()}


def containers(pod):
    """Those that run, native sidecars included."""
    beside = [one for one in pod["spec"].get("initContainers", []) if one.get("restartPolicy") == "Always"]
    return [*pod["spec"]["containers"], *beside]


def all_containers(pod):
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


def ports(pod):
    return {port["name"]: port["containerPort"] for one in containers(pod) for port in one.get("ports", [])}


def matches(selector, labels):
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []))


def selected(items, selector):
    return [pod for pod in pods(items).values() if matches(selector, pod["metadata"]["labels"])]


def made_secrets(items):
    """Names of the Secrets that are there once this is applied, with their keys where those are known."""
    found = {name: set(item["data"]) for name, item in named(items, "Secret").items()}
    found |= {item["spec"]["secretName"]: {"ca.crt", "tls.crt", "tls.key"} for item in named(items, "Certificate").values()}
    return {"attache": set(documents(SECRET)[0]["stringData"])} | found


def test_every_pod_finds_what_it_names(manifests):
    for name, pod in pods(manifests).items():
        spec = pod["spec"]
        assert spec.get("serviceAccountName", "default") in {"default", *named(manifests, "ServiceAccount")}, name
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        mounted = [mount["name"] for one in all_containers(pod) for mount in one.get("volumeMounts", [])]
        assert set(mounted) == set(volumes), f"{name}: volumes and mounts differ"
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in named(manifests, "ConfigMap"), volume
            if "secret" in volume:
                assert volume["secret"]["secretName"] in made_secrets(manifests), volume
        for one in all_containers(pod):
            for source in one.get("envFrom", []):
                assert source["secretRef"]["name"] in made_secrets(manifests), source
            for variable in one.get("env", []):
                if "valueFrom" in variable:
                    key = variable["valueFrom"]["secretKeyRef"]
                    assert key["key"] in made_secrets(manifests)[key["name"]], variable
            own = {port["name"]: port["containerPort"] for port in one.get("ports", [])}
            for probe in (one[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe") if kind in one):
                port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                assert port is None or port in own, f"{name}/{one['name']}: {probe}"


def test_the_configuration_names_variables_that_the_secret_has(manifests):
    text = named(manifests, "ConfigMap")["attache"]["data"]["config.yaml"]
    wanted = set(re.findall(r"\$\{(\w+)\}", text)) | set(re.findall(r"os\.environ/(\w+)", text))
    assert wanted and wanted <= made_secrets(manifests)["attache"], wanted


def test_services_reach_ports_of_pods(manifests):
    for name, service in named(manifests, "Service").items():
        found = selected(manifests, {"matchLabels": service["spec"]["selector"]})
        assert len(found) == 1, f"{name} selects {len(found)} pods"
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            assert target in ports(found[0]) or target in ports(found[0]).values(), f"{name}: {port}"


def test_routes_reach_services(manifests):
    services = named(manifests, "Service")

    def reaches(name, port):
        return any(port in (one["port"], one["name"]) for one in services[name]["spec"]["ports"])

    secrets = made_secrets(manifests) | {
        tls["secretName"]: None for item in named(manifests, "Ingress").values() for tls in item["spec"]["tls"]}
    for gateway in named(manifests, "Gateway").values():
        for listener in gateway["spec"]["listeners"]:
            assert all(one["name"] in secrets for one in listener["tls"]["certificateRefs"]), listener
            hosts = {host for one in named(manifests, "Certificate").values() for host in one["spec"].get("dnsNames", [])}
            assert listener["hostname"] in hosts, hosts
    for route in named(manifests, "HTTPRoute").values():
        for parent in route["spec"]["parentRefs"]:
            listeners = {one["name"]: one for one in named(manifests, "Gateway")[parent["name"]]["spec"]["listeners"]}
            assert route["spec"]["hostnames"] == [listeners[parent["sectionName"]]["hostname"]]
        for rule in route["spec"]["rules"]:
            assert all(reaches(one["name"], one["port"]) for one in rule["backendRefs"]), rule
    for ingress in named(manifests, "Ingress").values():
        backends = [path["backend"]["service"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        assert all(reaches(one["name"], one["port"].get("name", one["port"].get("number"))) for one in backends), backends
    issuers = named(manifests, "Issuer")
    for certificate in named(manifests, "Certificate").values():
        issuer = certificate["spec"]["issuerRef"]
        assert issuer["kind"] == "ClusterIssuer" or issuer["name"] in issuers, issuer


def test_selectors_and_targets(manifests):
    for name, item in named(manifests, "Deployment").items():
        assert matches(item["spec"]["selector"], item["spec"]["template"]["metadata"]["labels"]), name
        for spread in item["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            assert matches(spread["labelSelector"], item["spec"]["template"]["metadata"]["labels"]), name
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for name, item in named(manifests, kind).items():
            assert len(selected(manifests, item["spec"][field])) == 1, f"{kind} {name}"
    for item in named(manifests, "HorizontalPodAutoscaler").values():
        pod = pods(manifests)[item["spec"]["scaleTargetRef"]["name"]]
        for metric in item["spec"]["metrics"]:
            if metric["type"] == "ContainerResource":
                one = {one["name"]: one for one in containers(pod)}[metric["containerResource"]["container"]]
                assert "cpu" in one["resources"]["requests"]
    for item in named(manifests, "ServiceMonitor").values():
        found = [one for one in named(manifests, "Service").values() if matches(item["spec"]["selector"], one["metadata"]["labels"])]
        offered = {port["name"] for one in found for port in one["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in item["spec"]["endpoints"]} <= offered


def test_policies_let_through_what_is_needed(manifests):
    """Ports of ingress rules are ports of the pods; between our own pods both ends must agree."""
    policies = list(named(manifests, "NetworkPolicy").values())
    for item in policies:
        pod = selected(manifests, item["spec"]["podSelector"])[0]
        opened = {port["port"] for rule in item["spec"]["ingress"] for port in rule["ports"]}
        assert opened <= set(ports(pod).values()), opened
        assert opened == set(ports(pod).values()), "a port that nobody may reach"
        for rule in item["spec"]["egress"]:
            for peer in rule["to"]:
                if "podSelector" in peer:
                    for other in selected(manifests, peer["podSelector"]):
                        assert {port["port"] for port in rule["ports"]} & set(ports(other).values()), rule


# -- hardening ---------------------------------------------------------------------------------------------------------
def test_pods_are_restricted(manifests):
    for name, pod in pods(manifests).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for one in all_containers(pod):
            assert one["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                              "capabilities": {"drop": ["ALL"]}}, f"{name}/{one['name']}"
            assert "memory" in one["resources"]["limits"] and "cpu" in one["resources"]["requests"], one["name"]
            assert re.search(r":\d[\w.-]*$", one["image"]), f"{one['image']} is not pinned"
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), name


def test_the_shutdown_has_time_enough(manifests):
    pod = pods(manifests)["attache"]
    envoy = {one["name"]: one for one in containers(pod)}["envoy"]
    _, most, least = envoy["lifecycle"]["preStop"]["exec"]["command"]
    # The sidecar after it: 10 s for requests, 250 ms to close, 10 s for the ledger (ext-proc/src/server/serve.rs).
    source = (ROOT / "ext-proc" / "src" / "server" / "serve.rs").read_text()
    sidecar = sum(int(seconds) for seconds in re.findall(r"_PATIENCE: Duration = Duration::from_secs\((\d+)\)", source)) + 1
    assert sidecar >= 21 and int(least) < int(most)
    assert int(most) + sidecar < pod["spec"]["terminationGracePeriodSeconds"]
    if "attache-sidecar" in pods(manifests):
        assert sidecar < pods(manifests)["attache-sidecar"]["spec"]["terminationGracePeriodSeconds"]


def test_flags_exist(manifests):
    """Flags of `attache serve` and `attache envoy`, and that each has the value it needs."""
    commands = []
    for pod in pods(manifests).values():
        for one in all_containers(pod):
            if one["image"].startswith("attache/sidecar:"):
                commands.append(one["args"])
            elif "bootstrap.sh" in one.get("command", [""])[0]:
                commands.append(["envoy", *one["command"][2:]])
    assert len(commands) >= 2
    for name, *flags in commands:
        text = subprocess.run([ATTACHE, name, "--help"], text=True, capture_output=True, timeout=30, check=True).stdout
        known = set(re.findall(r"^ +(?:-\w, +)?(--[a-z0-9-]+) \[?<", text, re.MULTILINE))
        assert all("=" in flag and flag.partition("=")[0] in known for flag in flags), (name, flags)


def test_gate_and_adapter_share_the_filter(manifests):
    """And socket and files are where the other one looks for them."""
    flags = {}
    for pod in pods(manifests).values():
        for one in all_containers(pod):
            for text in [*one.get("args", []), *one.get("command", [])]:
                name, _, value = text.partition("=")
                if name.startswith("--") and value:
                    flags.setdefault(name, set()).add(value)
    assert all(len(flags[name]) == 1 for name in ("--wasm", "--config", "--socket")), flags
    assert flags["--admin"] == {"127.0.0.1:9901"}, "the admin interface can stop Envoy: on loopback only"
    if "--sidecar" in flags:
        host, _, port = flags["--sidecar"].pop().rpartition(":")
        service = named(manifests, "Service")[host.split(".")[0]]
        assert host == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
        assert int(port) in {one["port"] for one in service["spec"]["ports"]}
        server = named(manifests, "Certificate")["attache-sidecar"]["spec"]
        assert host in server["dnsNames"]
        # The name of all of them: Envoy finds out which answer.
        assert service["spec"]["clusterIP"] == "None"


def test_vendored_schemas_are_used():
    ours = [(item["apiVersion"], item["kind"]) for path in K8S.rglob("*.yaml") for item in documents(path)
            if "kind" in item and "apiVersion" in item]
    rendered = [pair for path in (ROOT / "ext-proc" / "src" / "envoy" / "mesh" / "snapshots").glob("*.snap")
                for pair in re.findall(r"^apiVersion: (\S+)\nkind: (\S+)$", path.read_text(), re.MULTILINE)]
    used = {f"{version.rpartition('/')[0]}_{kind.lower()}_{version.rpartition('/')[2]}.json" for version, kind in ours + rendered}
    for path in SCHEMAS.glob("*_v*.json"):
        assert path.name in used, f"{path.name} is for nothing"
