#!/usr/bin/env python3
"""What Attaché costs: the same requests through plain Envoy, two no-op ext_proc phases, Attaché and LiteLLM, side by side.

    scripts/bench.py                     everything but memory, medians of 5 alternating rounds (about half an hour)
    scripts/bench.py --quick             one short round of each, into .attache/run/bench/quick: does it work?
    scripts/bench.py --only 1kb          one part; repeat for more. What else latest.json holds is kept
    scripts/bench.py --memory            memory after a million requests

The numbers of two runs on a shared machine differ more than the pipelines of one run, so only the latter are compared.
Results: bench/results/latest.json, .md and .svg. A bar that is missed is named, and is no failure; an error in a run is one.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from benchmark import extras, machine, report  # noqa: E402
from benchmark.bars import paired  # noqa: E402
from benchmark.measure import alternate, measure  # noqa: E402
from benchmark.memory import memory  # noqa: E402
from benchmark.variants import MAKERS, TITLES, UPSTREAMS, Contest  # noqa: E402
from benchmark.workloads import MAIN, WORKLOADS, cell, cells, slow_too  # noqa: E402
from project import LOCAL, ROOT, Failure, main, say  # noqa: E402
from stack import Provider  # noqa: E402

RESULTS = ROOT / "bench" / "results"
FOLDER = LOCAL / "run" / "bench"
OWN_WORLDS = ("deployments", "replicas")
PARTS = (*WORKLOADS, "half-load", *OWN_WORLDS, "row")
# A spend row alone is asked for by name.
DEFAULT = tuple(part for part in PARTS if part != "row")
QUICK = {"rounds": 1, "seconds": 1.0, "memory_requests": 10_000, "many": 200}


def command_line():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="of each figure, in turn (5)")
    parser.add_argument("--seconds", type=float, help="of each round (3)")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--variants", default=",".join(MAKERS), help=f"those to compare ({','.join(MAKERS)})")
    parser.add_argument("--quick", action="store_true", help="one short round of each, to see whether it works")
    parser.add_argument("--memory", action="store_true", help="memory after a million requests, and nothing else")
    parser.add_argument("--memory-requests", type=int)
    parser.add_argument("--out", type=Path, help="folder of the results (bench/results)")
    return checked_arguments(parser.parse_args())


def checked_arguments(arguments):
    for name, usual in {"rounds": 5, "seconds": 3.0, "memory_requests": 1_000_000, "many": extras.MANY}.items():
        if getattr(arguments, name, None) is None:
            setattr(arguments, name, QUICK[name] if arguments.quick else usual)
    if arguments.rounds < 1 or arguments.seconds <= 0:
        raise Failure("--rounds must be at least 1, --seconds above 0")
    arguments.variants = arguments.variants.split(",")
    unknown = [name for name in arguments.variants if name not in MAKERS]
    if unknown:
        raise Failure(f"no variant {', '.join(unknown)}: there are {', '.join(MAKERS)}")
    arguments.out = arguments.out or (FOLDER / "quick" if arguments.quick else RESULTS)
    arguments.parts = () if arguments.memory else tuple(arguments.only or DEFAULT)
    if "half-load" in arguments.parts and not {"plain", "full"} <= set(arguments.variants):
        raise Failure("half-load needs the variants plain and full")
    return arguments


# -- the grid ----------------------------------------------------------------------------------------------------------
def script(provider, directives):
    """Standing scripts, not headers of the requests: LiteLLM does not pass those on."""
    for name in UPSTREAMS:
        provider.script(name, directives)


def grid(contest, provider, names, arguments):
    """Every workload at every concurrency."""
    found = {}
    for workload, concurrency in cells(names):
        contestants = {name: variant for name, variant in contest.variants.items()
                       if name != "litellm" or slow_too(workload, concurrency)}
        if workload.script:
            script(provider, workload.script)
        rounds = alternate(contestants, arguments.rounds,
                           lambda v, w=workload, c=concurrency: measure([v], w.options(), arguments.seconds, c))
        if workload.script:
            script(provider, None)
        found[cell(workload.name, concurrency)] = rounds
        show(f"{workload.title}, c={concurrency}", rounds)
    return found


def show(title, rounds):
    print(f"  {title}", flush=True)
    for name, found in rounds.items():
        middle = lambda key: statistics.median(round_[key] for round_ in found)  # noqa: E731, B023
        parts = found[0]["cpu_us_by_process"]
        cpu = [round_["cpu_us"] for round_ in found]
        detail = " + ".join(f"{part} {statistics.median(r['cpu_us_by_process'][part] for r in found):.0f}" for part in parts)
        print(f"    {TITLES.get(name, name):30}{statistics.median(cpu):>9,.0f} µs ({min(cpu):,.0f}–{max(cpu):,.0f})"
              f"{middle('rps'):>9,.0f} rps{middle('p50_ms'):>10.2f}{middle('p99_ms'):>10.2f} ms   {detail}", flush=True)


def show_row(rounds):
    """What a row costs each process: the difference of rounds that ran one after the other."""
    for process in rounds["with"][0]["cpu_us_by_process"]:
        pairs = paired(rounds["with"], rounds["without"], lambda r: r["cpu_us_by_process"][process],  # noqa: B023
                       lambda a, b: a - b)
        print(f"    {'a spend row: ' + process:30}{statistics.median(pairs):>9,.1f} µs ({min(pairs):,.1f}–{max(pairs):,.1f})",
              flush=True)


def side_by_side(provider, arguments):
    """The parts for which all pipelines run beside each other."""
    names = [part for part in arguments.parts if part in WORKLOADS]
    wants_half = "half-load" in arguments.parts
    if not names and not wants_half:
        return {}
    rounds = {}
    wanted = arguments.variants if names else [name for name in arguments.variants if name in ("plain", "full")]
    with Contest(wanted, FOLDER, provider) as contest:
        extras.warm(contest.variants.values(), arguments.seconds, MAIN)
        if names:
            rounds["cells"] = grid(contest, provider, names, arguments)
        if wants_half:
            rate = extras.saturation(rounds.get("cells", {}))
            if rate is None:
                rate = measure([contest.variants["full"]], [], arguments.seconds, MAIN)["rps"]
            rounds["half_load"] = extras.half_load(contest, rate, arguments.rounds, arguments.seconds)
    return rounds


def apart(provider, arguments):
    """The parts that have a world of their own."""
    rounds, numbers = {}, (arguments.rounds, arguments.seconds, MAIN)
    if "deployments" in arguments.parts:
        rounds["deployments"] = extras.deployments(FOLDER, provider, *numbers, many=arguments.many)
        show(f"deployments, many: {arguments.many:,}", rounds["deployments"])
    if "replicas" in arguments.parts:
        rounds["replicas"] = extras.replicas(FOLDER, provider, *numbers)
        show("sidecars on one Redis", rounds["replicas"])
    if "row" in arguments.parts:
        rounds["row"] = extras.spend_row(FOLDER, provider, *numbers)
        show("with a spend row per request, and without", rounds["row"])
        show_row(rounds["row"])
    if arguments.memory:
        rounds["memory"] = memory(FOLDER, provider, arguments.memory_requests)
    return rounds


def tell(document, folder, since):
    print()
    print("\n".join(report.bars_table(document["bars"])))
    missed = [row["title"] for row in document["bars"] if row["met"] is False]
    say(f"missed: {'; '.join(missed)}" if missed else "no bar that was measured is missed")
    say(f"{time.monotonic() - since:.0f} s; {folder / report.NAMES[1]}, {', '.join(report.NAMES[::2])}")


def bench():
    arguments, begun = command_line(), time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    provider = Provider(FOLDER).start()
    try:
        say(f"one Envoy worker; medians of {arguments.rounds} alternating rounds of {arguments.seconds:g} s")
        rounds = {**side_by_side(provider, arguments), **apart(provider, arguments)}
    finally:
        provider.stop()
    document = report.merged(report.read(arguments.out), rounds, machine.facts(), machine.commit(), machine.now(),
                             arguments.quick)
    report.write(document, arguments.out)
    tell(document, arguments.out, begun)


if __name__ == "__main__":
    main(bench)
