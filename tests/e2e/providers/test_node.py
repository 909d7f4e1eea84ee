"""OpenAI's Node SDK against providers of other dialects."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from project import NODE_DIR
from world import QUESTION, RESULT, TEXT, WEATHER

SCRIPTS = Path(__file__).resolve().parents[1] / "node"


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "bedrock", "gemini", "vertex"])
@pytest.mark.parametrize("case", ["chat", "stream", "tools", "structured", "responses", "error"])
def test_node_sdk(gateway, provider, case):
    # Beside node_modules: that is where Node looks for packages.
    script = shutil.copy(SCRIPTS / "providers.mjs", NODE_DIR / "providers.mjs")
    environment = dict(os.environ, GATEWAY_URL=gateway.url, GATEWAY_KEY=gateway.default_key, MODEL=provider,
                       QUESTION=QUESTION, WEATHER=WEATHER, EXPECTED_ANSWER=TEXT, RESULT=RESULT)
    done = subprocess.run(["node", script, case], env=environment, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
