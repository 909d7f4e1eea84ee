"""Alerts, dashboard and autoscaler ask for metrics that exist, with labels that they have."""

import json
import re

import httpx
import pytest
from harness import ROOT, chat, marked
from schemas import documents
from stack import wait_for

MONITORING = ROOT / "k8s" / "components" / "monitoring"
ADAPTER = ROOT / "k8s" / "components" / "hpa-in-flight" / "prometheus-adapter.yaml"
WORDS = set("""sum min max avg count rate increase histogram_quantile by without vector label_values or and unless on
    group_left clamp_min""".split())
# What Prometheus and its operator add.
ADDED = {"instance", "job", "pod", "namespace", "le"}
# Made only when usage could not be kept: by name in the filter's sources.
RARE = {"attache_usage_dumped"}


def expressions():
    for path in (MONITORING / "rules.yaml",):
        for group in documents(path)[0]["spec"]["groups"]:
            yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    dashboard = json.loads((MONITORING / "dashboards" / "attache.json").read_text())
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from (("variable", one["query"]["query"]) for one in dashboard["templating"]["list"] if one["type"] == "query")
    yield "adapter", documents(ADAPTER)[0]["rules"]["custom"][0]["seriesQuery"]


def parts(expression):
    """Names of metrics with the labels that are asked of them; labels of `by (...)` are asked of all."""
    text = expression.replace("$__rate_interval", "5m")
    grouped = {name for names in re.findall(r"\b(?:by|without) ?\(([^)]*)\)", text) for name in re.split(r"[, ]+", names) if name}
    if text.startswith("label_values("):
        text, _, label = text.removeprefix("label_values(").rstrip(")").partition(", ")
        grouped = {label}
    text = re.sub(r"\b(?:by|without) ?\([^)]*\)", "", text)
    found = {}
    for name, selector in re.findall(r"(?<![\w.])([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?", re.sub(r"\[[^]]*\]", "", re.sub(r'"[^"]*"', '""', text))):
        if name not in WORDS:
            found.setdefault(name, set(grouped)).update(re.findall(r"(\w+) ?[!=]=?~?", selector or ""))
    return found


@pytest.fixture(scope="module")
def series(gateway):
    """Labels by the name of the series, of both ends, after traffic of every sort."""
    for headers in ({}, marked("*=error-at:0")[0], marked("one=status:500")[0], marked("one=cached:3")[0], {"x-fake-script": "*=status:400"}):
        gateway.post(chat(), headers=headers)
        gateway.post(chat("solo", num_retries=1), headers=headers)
        gateway.post(chat(stream=True), headers=headers)
    gateway.post(chat(), key="sk-nobody")
    gateway.post(chat("down"))
    gateway.post(chat("solo"), headers={"x-fake-script": "*=status:401"})
    narrow = gateway.key(rpm_limit=1)
    for _ in range(2):
        gateway.post(chat(), key=narrow)
    sources = [f"{gateway.stack.health_url}/metrics", f"{gateway.stack.admin_url}/stats/prometheus"]

    def read():
        found = {}
        for url in sources:
            text = httpx.get(url, trust_env=False).text
            for name, labels in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
                found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
            for name in re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE):
                found.setdefault(name, set())
        return found

    return wait_for("failovers", lambda: (found := read()) and "attache_first_event_failovers" in found and found, 10)


def test_every_metric_exists_with_its_labels(series):
    asked = set()
    for where, expression in expressions():
        for name, labels in parts(expression).items():
            asked.add(name)
            if name in RARE:
                source = "".join(path.read_text() for path in (ROOT / "filter" / "src").glob("*.rs"))
                assert f'stats.count("{name.removeprefix("attache_")}"' in source, name
                continue
            assert name in series, f"{where}: no metric {name}"
            # A metric without labels is one that nothing has happened to yet.
            assert not series[name] or labels - ADDED <= series[name], f"{where}: {name} has {series[name]}, not {labels}"
    assert len(asked) > 25


def test_values_of_labels_exist():
    """`outcome!="success"` of a metric that says `complete` finds everything, and nobody notices."""
    sources = "".join(path.read_text() for folder in ("filter/src", "llm/src/contract", "ext-proc/src/server")
                      for path in (ROOT / folder).rglob("*.rs") if "test" not in path.name)
    for where, expression in expressions():
        values = re.findall(r'\b(outcome|result) ?[!=]=?~?"([^"]*)"', expression)
        assert all(f'"{value}"' in sources for _, text in values for value in text.split("|")), (where, values)
    attempts = re.search(r"impl AttemptOutcome \{.*?\n    \}", sources, re.DOTALL).group()
    asked = [text for _, one in expressions() for text in re.findall(r'attache_attempts\{[^}]*outcome!~"([^"]*)"', one)]
    assert asked and all(f'"{value}"' in attempts for text in asked for value in text.split("|")), asked


@pytest.mark.parametrize("expression, wanted", [
    ("sum by (outcome) (rate(a{b=\"x\",c!~\"y\"}[5m])) / d", {"a": {"outcome", "b", "c"}, "d": {"outcome"}}),
    ("label_values(a, b)", {"a": {"b"}}), ("(sum(x) or vector(0)) > 0.5", {"x": set()}),
])
def test_expressions_are_read(expression, wanted):
    assert parts(expression) == wanted
