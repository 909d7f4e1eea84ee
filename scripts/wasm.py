#!/usr/bin/env python3
"""Builds the WASM filter into .attache/attache_filter.wasm. Standard library only.

    scripts/wasm.py             build
    scripts/wasm.py clippy      lint it for its own target

Where Binaryen's wasm-opt is there, it goes over the filter: some 5 % less of Envoy's CPU. Without it the filter does the same.

Three ways to get the wasm32 target, in this order: it is installed; `rustup target add`; Debian's rustc-web with the
sources of the standard library, which cargo then builds itself. The last one is for places where rustup has no network.
"""

import hashlib
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
# What rustc's wasm32 target makes use of, by wasm-opt's names.
FEATURES = ["bulk-memory", "multivalue", "mutable-globals", "nontrapping-float-to-int", "reference-types", "sign-ext"]
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


def want_optimizer():
    """Installs wasm-opt where that is a matter of a moment. Nothing depends on it."""
    if shutil.which("wasm-opt") or not shutil.which("apt-get") or os.geteuid() != 0:
        return
    try:
        apt_install(["binaryen"], "wasm-opt makes the filter a little faster")
    except Failure as error:
        say(f"wasm-opt could not be installed ({error})")


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


def optimized(built):
    """The filter as wasm-opt leaves it, or as it is. Done once for each filter that cargo made."""
    tool = shutil.which("wasm-opt")
    if tool is None:
        say("wasm-opt (Debian: binaryen) is not there: the filter stays as the compiler made it")
        return built
    out = built.with_suffix(".opt.wasm")
    mark = built.with_suffix(".opt.from")
    digest = hashlib.sha256(built.read_bytes()).hexdigest()
    if out.exists() and mark.exists() and mark.read_text() == digest:
        return out
    enabled = [f"--enable-{feature}" for feature in FEATURES]
    done = subprocess.run([tool, "-O4", *enabled, built, "-o", out], check=False, text=True, capture_output=True)
    if done.returncode != 0:
        # An old one does not know what a new compiler makes use of.
        say(f"wasm-opt cannot read the filter, which stays as it is: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        return built
    mark.write_text(digest)
    return out


def build():
    cargo("build", "--profile", "wasm", "--lib")
    built = optimized(WASM_TARGET / TRIPLE / "wasm" / f"{PACKAGE.replace('-', '_')}.wasm")
    LOCAL.mkdir(exist_ok=True)
    if not WASM.exists() or WASM.read_bytes() != built.read_bytes():
        # Renamed into place: a running Envoy never reads half a file.
        partial = WASM.with_suffix(".partial")
        shutil.copyfile(built, partial)
        partial.replace(WASM)
    say(f"{WASM.relative_to(ROOT)}: {WASM.stat().st_size // 1024} KiB")


def command_line():
    need_toolchain()
    want_optimizer()
    build()


if __name__ == "__main__":
    main(command_line)
