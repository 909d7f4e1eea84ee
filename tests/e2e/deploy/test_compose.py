"""compose/: the schema, and what it does not see; the Dockerfile, as far as it can be judged without an engine."""

import copy
import re
import shutil
import subprocess
import tomllib

import jsonschema
import pytest
import yaml
from harness import ROOT
from project import ATTACHE, ENVOY_VERSION, VENV
from schemas import check_compose, documents

COMPOSE = ROOT / "compose"
STORES = {"redis": "7.", "postgres": "15."}


@pytest.fixture(scope="module")
def stack():
    return documents(COMPOSE / "compose.yaml")[0]


@pytest.fixture(scope="module")
def services(stack):
    return stack["services"]


def test_the_schema_takes_both_files(stack):
    check_compose(stack)
    override = documents(COMPOSE / "compose.dev.yaml")[0]
    check_compose(override)
    assert set(override["services"]) <= set(stack["services"])
    broken = copy.deepcopy(stack)
    broken["services"]["envoy"]["helthcheck"] = {}
    with pytest.raises(jsonschema.ValidationError):
        check_compose(broken)


def test_all_that_was_asked_for_is_there(services):
    assert set(services) == {"envoy", "bootstrap", "attache", "fake-provider", "redis", "postgres", "prometheus", "grafana"}
    for name, version in STORES.items():
        assert services[name]["image"].startswith(f"{name}:{version}")
    for name, service in services.items():
        assert re.search(r":v?\d+(\.\d+){1,2}(-alpine)?$", service["image"]), f"{name}: {service['image']} is not pinned"


def test_every_service_is_locked_down(services):
    for name, service in services.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service) - {"network_mode"}, name
        assert service.get("network_mode", "none") == "none", name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:") or port.startswith("${ATTACHE_LISTEN:-127.0.0.1:4000}:"), f"{name}: {port}"
    assert services["redis"]["user"] and services["postgres"]["user"], "their images begin as root"


def test_names_refer_to_something(stack, services):
    volumes, networks = set(stack["volumes"]), set(stack["networks"])
    mounted, joined = set(), set()
    for name, service in services.items():
        joined |= set(service.get("networks", []))
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).exists(), f"{name}: {source}"
            else:
                mounted.add(source)
        for other in service.get("depends_on", {}):
            assert other in services, f"{name} depends on {other}"
            condition = service["depends_on"][other]["condition"] if isinstance(service["depends_on"], dict) else ""
            assert condition != "service_healthy" or "healthcheck" in services[other], other
        if "build" in service:
            assert (COMPOSE / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).exists()
            assert re.search(rf"^FROM .* AS {service['build']['target']}$", dockerfile(), re.MULTILINE)
    assert (mounted, joined) == (volumes, networks)


def test_who_talks_to_whom_shares_a_network(stack, services):
    talks = {"attache": ("redis", "postgres", "fake-provider"), "envoy": ("fake-provider",), "prometheus": ("attache", "envoy"),
             "grafana": ("prometheus",)}
    for name, others in talks.items():
        for other in others:
            assert set(services[name]["networks"]) & set(services[other]["networks"]), f"{name} does not reach {other}"
    inside = {name for name, network in stack["networks"].items() if network.get("internal")}
    for name in ("envoy", "attache"):
        assert set(services[name]["networks"]) - inside, f"{name} does not reach providers"
    for name in ("redis", "postgres", "fake-provider"):
        assert set(services[name]["networks"]) <= inside, f"{name} is reached from outside"


def test_variables_are_told_and_secrets_never_have_a_default(services):
    text = (COMPOSE / "compose.yaml").read_text()
    example = (COMPOSE / ".env.example").read_text()
    for name, default in set(re.findall(r"\$\{(\w+)(:?[-?][^}]*)\}", text)):
        assert re.search(rf"^#?{name}=", example, re.MULTILINE), f"{name} is not in .env.example"
        assert default.startswith(":?") or not re.search("KEY|PASSWORD", name) or default == ":-sk-not-set", name
    wanted = set(re.findall(r"\$\{(\w+)", (COMPOSE / "attache.yaml").read_text()))
    for name in ("attache", "bootstrap"):
        assert wanted <= set(services[name]["environment"]), name
    assert "environment" not in services["envoy"], "Envoy needs no secret: they come over the socket"
    ignored = subprocess.run(["git", "check-ignore", "-q", COMPOSE / ".env"], cwd=ROOT, check=False).returncode
    assert ignored == 0 or not (ROOT / ".git").exists(), ".env would be committed"


def test_flags_exist(services):
    for name, flags in (("serve", services["attache"]["command"][1:]), ("envoy", services["bootstrap"]["command"][2:])):
        text = subprocess.run([ATTACHE, name, "--help"], text=True, capture_output=True, timeout=30, check=True).stdout
        known = set(re.findall(r"^ +(?:-\w, +)?(--[a-z-]+) <", text, re.MULTILINE))
        assert all("=" in flag and flag.partition("=")[0] in known for flag in flags), flags
    both = {flag for flag in services["attache"]["command"] if flag.startswith(("--wasm=", "--socket=", "--config="))}
    assert len(both) == 3 and both <= set(services["bootstrap"]["command"])


