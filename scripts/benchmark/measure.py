"""One round of load against one pipeline, and the order in which rounds are run."""

import contextlib
import json
import subprocess
import time
from pathlib import Path

from project import LOAD, Failure

WARM_UP_SECONDS = 0.5
MEBIBYTE = 1024 * 1024


# -- processes ---------------------------------------------------------------------------------------------------------
def tree(pid):
    """The process and all its descendants: Postgres and Python servers work in children."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything.
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    return found


def cpu_seconds(process):
    """User and system time so far of a process and its descendants, to the nanosecond."""
    total = 0
    for pid in tree(process.pid):
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(path.read_text().split()[0])
    return total / 1e9


def resident_mib(process):
    """Resident memory of a process."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / MEBIBYTE
    raise Failure(f"{process.name} says nothing of its memory")


# -- load --------------------------------------------------------------------------------------------------------------
def load_command(variant, options, seconds, concurrency, warm_up=0):
    command = [LOAD, "--target", variant.listen, "--key", variant.key, "--model", variant.model, "--seconds", seconds,
               "--concurrency", concurrency, "--warm-up", warm_up, *options]
    return [str(part) for part in command]


def run_loads(commands):
    """Runs load generators side by side. Returns their figures and the seconds that all took together."""
    begun = time.monotonic()
    # On a terminal it would show its progress.
    running = [subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    texts = [load.communicate() for load in running]
    seconds = time.monotonic() - begun
    for command, load, (_, complaint) in zip(commands, running, texts):
        if load.returncode:
            raise Failure(f"`{' '.join(command)}` ended with status {load.returncode}: {complaint.strip()}")
    return [json.loads(text) for text, _ in texts], seconds


def checked(name, result):
    # Dropped: with a rate beyond what could be sent, the percentiles would be those of the few that were.
    if not result["requests"] or result["errors"] or result["dropped"]:
        raise Failure(f"{name}: the run had errors, or requests that could not be sent: {result}")
    return result


def measure(variants, options, seconds, concurrency):
    """One round against variants that are loaded at the same time (mostly one): figures of the load generator, and
    microseconds of CPU per request by process. `concurrency` is that of all together.

    What requests leave to be done (rows of the ledger) belongs to them: a round ends when that is done.
    """
    each = max(1, concurrency // len(variants))
    run_loads([load_command(variant, options, WARM_UP_SECONDS, each) for variant in variants])
    settle(variants)  # what the warm-up left is not this round's
    begun, (counted, beside) = time.monotonic(), _clocks(variants)
    results, took = run_loads([load_command(variant, options, seconds, each) for variant in variants])
    counted, beside = settle(variants, (counted, beside))
    elapsed = time.monotonic() - begun
    for variant, result in zip(variants, results):
        checked(variant.name, result)
    requests = sum(result["requests"] for result in results)
    per_request = lambda clocks: {name: used * 1e6 / requests for name, used in clocks.items()}  # noqa: E731
    cpu = per_request(counted)
    return {"requests": requests, "seconds": elapsed, "rps": requests / took, "cpu_us": sum(cpu.values()), "cpu_us_by_process": cpu,
            "cpu_us_beside": per_request(beside), "p50_ms": _mean(results, "p50_ms"), "p99_ms": _mean(results, "p99_ms"),
            "first_byte_p50_ms": _mean(results, "first_byte_p50_ms")}


def _mean(results, name):
    found = [result[name] for result in results if result.get(name) is not None]
    return sum(found) / len(found) if found else None


def _clocks(variants):
    """CPU seconds by process: of what is compared, and of the servers beside it."""
    counted, beside = {}, {}
    for clocks, kind in ((counted, "processes"), (beside, "beside")):
        for variant in variants:
            for name, process in getattr(variant, kind).items():
                process.check()
                clocks[name] = clocks.get(name, 0) + cpu_seconds(process)
    return counted, beside


def settle(variants, since=None):
    """Waits until nothing is left to be done. Returns the CPU used since then, without that of asking."""
    while True:
        time.sleep(max(variant.settle_seconds for variant in variants))
        now = _clocks(variants)
        if all(variant.settled() for variant in variants):
            break
    if since is None:
        return now
    return tuple({name: used - before[name] for name, used in after.items()} for before, after in zip(since, now))


def idle(variants, seconds=6):
    """Share of a core by process while nobody asks; Envoy does some of its housekeeping every five seconds."""
    before, _ = _clocks(variants)
    time.sleep(seconds)
    after, _ = _clocks(variants)
    return {name: (after[name] - before[name]) / seconds for name in after}


# -- rounds ------------------------------------------------------------------------------------------------------------
def alternate(contestants, rounds, once):
    """`rounds` times each contestant in turn, so that what the machine does meanwhile meets all of them.

    `once(contestant)` returns one round's figures. The order turns from round to round: nobody is always the first.
    """
    found = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(once(contestants[name]))
    return found
