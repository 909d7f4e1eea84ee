"""Places of the project, and small helpers for the scripts. Standard library only."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".attache"
VENV = LOCAL / "venv"
PYTHON = VENV / "bin" / "python"
NODE_DIR = LOCAL / "node"
WASM = LOCAL / "attache_filter.wasm"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RELEASE = TARGET / "release"
ATTACHE = RELEASE / "attache"
FAKE_PROVIDER = RELEASE / "fake-provider"
LOAD = RELEASE / "load"
ENVOY_VERSION = (ROOT / ".envoy-version").read_text().strip()
# What Istio 1.31 and Envoy Gateway 1.9 ship: tests run on it what `attache render` makes for them.
MESH_ENVOY_VERSION = "1.39.3"
MESH_ENVOY = LOCAL / f"envoy-{MESH_ENVOY_VERSION}"


class Failure(Exception):
    """Something a person can act on; printed without a traceback."""


def say(text):
    print(f"\033[2m·\033[0m {text}" if sys.stdout.isatty() else f"· {text}", flush=True)


def run(command, **options):
    """Runs a command whose output the user sees; a failure is a Failure."""
    try:
        subprocess.run([str(part) for part in command], check=True, **options)
    except FileNotFoundError as error:
        raise Failure(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        shown = " ".join(str(part) for part in command)
        raise Failure(f"`{shown}` ended with status {error.returncode}") from error


def output(command, **options):
    """Standard output of a command, or None if it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=options.pop("timeout", 60), **options,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def envoy_binary():
    """Envoy of the virtual environment."""
    found = sorted(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    return found[0] if found else None


def mesh_envoy_binary():
    """Envoy as meshes have it, or None."""
    path = MESH_ENVOY / "envoy" / "_bin" / "envoy"
    return path if path.exists() else None


def find_program(name, *folders):
    """A program on PATH or in one of the usual places (glob patterns)."""
    found = shutil.which(name)
    if found:
        return Path(found)
    for folder in folders:
        for candidate in sorted(Path("/").glob(f"{folder.lstrip('/')}/{name}"), reverse=True):
            if os.access(candidate, os.X_OK):
                return candidate
    return None


def apt_install(packages, why):
    """Installs Debian packages as root, without starting the services they bring; otherwise says how."""
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if not shutil.which("apt-get"):
        raise Failure(f"{why}: this system has no apt-get; install the equivalent of {' '.join(packages)} and run again")
    if os.geteuid() != 0:
        raise Failure(f"{why}. Root is needed for that; run this, then start again:\n\n    sudo {' '.join(command)}\n")
    say(f"{why}: installing Debian packages {' '.join(packages)} (as root)")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")  # 101: services are not to be started
        policy.chmod(0o755)
    try:
        run(["apt-get", "update", "-qq"], env=environment)
        run([*command, "-qq"], env=environment, stdout=subprocess.DEVNULL)
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def main(function):
    """Runs a script's main function; failures and Ctrl-C end without a traceback."""
    try:
        sys.exit(function() or 0)
    except Failure as failure:
        print(f"\n{Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def wait_for(what, condition, seconds, pause=0.02):
    """Polls until the condition holds and returns its value; a Failure names what did not come."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(pause)
