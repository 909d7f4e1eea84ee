#!/usr/bin/env python3
"""Builds the WASM filter into .attache/attache_filter.wasm. Standard library only.

    scripts/wasm.py             build
    scripts/wasm.py clippy      lint it for its own target

Three ways to get the wasm32 target, in this order: it is installed; `rustup target add`; Debian's rustc-web with the
sources of the standard library, which cargo then builds itself. The last one is for places where rustup has no network.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import LOCAL, ROOT, TARGET, WASM, Failure, apt_install, main, output, run, say  # noqa: E402

TRIPLE = "wasm32-unknown-unknown"
PACKAGE = "attache-filter"
DEBIAN_PACKAGES = ["rustc-web", "rust-web-src", "lld"]
DEBIAN_RUSTC = Path("/usr/bin/rustc")
DEBIAN_SOURCES = Path("/usr/lib/rustlib/src/rust/library")
# Own folder: another compiler may build it, and cargo's lock is not shared with a native build running beside it.
WASM_TARGET = TARGET / "wasm-build"


def target_installed():
    folder = output(["rustc", "--print", "target-libdir", "--target", TRIPLE], cwd=ROOT)
    return folder is not None and any(Path(folder).glob("libstd-*.rlib"))


def debian_toolchain():
    return DEBIAN_SOURCES.is_dir() and DEBIAN_RUSTC.exists() and linker() is not None


def linker():
    found = shutil.which("wasm-ld") or next((str(p) for p in sorted(Path("/usr/bin").glob("wasm-ld-*"))), None)
    return found


def need_toolchain():
    """Makes sure that one of the three ways is open."""
    if target_installed() or debian_toolchain():
        return
    if shutil.which("rustup"):
        say(f"WASM target: rustup target add {TRIPLE}")
        try:
            done = subprocess.run(["rustup", "target", "add", TRIPLE], cwd=ROOT, timeout=120, check=False,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode == 0 and target_installed():
                return
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        except subprocess.TimeoutExpired:
            reason = "no answer within two minutes"
        say(f"rustup could not ({reason}); trying Debian's compiler")
    apt_install(DEBIAN_PACKAGES, f"The filter needs a Rust compiler for {TRIPLE}")
    if not debian_toolchain():
        raise Failure(f"no compiler for {TRIPLE}: run `rustup target add {TRIPLE}`, then start again")


def cargo(*arguments):
    """Runs a cargo command for the WASM target with whichever toolchain there is."""
    environment = dict(os.environ)
    command = ["cargo", *arguments, "--locked", "--package", PACKAGE, "--target", TRIPLE, "--target-dir", WASM_TARGET]
    if not target_installed():
        if not debian_toolchain():
            raise Failure("the WASM toolchain is missing: run scripts/setup.py")
        environment.update(RUSTC=str(DEBIAN_RUSTC), RUSTC_BOOTSTRAP="1",
                           CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=linker())
        command += ["-Zbuild-std=std,panic_abort"]
    run(command, cwd=ROOT, env=environment)


def build():
    cargo("build", "--profile", "wasm", "--lib")
    built = WASM_TARGET / TRIPLE / "wasm" / f"{PACKAGE.replace('-', '_')}.wasm"
    LOCAL.mkdir(exist_ok=True)
    if not WASM.exists() or WASM.read_bytes() != built.read_bytes():
        # Renamed into place: a running Envoy never reads half a file.
        partial = WASM.with_suffix(".partial")
        shutil.copyfile(built, partial)
        partial.replace(WASM)
    say(f"{WASM.relative_to(ROOT)}: {WASM.stat().st_size // 1024} KiB")


def command_line():
    need_toolchain()
    build()


if __name__ == "__main__":
    main(command_line)
