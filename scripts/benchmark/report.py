"""The result of a comparison as JSON and Markdown. Pure but for `write`."""

import json

from benchmark import chart
from benchmark.bars import judge, median, shortened, spread
from benchmark.variants import TITLES
from benchmark.workloads import CONCURRENCY, WORKLOADS, cell

NAMES = ("latest.json", "latest.md", "latest.svg")


def merged(old, rounds, machine, commit, date, quick=False):
    """The document after a run. It replaces what was measured; what was not stays as it was, with its commit, if it comes
    from a machine like this one."""
    same = old and old.get("machine", {}).get("cpu") == machine["cpu"] and old["machine"].get("cores") == machine["cores"]
    kept = old if same else {}
    all_rounds = dict(kept.get("rounds", {}))
    for section, found in rounds.items():
        all_rounds[section] = {**all_rounds.get(section, {}), **found} if section == "cells" else found
    before = {row["name"]: row for row in kept.get("bars", [])}
    measured = {row["name"] for row in judge(rounds) if row["value"] is not None}
    rows = []
    for row in judge(all_rounds):
        own = {"commit": commit, "date": date}
        if row["name"] not in measured:
            own = {name: before.get(row["name"], {}).get(name) for name in own}
        rows.append({**row, **own})
    return {"machine": machine, "commit": commit, "date": date, "bars": rows, "quick": quick, "rounds": all_rounds}


def number(value, unit=""):
    """A figure with three digits or so."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{text} {unit}".strip() if unit not in ("", "×") else text


def ranged(values, unit=""):
    """Median and spread."""
    if not values:
        return "–"
    low, high = spread(values)
    return f"{number(median(values), unit)} ({number(low)}–{number(high)})"


def _table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]


def bars_table(bars):
    rows = []
    for row in bars:
        sign = "≥" if row["at_least"] else "≤"
        met = {None: "not measured", True: "yes", False: "**no**"}[row["met"]]
        value = "–" if row["value"] is None else \
            f"{number(row['value'], row['unit'])} ({number(row['spread'][0])}–{number(row['spread'][1])})"
        stretch = "" if row["stretch"] is None else f"{sign} {row['stretch']:g}"
        if row["stretch_met"]:
            met += ", and the stretch"
        rows.append([row["title"], value, f"{sign} {row['bar']:g}", stretch, met, shortened(row.get("commit"))])
    return _table(["measure", "median (spread)", "bar", "stretch", "met", "at commit"], rows)


FIGURES = (("CPU per request, µs", "cpu_us"), ("requests per second", "rps"), ("p50, ms", "p50_ms"), ("p99, ms", "p99_ms"),
           ("first byte, p50, ms", "first_byte_p50_ms"))


def grid_tables(cells):
    """A table per figure: a row per workload and concurrency, a column per pipeline."""
    lines = []
    for title, key in FIGURES:
        rows = []
        for workload in WORKLOADS.values():
            for concurrency in CONCURRENCY:
                found = cells.get(cell(workload.name, concurrency), {})
                if found:
                    values = ([r[key] for r in found.get(name, ()) if r.get(key) is not None] for name in TITLES)
                    rows.append([workload.title, str(concurrency), *(ranged(each) for each in values)])
        if rows:
            lines += [f"### {title}", "", *_table(["", "c", *TITLES.values()], rows)]
    return lines


def beside_table(cells):
    """What Redis and Postgres use; it is not in the CPU per request above."""
    rows = []
    for name, found in cells.items():
        rounds = [round_["cpu_us_beside"] for round_ in found.get("full", ()) if round_.get("cpu_us_beside")]
        if rounds:
            workload, concurrency = name.split("/")
            rows.append([WORKLOADS[workload].title, concurrency, *(ranged([r[p] for r in rounds]) for p in rounds[0])])
    return ["### CPU of the servers beside Attaché, µs per request", "", *_table(["", "c", "Redis", "Postgres"], rows)] \
        if rows else []


SECTIONS = {
    "half_load": ("half of Attaché's saturation rate, open loop", {}),
    "deployments": ("deployments, 1 KB, c=32", {"many": "10,000"}),
    "replicas": ("sidecars on one Redis, 1 KB, c=32", {}),
    "row": ("a spend row per request, 1 KB, c=32", {}),
}


def sections_table(rounds):
    """What was measured beside the grid. Housekeeping is what is used when nobody asks."""
    rows = []
    for section, (title, names) in SECTIONS.items():
        for contestant, found in rounds.get(section, {}).items():
            figures = ([r[key] for r in found if r.get(key) is not None]
                       for key in ("cpu_us", "cpu_us_less_idle", "rps", "p50_ms", "p99_ms"))
            rows.append([title, TITLES.get(contestant, names.get(contestant, contestant)), *(ranged(each) for each in figures)])
    head = ["", "", "CPU per request, µs", "less housekeeping", "rps", "p50, ms", "p99, ms"]
    return ["### Beside the grid", "", *_table(head, rows)] if rows else []


def memory_table(samples):
    """Resident memory along the long run."""
    if not samples:
        return []
    names = [name for name in ("sidecar", "envoy", "plain") if name in samples]
    at = sorted({0, *(len(samples[names[0]]) * part // 4 - 1 for part in (1, 2, 3, 4))} - {-1})
    rows = [[f"{samples[names[0]][i]['requests']:,}", *(number(samples[name][i]["mib"]) for name in names)] for i in at]
    return ["### Resident memory, MiB", "", *_table(["requests", *names], rows)]


def markdown(document):
    machine, cells = document["machine"], document["rounds"].get("cells", {})
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    lines = [
        "# What it costs: one run of `make bench`", "",
        f"{document['date']}, commit {shortened(document['commit'])}. {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']:.0f} GiB, Linux {machine['kernel']}. {versions}. Load generator, provider, gateways, Redis and "
        "Postgres share the machine; ratios are of rounds that ran one after the other. One Envoy worker; medians, and "
        "in parentheses the spread over the rounds.", "",
        *(["**A quick run: one short round, and fewer deployments and requests. It shows that everything works, not what it "
           "costs.**", ""] if document["quick"] else []),
        "![CPU per request](latest.svg)", "", "## Bars", "", *bars_table(document["bars"]), "## Figures", "",
        "CPU per request is user and system time of Envoy and of the process beside it (sidecar, processor), or of LiteLLM.", "",
        *grid_tables(cells), *beside_table(cells), *sections_table(document["rounds"]),
        *memory_table(document["rounds"].get("memory"))]
    return "\n".join(lines).rstrip() + "\n"


def read(folder):
    path = folder / NAMES[0]
    return json.loads(path.read_text()) if path.exists() else None


def write(document, folder):
    folder.mkdir(parents=True, exist_ok=True)
    texts = (json.dumps(document, indent=1, ensure_ascii=False) + "\n", markdown(document), chart.svg(document))
    for name, text in zip(NAMES, texts):
        (folder / name).write_text(text)
