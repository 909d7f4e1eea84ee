#!/usr/bin/env python3
"""Runs the suites of tests/e2e side by side: they mostly wait. Standard library only.

    scripts/suites.py              every suite
    scripts/suites.py main ledger  these; further arguments that begin with - (and what follows) go to pytest
    scripts/suites.py --jobs 2     every suite, two at once

A suite is a folder of tests/e2e with a conftest.py; there is no other list. One suite alone writes as pytest does. Lines of
several begin with the suite's name, and the last lines say which failed and count all tests.
"""

import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import PYTHON, ROOT, Failure, main, say  # noqa: E402

E2E = ROOT / "tests" / "e2e"
OUTCOMES = ("passed", "failed", "skipped")
# pytest's exit status when no test was selected.
NOTHING_SELECTED = 5


def known():
    return sorted(path.parent.name for path in E2E.glob("*/conftest.py"))


def command(suite, options):
    return [str(PYTHON), "-u", "-m", "pytest", str(E2E / suite), *options]


class Job:
    """A suite, whose lines are shown with its name before them."""

    def __init__(self, name, command, width):
        self.name, self.label = name, f"{name:{width}} │ "
        self.command = command
        self.lines, self.seconds, self.process = [], 0, None

    def run(self):
        began = time.monotonic()
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.DEVNULL, text=True, errors="replace",
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            # One write per line: those of two suites do not mix.
            sys.stdout.write(f"{self.label}{self.lines[-1]}\n")
            sys.stdout.flush()
        self.process.wait()
        self.seconds = time.monotonic() - began

    @property
    def good(self):
        return self.process.returncode in (0, NOTHING_SELECTED)

    def count(self, outcome):
        """What pytest's own last line says: `351 passed, 1 failed in 80.12s`."""
        words = "errors?" if outcome == "failed" else None
        for line in reversed(self.lines):
            if re.search(r"\d+ (passed|failed|errors?|skipped|deselected).* in [\d.]+s", line):
                found = re.findall(rf"(\d+) (?:{outcome}{f'|{words}' if words else ''})\b", line)
                return sum(int(number) for number in found)
        # It did not come to count: that is a failure, too.
        return int(outcome == "failed" and not self.good)


def side_by_side(names, options, most):
    """Runs the suites, `most` at once."""
    width = max(map(len, names))
    suites = [Job(name, command(name, options), width) for name in names]
    with ThreadPoolExecutor(most) as pool:
        running = [pool.submit(job.run) for job in suites]
        try:
            for job in running:
                job.result()
        except KeyboardInterrupt:
            # pytest has had the terminal's Ctrl-C too, and tears its gateways down.
            pool.shutdown(wait=False, cancel_futures=True)
            for job in suites:
                if job.process and job.process.poll() is None:
                    job.process.send_signal(signal.SIGINT)
            raise
    return suites


def summary(jobs):
    """Failures again, where nobody has to look for them; the time of each suite; one line that counts."""
    print()
    for job in jobs:
        for line in job.lines:
            if not job.good and line.startswith(("FAILED ", "ERROR ")):
                print(f"{job.label}{line}")
    for job in jobs:
        ended = "" if job.good else f", FAILED (status {job.process.returncode})"
        figures = next((line for line in reversed(job.lines) if line.startswith(f"{job.name}: ")), "")
        print(f"{job.label}{job.seconds:.0f} s{ended}{'; ' if figures else ''}{figures.partition(': ')[2]}")
    counts = {outcome: sum(job.count(outcome) for job in jobs) for outcome in OUTCOMES}
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"e2e: {counts['passed']} passed, {counts['failed']} failed{skipped}", flush=True)


def parsed(arguments):
    """Names of suites, options for pytest, and how many suites run at once."""
    most = 0
    if arguments and arguments[0] == "--jobs":
        if len(arguments) < 2:
            raise Failure("--jobs says nothing")
        most, arguments = int(arguments[1] or 0), arguments[2:]
    at = next((index for index, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    names = arguments[:at] or known()
    return names, arguments[at:], most if most > 0 else len(names)


def run():
    names, options, most = parsed(sys.argv[1:])
    unknown = [name for name in names if name not in known()]
    if unknown:
        raise Failure(f"no suite {', '.join(unknown)}: there are {', '.join(known())}")
    if len(names) == 1:
        return subprocess.run(command(names[0], options), cwd=ROOT, check=False).returncode
    say(f"suites side by side: {', '.join(names)}")
    jobs = side_by_side(names, options, most)
    summary(jobs)
    return 0 if all(job.good for job in jobs) else 1


if __name__ == "__main__":
    main(run)
