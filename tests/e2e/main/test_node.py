"""The official Node SDK."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import ANSWER
from project import NODE_DIR

SCRIPTS = Path(__file__).resolve().parents[1] / "node"


@pytest.mark.parametrize("case", ["chat", "stream", "embeddings", "abort", "unauthorized", "forbidden", "fallback"])
def test_node_sdk(gateway, case):
    # Beside node_modules: that is where Node looks for packages.
    script = shutil.copy(SCRIPTS / "sdk.mjs", NODE_DIR / "sdk.mjs")
    environment = dict(os.environ, GATEWAY_URL=gateway.url, GATEWAY_KEY=gateway.key(models=["gpt-4o", "gpt-4o-mini", "text-embedding-3-small"]),
                       EXPECTED_ANSWER=ANSWER)
    done = subprocess.run(["node", script, case], env=environment, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
