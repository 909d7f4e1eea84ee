#!/usr/bin/env python3
"""Runs the tests that need no Envoy, with private Redis and Postgres for the stores' suites."""

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import LOCAL, ROOT, main, run, say  # noqa: E402
from servers import Postgres, Redis  # noqa: E402


def unit():
    folder = LOCAL / "run" / "unit"
    redis, postgres = Redis(folder).start(), Postgres(folder).start()
    environment = dict(os.environ, ATTACHE_TEST_REDIS_URL=redis.url, ATTACHE_TEST_POSTGRES_URL=postgres.url)
    command = ["cargo", "test"]
    if shutil.which("cargo-nextest"):
        command = ["cargo", "nextest", "run", "--no-fail-fast"]
    say("unit, property and store tests")
    try:
        run([*command, "--release", "--locked", "--workspace", *sys.argv[1:]], cwd=ROOT, env=environment)
    finally:
        redis.stop()
        postgres.remove()


if __name__ == "__main__":
    main(unit)
