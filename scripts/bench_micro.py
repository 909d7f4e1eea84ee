#!/usr/bin/env python3
"""Runs the micro-benchmarks (criterion) and ends with one table of them all. Standard library only.

    scripts/bench_micro.py                 all of them, some minutes
    scripts/bench_micro.py --only scan     those whose name has this in it
    scripts/bench_micro.py --markdown      the table for docs/performance.md
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import ROOT, TARGET, Failure, main, run  # noqa: E402

# The same packages as `make build`, so that nothing is compiled with other features.
COMMAND = ["cargo", "bench", "--locked", "-p", "attache-llm", "-p", "attache", "-p", "attache-bench", "--bench", "micro",
           "--bench", "decide", "--"]
TIMES = ["--warm-up-time", "1", "--measurement-time", "2", "--noplot"]


def shown(nanoseconds):
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def per(nanoseconds, throughput):
    """What one of those that a step goes through costs, or how fast it goes through its bytes."""
    if not throughput:
        return ""
    (kind, amount), = throughput.items()
    if kind == "Elements":
        return f"{shown(nanoseconds / amount)} each of {amount}"
    return f"{amount / nanoseconds * 1e3:,.0f} MB/s"


def rows(since):
    """Every benchmark that ran since then: name, median, its interval, per what."""
    for path in sorted((TARGET / "criterion").glob("**/new/estimates.json"), key=lambda path: path.stat().st_mtime):
        if path.stat().st_mtime < since:
            continue
        about = json.loads(path.with_name("benchmark.json").read_text())
        median = json.loads(path.read_text())["median"]
        interval = median["confidence_interval"]
        low, high = interval["lower_bound"], interval["upper_bound"]
        value = median["point_estimate"]
        # criterion's directory names lose what the file system does not like; this one has not.
        yield about["full_id"], shown(value), f"±{(high - low) / 2 / value:.1%}", per(value, about["throughput"])


def bench_micro():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="benchmarks whose name has this in it")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    arguments = parser.parse_args()
    begun = time.time()
    run([*COMMAND, *TIMES, *([arguments.only] if arguments.only else [])], cwd=ROOT)
    found = list(rows(begun))
    if not found:
        raise Failure(f"no benchmark has `{arguments.only}` in its name")
    print()
    if arguments.markdown:
        print("| step | time | | per |\n|---|---:|---:|---:|")
    for name, value, spread, each in found:
        if arguments.markdown:
            print(f"| {name} | {value} | {spread} | {each} |")
        else:
            print(f"  {name:58}{value:>10}  {spread:>7}  {each:>20}")


if __name__ == "__main__":
    main(bench_micro)