def test_prometheus_and_grafana_find_what_they_show(services):
    prometheus = documents(COMPOSE / "prometheus.yaml")[0]
    probes = (COMPOSE / "image" / "probes.yaml").read_text()
    for job in prometheus["scrape_configs"]:
        (target,) = job["static_configs"][0]["targets"]
        name, port = target.split(":")
        assert name in services
        listens = f"--health-listen=0.0.0.0:{port}" in services[name]["command"] or f"port_value: {port}" in probes
        assert listens, f"nobody listens at {target}"
        assert name != "envoy" or f"path: {job['metrics_path']}" in probes
    mounts = [volume.split(":")[1] for volume in services["prometheus"]["volumes"]]
    assert all(f"/etc/prometheus/{name}" in mounts for name in prometheus["rule_files"])
    (source,) = documents(COMPOSE / "grafana" / "datasources" / "prometheus.yaml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = documents(COMPOSE / "grafana" / "dashboards" / "attache.yaml")[0]["providers"]
    folder = provider["options"]["path"]
    assert f"../k8s/components/monitoring/dashboards:{folder}:ro" in services["grafana"]["volumes"]
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/attache.json"


def test_the_configuration_passes_the_check(services):
    environment = {name: re.sub(r"\$\{\w+:[-?][^}]*\}", "sk-0123456789abcdef", value)
                   for name, value in services["attache"]["environment"].items()}
    done = subprocess.run([ATTACHE, "check", "--config", COMPOSE / "attache.yaml"], env=environment, text=True, capture_output=True,
                          timeout=30, check=False)
    assert done.returncode == 0 and "0 errors, 0 warnings" in done.stdout, done.stdout + done.stderr


# -- images ------------------------------------------------------------------------------------------------------------
def dockerfile():
    return (COMPOSE / "Dockerfile").read_text()


def stages():
    """Instructions by the name of their stage."""
    found, name = {}, ""
    for line in dockerfile().replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            if word == "FROM":
                name = rest.split(" AS ")[1]
            found.setdefault(name, []).append((word, rest.strip()))
    return found


def test_hadolint_has_nothing_to_say():
    done = subprocess.run([VENV / "bin" / "hadolint", COMPOSE / "Dockerfile"], text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_versions_are_the_projects():
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    assert f"ARG ENVOY_IMAGE=envoyproxy/envoy:v{ENVOY_VERSION}\n" in dockerfile()
    assert re.search(rf"^ARG RUST_IMAGE=rust:{cargo['rust-version']}\.\d+-alpine\d+\.\d+$", dockerfile(), re.MULTILINE)
    for file in (COMPOSE / "compose.yaml", ROOT / "k8s" / "base" / "kustomization.yaml"):
        tags = set(re.findall(r"attache/\S+?(?::|, newTag: )(\d[\w.]*)", file.read_text()))
        assert tags == {cargo["version"]}, file


def test_images_hold_little_and_run_as_nobody():
    found = stages()
    for name in ("sidecar", "envoy", "fake-provider"):
        words = [word for word, _ in found[name]]
        assert "RUN" not in words, f"{name}: whatever is made is made in another stage"
        assert ("USER", "65532:65532") in found[name], name
        assert words.index("USER") > max(at for at, word in enumerate(words) if word == "COPY"), name
    for name in ("sidecar", "fake-provider"):
        assert found[name][0] == ("FROM", f"scratch AS {name}"), "no shell"
    for line in re.findall(r"cargo build.*", dockerfile()):
        assert "--locked" in line, line


def test_what_is_copied_is_there_and_not_ignored():
    """And what cargo needs: every member of the workspace, and each file that sources include from elsewhere."""
    kept = [line[1:] for line in (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]

    def in_context(path):
        return any(path == entry or path.startswith(f"{entry}/") for entry in kept)

    for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(), re.MULTILINE):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        for source in sources:
            assert source == "." or list(ROOT.glob(source)) and in_context(source), source
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    for member in cargo["workspace"]["members"]:
        assert in_context(f"{member}/Cargo.toml") and in_context(f"{member}/src"), member
        for path in (ROOT / member / "src").rglob("*.rs"):
            # Tests are not built.
            if "test" in path.name or "tests" in path.parts:
                continue
            for name in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', path.read_text()):
                included = str((path.parent / name).resolve().relative_to(ROOT.resolve()))
                assert in_context(included), f"{path}: {included}"
    for path in ("Cargo.lock", "ext-proc/migrations", "ext-proc/data/model_prices.json"):
        assert in_context(path), path
    for path in ("target/release/attache", ".attache/run", "compose/.env", ".git/config", "k8s/base/secret.yaml"):
        assert not in_context(path), path


def test_scripts_are_bash_without_mistakes():
    for path in [*sorted((COMPOSE / "image").glob("*.sh")), ROOT / "scripts" / "smoke.sh"]:
        assert path.stat().st_mode & 0o111, f"{path.name} is not executable"
        assert subprocess.run(["bash", "-n", path], check=False).returncode == 0, path.name
        if shutil.which("shellcheck"):
            done = subprocess.run(["shellcheck", path], text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stdout


def test_alerts_are_the_same_everywhere():
    """In compose/ for Prometheus, in k8s/ for its operator; those of the documentation are among them."""
    groups = documents(COMPOSE / "alerts.yaml")[0]["groups"]
    (rule,) = documents(ROOT / "k8s" / "components" / "monitoring" / "rules.yaml")
    assert rule["spec"]["groups"] == groups
    known = {one["alert"]: one["expr"] for one in groups[0]["rules"]}
    text = (ROOT / "docs" / "operations.md").read_text().split("Alerts worth having")[1]
    told = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    for one in told:
        assert known[one["alert"]] == one["expr"], one


def test_promtool_takes_rules_and_configuration():
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    for what, file in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        done = subprocess.run(["promtool", "check", what, COMPOSE / file], text=True, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
