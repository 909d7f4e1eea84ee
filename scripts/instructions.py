#!/usr/bin/env python3
"""Counts the instructions of the micro-benchmarks with valgrind and compares them with bench/instructions.json.

    scripts/instructions.py             fails when a case needs 10 % more than is committed there
    scripts/instructions.py --update    writes what is counted now

What is compared is no count but a ratio: that of a case to the reference, fixed work in the same binary. A compiler or an
allocator that is better or worse changes both. Standard library only.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import setup  # noqa: E402
from project import ROOT, Failure, main, output, say  # noqa: E402

COMMITTED = ROOT / "bench" / "instructions.json"
REFERENCE = "reference/serde_json, 20 KB"
# More than this above the committed ratio is a regression; decisions draw lots, which makes a percent or two.
TOLERANCE = 0.10
# The same packages as `make build`, so that nothing is compiled with other features.
BUILD = ["cargo", "build", "--release", "--locked", "-p", "attache-llm", "-p", "attache", "-p", "attache-bench",
         "--bench", "instructions", "--message-format", "json-render-diagnostics"]


def binary():
    """Builds the benchmark and returns its path."""
    done = subprocess.run(BUILD, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(BUILD)}` ended with status {done.returncode}")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "instructions":
            return message["executable"]
    raise Failure("cargo built no `instructions`")


def count(valgrind, program, folder):
    """Instructions per step of each case, in order, and the bytes that one goes through where it does."""
    command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--toggle-collect=*count_this_step*",
               "--dump-after=*count_is_whole*", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"a case failed, or valgrind did:\n{done.stderr[-4000:]}")
    cases = [line.split("\t") for line in done.stdout.splitlines()]
    counts, sizes = {}, {}
    for number, (steps, size, name) in enumerate(cases, 1):
        part = Path(folder) / f"out.{number}"
        totals = re.search(r"^totals: (\d+)$", part.read_text(), re.MULTILINE) if part.exists() else None
        if not totals or int(totals[1]) == 0:
            raise Failure(f"valgrind counted nothing for `{name}`: are its marks still functions of their own?")
        counts[name] = int(totals[1]) / int(steps)
        if int(size):
            sizes[name] = int(size)
    if (Path(folder) / f"out.{len(cases) + 1}").exists():
        raise Failure("valgrind wrote more counts than there are cases")
    return counts, sizes


def ratios(counts):
    reference = counts.pop(REFERENCE)
    # Three figures: what is committed should not change when nothing does.
    return {name: float(f"{instructions / reference:.3g}") for name, instructions in counts.items()}


def compare(found, counts, sizes, committed):
    """Prints a line per case; returns what is wrong."""
    wrong, better = [], 0
    print(f"  {'':40}{'instructions':>13}{'per byte':>10}{'ratio':>9}{'committed':>11}")
    for name, ratio in found.items():
        before = committed.get(name)
        note = ""
        if before is None:
            wrong.append(f"`{name}` is not in the file")
            note = "new"
        elif ratio > before * (1 + TOLERANCE):
            wrong.append(f"`{name}` needs {ratio / before - 1:.0%} more instructions")
            note = f"{ratio / before - 1:+.0%}  TOO MANY"
        elif ratio < before * (1 - TOLERANCE):
            better += 1
            note = f"{ratio / before - 1:+.0%}"
        per_byte = f"{counts[name] / sizes[name]:.2f}" if name in sizes else ""
        print(f"  {name:40}{counts[name]:>13,.0f}{per_byte:>10}{ratio:>9.3g}{before or '-':>11}  {note}".rstrip())
    wrong += [f"`{name}` is not counted any more" for name in committed if name not in found]
    if better:
        say(f"{better} need 10 % less than is committed: keep it so with `make instructions UPDATE=1`")
    return wrong


def read():
    return json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {}


def write(machine, found):
    rust = output(["rustc", "--version"], cwd=ROOT)
    about = f"Instructions of each case as a ratio to `{REFERENCE}`; made by `make instructions UPDATE=1`."
    everything = {**read(), "about": about, machine: {"rustc": rust, "ratios": found}}
    COMMITTED.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")
    say(f"wrote {COMMITTED.relative_to(ROOT)}")


def unchecked(why):
    """Not silently; and where nobody reads the output, not at all."""
    if os.environ.get("CI"):
        raise Failure(f"instructions cannot be counted: {why}")
    print(f"\nINSTRUCTIONS ARE NOT COUNTED: {why}\nEverything else can be tested without.\n", flush=True)


def instructions():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write bench/instructions.json")
    arguments = parser.parse_args()
    try:
        valgrind = setup.need_valgrind()
    except Failure as failure:
        return unchecked(failure)
    machine = platform.machine()
    committed = read().get(machine, {}).get("ratios")
    if committed is None and not arguments.update:
        return unchecked(f"nothing is committed for {machine}; `make instructions UPDATE=1` would do that")
    program = binary()
    with tempfile.TemporaryDirectory(prefix="attache-instructions-") as folder:
        counts, sizes = count(valgrind, program, folder)
    found = ratios(dict(counts))
    wrong = compare(found, counts, sizes, committed or {})
    if arguments.update:
        return write(machine, found)
    if wrong:
        raise Failure("\n  " + "\n  ".join(wrong) + "\n\nWhere that is meant: make instructions UPDATE=1")
    say(f"{len(found)} cases, none needs {TOLERANCE:.0%} more instructions than is committed")
    return None


if __name__ == "__main__":
    main(instructions)
