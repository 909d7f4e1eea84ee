#!/usr/bin/env python3
"""CPU of a translation: chat completions to each provider's dialect, beside the same requests passed through untranslated.

All in alternating rounds of one run: two runs on a shared machine differ more than two dialects of one run.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dialects import PROVIDERS, config_file, load  # noqa: E402
from project import LOAD, LOCAL, Failure, main, say  # noqa: E402
from stack import Stack  # noqa: E402

WORKLOADS = {
    "1 KB": [],
    "200 KB": ["--body-bytes", "200000"],
    "stream, 100 chunks": ["--stream", "--script", ",".join(f"{name}=chunks:100" for name in PROVIDERS).replace(",", ";")],
}


def measure(stack, key, model, options, arguments):
    """Microseconds of Envoy's CPU per request."""
    run = [LOAD, stack.listen, key]
    more = [arguments.concurrency, "--model", model, *options]
    load(*run, 0.5, *more)  # connections, V8's compiler
    before = stack.envoy.cpu_seconds()
    result = load(*run, arguments.seconds, *more)
    if not result["requests"] or result["errors"]:
        raise Failure(f"{model}: the run had errors: {result}")
    return (stack.envoy.cpu_seconds() - before) * 1e6 / result["requests"]


def bench():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="of each measured round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32)
    arguments = parser.parse_args()
    folder = LOCAL / "run" / "bench-dialects"
    with Stack(config_file(folder), folder / "stack", concurrency=1) as stack:
        key = stack.new_key(key_alias="bench-dialects")
        say(f"Envoy's CPU per request; one worker, {arguments.concurrency} connections, median of {arguments.rounds} "
            f"rounds of {arguments.seconds:.0f} s")
        for workload, options in WORKLOADS.items():
            found = {model: [] for model in PROVIDERS}
            for _ in range(arguments.rounds):
                for model in PROVIDERS:
                    found[model].append(measure(stack, key, model, options, arguments))
            passed = statistics.median(found["openai"])
            for model, rounds in found.items():
                middle = statistics.median(rounds)
                label = "passed through" if model == "openai" else "translated"
                print(f"  {workload:20}{model:12}{label:16}{middle:>8.0f} µs{middle - passed:>+8.0f} µs   "
                      f"{min(rounds):.0f} to {max(rounds):.0f}", flush=True)


if __name__ == "__main__":
    main(bench)
