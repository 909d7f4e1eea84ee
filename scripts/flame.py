#!/usr/bin/env python3
"""Flame graphs of Envoy and of the sidecar under load, and where Envoy's time goes beside plain Envoy's.

    scripts/flame.py                        1 KB prompts at 32 connections, Redis and Postgres, into bench/results
    scripts/flame.py --variant embedded --seconds 10 --out DIR

Needs `perf` and the right to use it. Envoy's binary has no symbols: its virtual functions are named by their classes
(benchmark/symbols.py), all others are left out of the graph. WebAssembly is one block: V8 does not tell perf of its functions.
"""

import argparse
import collections
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from benchmark.measure import load_command, run_loads  # noqa: E402
from benchmark.symbols import Symbols  # noqa: E402
from benchmark.variants import TITLES, Contest  # noqa: E402
from project import LOCAL, ROOT, Failure, envoy_binary, find_program, main, run, say  # noqa: E402
from stack import Provider  # noqa: E402

RESULTS = ROOT / "bench" / "results"
FOLDER = LOCAL / "run" / "flame"
TOOLS = LOCAL / "tools"
INFERNO = "0.12.8"
CONCURRENCY, SLICES_PER_SECOND = 32, 997
WASM, KERNEL, LIBRARY = "WebAssembly", "kernel", "libc"
# perf's marks of code that V8 has made.
MADE = re.compile(r"\[unknown\]|\[anon|//anon|JIT|perf-\d+\.map")


def command_line():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=("embedded", "full"), default="full")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def drawing_tool():
    tool = TOOLS / "bin" / "inferno-flamegraph"
    if not tool.exists():
        run(["cargo", "install", "--quiet", "--locked", "--root", TOOLS, "--version", INFERNO, "inferno"])
    return tool


# -- recording ---------------------------------------------------------------------------------------------------------
def record(process, variant, seconds, stacks):
    """Stacks of a process under load as perf tells them, and its CPU per request in microseconds."""
    data = FOLDER / f"{process.name}.data"
    command = ["perf", "record", "--quiet", "--call-graph", stacks, "--freq", SLICES_PER_SECOND, "--pid", process.pid,
               "--output", data, "--", "sleep", seconds]
    run_loads([load_command(variant, [], 2, CONCURRENCY)])
    before = process.cpu_seconds()
    perf = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    (figures,), _ = run_loads([load_command(variant, [], seconds, CONCURRENCY)])
    used = process.cpu_seconds() - before
    _, why = perf.communicate()
    if perf.returncode != 0:
        raise Failure(f"perf does not run here: {why.strip()}")
    told = subprocess.run(["perf", "script", "--no-inline", "--input", str(data), "--fields", "comm,ip,sym,dso"], text=True, check=True,
                          capture_output=True, errors="replace").stdout
    return told, used * 1e6 / figures["requests"]


def samples(told):
    """The stacks, innermost frame first: (address, symbol, file) each. The first line of a sample names the thread."""
    for block in told.split("\n\n"):
        lines = block.strip("\n").splitlines()
        frames = [frame for frame in (re.match(r"\s+([0-9a-f]+) (.*) \((.*)\)$", line) for line in lines) if frame]
        if frames:
            yield [(int(frame[1], 16), frame[2].split("+0x")[0], frame[3]) for frame in frames]


# -- names -------------------------------------------------------------------------------------------------------------
def envoys_names(symbols):
    """Names a frame of Envoy; `None` for one that is left out."""
    def name(frame):
        address, symbol, file = frame
        if file.endswith("/envoy"):
            return symbols.name(address + symbols.shift)
        if "kernel" in file:
            return KERNEL
        return WASM if MADE.search(file) else LIBRARY
    return name


def own_names(frame):
    _, symbol, file = frame
    return KERNEL if "kernel" in file else symbol


