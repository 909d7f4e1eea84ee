#!/usr/bin/env python3
"""The filter's memory under 100,000 mixed requests: every dialect, bodies from 1 KB to 10 MB. It must stay flat.

WASM memory never shrinks, so the first of the largest bodies set its size; from then on it must not grow.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dialects import PROVIDERS, config_file, load  # noqa: E402
from project import LOAD, LOCAL, Failure, main, say  # noqa: E402
from stack import Stack  # noqa: E402

# Bytes of a body, seconds of load in each round, connections.
SIZES = [(1_000, 2.0, 16), (20_000, 1.0, 16), (200_000, 0.5, 8), (10_000_000, 0.7, 2)]
MEBIBYTE = 1024 * 1024


def resident(process):
    """Resident memory of a process, MiB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise Failure(f"{process.name} says nothing of its memory")


def soak():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--growth", type=float, default=10, help="allowed from the first fifth to the end, percent")
    arguments = parser.parse_args()
    folder = LOCAL / "run" / "soak"
    with Stack(config_file(folder), folder / "stack", concurrency=1) as stack:
        key = stack.new_key(key_alias="soak")
        say(f"{arguments.requests} requests, bodies of {', '.join(str(size) for size, _, _ in SIZES)} bytes")
        done, by_size, samples, turn = 0, {size: 0 for size, _, _ in SIZES}, [], 0
        while done < arguments.requests:
            for size, seconds, connections in SIZES:
                for model in PROVIDERS:
                    turn += 1
                    options = ["--model", model, "--body-bytes", size, *(["--stream"] if turn % 2 else [])]
                    result = load(LOAD, stack.listen, key, seconds, connections, *options)
                    if result["errors"]:
                        raise Failure(f"{model}, {size} bytes: {result}")
                    done += result["requests"]
                    by_size[size] += result["requests"]
            time.sleep(0.5)
            samples.append((done, resident(stack.envoy)))
            print(f"  {done:>8} requests   Envoy {samples[-1][1]:.0f} MiB", flush=True)
        settled = max(memory for at, memory in samples if at <= max(samples[0][0], arguments.requests / 5))
        last = samples[-1][1]
        print(f"  by size {by_size}; {settled:.0f} MiB after a fifth, {last:.0f} MiB at the end", flush=True)
        if last > settled * (1 + arguments.growth / 100):
            raise Failure(f"Envoy grew from {settled:.0f} to {last:.0f} MiB")


if __name__ == "__main__":
    main(soak)
