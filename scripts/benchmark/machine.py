"""What the figures were measured on."""

import os
import platform
import re
from datetime import datetime, timezone
from pathlib import Path

from benchmark import litellm
from project import ENVOY_VERSION, ROOT, find_program, output
from setup import POSTGRES_PLACES, REDIS_PLACES


def _first(pattern, text, otherwise="unknown"):
    found = re.search(pattern, text or "", re.MULTILINE)
    return found.group(1).strip() if found else otherwise


def _version(name, places, pattern):
    program = find_program(name, *places)
    return _first(pattern, output([program, "--version"]), None) if program else None


def facts():
    memory = int(_first(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), "0"))
    return {
        "cpu": _first(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), platform.machine()),
        "cores": os.cpu_count(), "memory_gib": round(memory / 1024 / 1024, 1), "kernel": platform.release(),
        "versions": {
            "Envoy": ENVOY_VERSION, "Redis": _version("redis-server", REDIS_PLACES, r"v=(\S+)"),
            "Postgres": _version("postgres", POSTGRES_PLACES, r"(\d\S*)"), "LiteLLM": litellm.installed(),
            "Rust": _first(r"^rustc (\S+)", output(["rustc", "--version"])), "Python": platform.python_version(),
        },
    }


def commit():
    """The commit that is checked out; marked when the tree differs from it (results themselves apart)."""
    head = output(["git", "rev-parse", "HEAD"], cwd=ROOT)
    if not head:
        return "unknown"
    changed = output(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results"], cwd=ROOT)
    return f"{head}-changed" if changed else head


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
