#!/usr/bin/env python3
"""Coverage-guided fuzzing of everything that parses, with libFuzzer: `scripts/fuzz.py [--seconds 60] [target ...]`.

The targets have cargo-fuzz's layout. This needs no nightly compiler: without a sanitizer, coverage is a matter of stable flags, and
the code has no `unsafe` for a sanitizer to watch; what counts are panics, overflows and failed assertions.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import LOCAL, ROOT, Failure, main, say  # noqa: E402

FLAGS = ["--cfg", "fuzzing", "-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4",
         "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters", "-Cllvm-args=-sanitizer-coverage-pc-table",
         "-Cllvm-args=-sanitizer-coverage-trace-compares", "-Ccodegen-units=1"]
FUZZ = ROOT / "fuzz"
FIXTURES = ROOT / "llm" / "tests" / "matrix" / "fixtures"
CLIENTS = ["chat", "completions", "responses", "messages"]
UPSTREAMS = ["chat", "messages", "converse", "gemini"]


def targets():
    return sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))


def seeds(target, folder):
    """What the matrix has for this target, in the form that the target reads."""
    folder.mkdir(parents=True, exist_ok=True)

    def put(name, data):
        (folder / name).write_bytes(data)

    for number, client in enumerate(CLIENTS):
        for path in (FIXTURES / "requests" / client).glob("*.json"):
            if target == "scan":
                put(f"{client}-{path.stem}", b"\x40" + path.read_bytes())
            elif target == "request":
                put(f"{client}-{path.stem}", bytes([number, 0x3f]) + path.read_bytes())
    for number, upstream in enumerate(UPSTREAMS):
        for path in (FIXTURES / "answers" / upstream).iterdir():
            if target == "sse" and path.suffix == ".sse":
                put(f"{upstream}-{path.stem}", b"\x40" + path.read_bytes())
            elif target == "answer":
                for client in range(4):
                    put(f"{upstream}-{client}-{path.name}", bytes([client << 2 | number, 0x40, 3]) + path.read_bytes())


def run(target, binary, seconds):
    folder = LOCAL / "fuzz" / target
    seeds(target, folder / "seeds")
    (folder / "corpus").mkdir(exist_ok=True)
    command = [binary, folder / "corpus", folder / "seeds", f"-max_total_time={seconds}", "-max_len=16384", "-timeout=10",
               "-rss_limit_mb=2048", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True)
    log = folder / "log"
    log.write_text(done.stderr)
    runs = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    print(f"  {target:12}{int(runs[1]) if runs else 0:>12} runs   coverage {covered[-1] if covered else '?':>6}   "
          f"{'FOUND, see ' + str(log) if done.returncode else 'nothing found'}", flush=True)
    return done.returncode


def fuzz():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(targets())}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets at a time")
    arguments = parser.parse_args()
    chosen = arguments.targets or targets()
    folder = LOCAL / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    say("building the fuzz targets")
    environment = {**os.environ, "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(FLAGS), "CARGO_TARGET_DIR": str(folder / "target")}
    # A target of its own keeps build scripts free of the flags.
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True))[1]
    subprocess.run(["cargo", "build", "--release", "--locked", "--target", host], cwd=FUZZ, env=environment, check=True)
    say(f"{arguments.seconds} s for each of {', '.join(chosen)}")
    binaries = folder / "target" / host / "release"
    with ThreadPoolExecutor(arguments.jobs) as pool:
        ended = list(pool.map(lambda target: run(target, binaries / target, arguments.seconds), chosen))
    if any(ended):
        raise Failure("the fuzzer found something")


if __name__ == "__main__":
    main(fuzz)
