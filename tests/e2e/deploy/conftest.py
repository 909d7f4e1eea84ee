import pytest
from asking import report
from facts import FACTS
from harness import Gateway


@pytest.fixture(scope="session")
def gateway():
    """One gateway for all tests that leave it as they found it."""
    with Gateway("deploy", "embedded") as gateway:
        yield gateway


def pytest_unconfigure(config):
    report(config, "deploy", FACTS)