def folded(stacks, name):
    """Stacks as flame graph tools take them: outermost first, the same name in a row once."""
    counted = collections.Counter()
    for stack in stacks:
        names = []
        for frame in reversed(stack):
            found = name(frame)
            if found and (not names or names[-1] != found):
                names.append(found)
        counted[";".join(each.replace(";", ":") for each in names)] += 1
    return counted


def draw(counted, title, path):
    text = "".join(f"{stack} {count}\n" for stack, count in sorted(counted.items()))
    picture = subprocess.run([str(drawing_tool()), "--title", title, "--minwidth", "0.4"], input=text, text=True, check=True,
                             capture_output=True).stdout
    path.write_text(picture)
    say(f"wrote {path}")


# -- where Envoy's time goes -------------------------------------------------------------------------------------------
GROUPS = ((WASM, "WebAssembly: our code"), ("hosts", "calls from WebAssembly into Envoy"), ("entries", "calls into WebAssembly"),
          (KERNEL, "kernel"), ("HeaderToMetadata", "plan into metadata"), ("google::protobuf", "metadata"),
          ("Http2", "HTTP/2 to the sidecar"), ("http2::adapter", "HTTP/2 to the sidecar"), ("Router::", "router"),
          ("Http1", "HTTP/1.1"), ("quiche::Balsa", "HTTP/1.1"), ("StreamInfo", "stream info"), ("HeaderMap", "header maps"),
          ("Event::", "timers and events"), ("Buffer::", "buffers"), ("ConnectionManager", "connection manager"),
          ("Filter", "filter chains"))


def group(stack, name):
    """What a sample is counted for: that of its innermost frame with a name."""
    names = [found for found in map(name, stack) if found]
    if not names:
        return "other"
    if names[0] in (WASM, KERNEL):
        return dict(GROUPS)[names[0]]
    if WASM in names:
        return dict(GROUPS)["hosts"]
    inner = next((found for found in names if found != LIBRARY), LIBRARY)
    if "Wasm" in inner or "proxy_wasm" in inner:
        return dict(GROUPS)["entries"]
    return next((title for part, title in GROUPS if part in inner), "other")


def shares(stacks, name, cpu_us):
    stacks = list(stacks)
    counted = collections.Counter(group(stack, name) for stack in stacks)
    return collections.Counter({title: count / len(stacks) * cpu_us for title, count in counted.items()})


def table(plain, ours):
    rows = sorted(set(plain) | set(ours), key=lambda title: plain[title] - ours[title])
    lines = ["| µs per request | plain Envoy | Attaché | more |", "|---|---:|---:|---:|"]
    lines += [f"| {title} | {plain[title]:.1f} | {ours[title]:.1f} | {ours[title] - plain[title]:.1f} |" for title in rows]
    total = [sum(found.values()) for found in (plain, ours)]
    return "\n".join([*lines, f"| **together** | {total[0]:.1f} | {total[1]:.1f} | {total[1] - total[0]:.1f} |", ""])


def flame():
    arguments = command_line()
    for tool in ("perf", "cargo"):
        if not find_program(tool):
            raise Failure(f"{tool} is missing (Debian: linux-perf)")
    FOLDER.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    drawing_tool()
    name = envoys_names(Symbols(envoy_binary()))
    provider = Provider(FOLDER).start()
    found = {}
    try:
        with Contest(("plain", arguments.variant), FOLDER, provider) as contest:
            for key, variant in contest.variants.items():
                told, cpu_us = record(variant.processes["Envoy"], variant, arguments.seconds, "fp")
                found[key] = shares(samples(told), name, cpu_us)
            draw(folded(samples(told), name), f"Envoy, {TITLES[arguments.variant]}", arguments.out / "flame-envoy.svg")
            told, _ = record(variant.processes["sidecar"], variant, arguments.seconds, "dwarf,16384")
            draw(folded(samples(told), own_names), f"sidecar, {TITLES[arguments.variant]}", arguments.out / "flame-sidecar.svg")
    finally:
        provider.stop()
    text = table(found["plain"], found[arguments.variant])
    (arguments.out / "flame-envoy.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(flame)
