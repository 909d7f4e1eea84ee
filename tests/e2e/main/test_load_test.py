"""scripts/load_test.sh: what it asserts, and that it fails when that does not hold."""

import os
import subprocess

import pytest
from harness import ROOT

QUICK = {"LOAD_TEST_DURATION": "2", "LOAD_TEST_WARM_UP": "0.5", "LOAD_TEST_RATE": "120"}


def load_test(*options, **environment):
    """Exit status, and all that it says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOAD_TEST_")}
    done = subprocess.run([ROOT / "scripts" / "load_test.sh", *options], env={**clean, **QUICK, **environment}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def addresses(gateway):
    return ["--url", f"{gateway.url}/v1", "--model", "solo", "--baseline", f"{gateway.provider.url}/one/v1",
            "--baseline-key", "sk-direct", "--pid", f"envoy={gateway.stack.envoy.pid}"]


def test_a_gateway_that_keeps_up_passes(gateway, addresses, tmp_path):
    figures = tmp_path / "figures.json"
    # Exactly the requests that come: one more would be refused.
    key = gateway.key(rpm_limit=300)
    for _ in range(3):  # suites beside this one take the processors for moments
        status, text = load_test(*addresses, "--json", figures, LOAD_TEST_KEY=key)
        if status == 0:
            break
        key = gateway.key(rpm_limit=300)
    assert status == 0, text
    assert text.count("PASS") == 4 and "FAIL" not in text and "SKIP" not in text, text
    assert "CPU per request, envoy: " in text and '"p50_ms":' in figures.read_text(), text


def test_a_quota_that_is_too_small_fails(gateway, addresses):
    status, text = load_test(*addresses, LOAD_TEST_KEY=gateway.key(rpm_limit=20))
    assert status == 1 and "FAIL  429 within the quota: " in text, text
    assert "FAIL  failed or not sent: " in text and "criteria do not hold" in text, text


def test_what_is_too_slow_fails(gateway, addresses):
    key = gateway.key()
    status, text = load_test(*addresses, "--max-overhead-ms", "0", LOAD_TEST_KEY=key)
    assert status == 1 and "FAIL  p50 overhead over the provider" in text, text
    status, text = load_test(*addresses, "--concurrency", "1", "--rate", "20000", "--min-rps", "20000", LOAD_TEST_KEY=key)
    assert status == 1 and "FAIL  good answers a second" in text and "FAIL  failed or not sent" in text, text


def test_a_gateway_that_is_not_there_fails():
    status, text = load_test("--url", "http://127.0.0.1:9/v1", "--key", "sk-nobody")
    assert status == 1 and '"connect":' in text and "FAIL  p50 overhead over the provider: no good answer" in text, text


@pytest.mark.parametrize("options, wanted", [
    (["--rate", "50"], "--rate 50 cannot show 100 answers a second"), (["--duration", "soon"], "--duration soon: want a number"),
    (["--rates", "1"], "--rates: no such option"), (["--url"], "--url needs a value"), (["--key", "sk-1"], "need --url"),
    (["--pods", "0"], "want more than 0"), (["--url", "nowhere"], "http(s)://"),
])
def test_mistakes_are_named(options, wanted):
    status, text = load_test(*options)
    assert status != 0 and wanted in text, text
