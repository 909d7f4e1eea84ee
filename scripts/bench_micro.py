#!/usr/bin/env python3
"""Runs the micro-benchmarks (criterion) and ends with one table of them all. Standard library only.

    scripts/bench_micro.py                 all of them, some minutes
    scripts/bench_micro.py --only scan     those whose name has this in it
    scripts/bench_micro.py --docs          writes the table into docs/performance.md, too
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
DOCS = ROOT / "docs" / "performance.md"
# Around the table in DOCS.
BEGIN, END = "<!-- made by `make bench-micro DOCS=1` -->", "<!-- end -->"
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
    """Every benchmark that ran since then: name, median, fastest sample, what one of its parts costs."""
    for path in sorted((TARGET / "criterion").glob("**/new/estimates.json"), key=lambda path: path.stat().st_mtime):
        if path.stat().st_mtime < since:
            continue
        # The names of criterion's folders have lost what file systems do not like; this one has not.
        about = json.loads(path.with_name("benchmark.json").read_text())
        median = json.loads(path.read_text())["median"]["point_estimate"]
        sample = json.loads(path.with_name("sample.json").read_text())
        fastest = min(spent / steps for spent, steps in zip(sample["times"], sample["iters"]))
        yield about["full_id"], shown(median), shown(fastest), per(median, about["throughput"])


def write(found):
    """Puts the table into the docs, between its marks."""
    text = DOCS.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not tail:
        raise Failure(f"{DOCS.relative_to(ROOT)} has no table between `{BEGIN}` and `{END}`")
    lines = ["| step | median | fastest | per part |", "|---|---:|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in found]
    DOCS.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}")


def bench_micro():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="benchmarks whose name has this in it")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    arguments = parser.parse_args()
    if arguments.docs and arguments.only:
        raise Failure("the table of the docs has all of them: --docs goes without --only")
    begun = time.time()
    run([*COMMAND, *TIMES, *([arguments.only] if arguments.only else [])], cwd=ROOT)
    found = list(rows(begun))
    if not found:
        raise Failure(f"no benchmark has `{arguments.only}` in its name")
    print(f"\n  {'':56}{'median':>10}{'fastest':>10}")
    for name, median, fastest, each in found:
        print(f"  {name:56}{median:>10}{fastest:>10}  {each:>20}".rstrip())
    if arguments.docs:
        write(found)


if __name__ == "__main__":
    main(bench_micro)
