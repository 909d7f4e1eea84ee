"""A stack whose Envoy has its configuration from `attache render`, not over xDS."""

import os
import subprocess

from harness import LOCAL
from project import ATTACHE, WASM, mesh_envoy_binary
from stack import Failure, Stack

ENVOYS = {"1.39": mesh_envoy_binary, "1.40": lambda: None}


def render(*arguments, environment=None):
    """Status, output and complaints of `attache render`."""
    done = subprocess.run([str(part) for part in (ATTACHE, "render", *arguments)], env=environment or os.environ, text=True,
                          capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


class Rendered(Stack):
    """`change(text)` makes the bootstrap of what `attache render` printed; without it that is one."""

    def __init__(self, name, config, version="1.40", kind="envoy", flags=(), change=None, environment=None):
        folder = LOCAL / "run" / "e2e" / f"deploy-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "config.yaml"
        path.write_text(config)
        super().__init__(path, folder / "stack", serve_flags=["--static-clusters"], environment=environment)
        self.version, self.kind, self.flags, self.change = version, kind, list(flags), change
        self.envoy_program = ENVOYS[version]()
        if version != "1.40" and not self.envoy_program:
            raise Failure(f"Envoy {version} is missing: run `make setup`")

    @property
    def keys(self):
        return self.data / "aws"

    def render(self):
        own = ["--wasm", WASM, "--socket", self.socket, "--aws-keys-dir", self.keys]
        if self.kind == "envoy":
            own += ["--listen", self.listen, "--admin", self.admin, "--envoy-version", self.version]
        status, text, complaints = render(self.kind, "--config", self.config, *own, *self.flags, environment=self.environment)
        if status != 0:
            raise Failure(f"`attache render {self.kind}` ended with status {status}:\n{complaints}")
        return text

    def bootstrap(self):
        self.text = self.render()
        path = self.folder / "envoy.yaml"
        path.write_text(self.change(self, self.text) if self.change else self.text)
        return path
