import pytest
from asking import report
from harness import BACKENDS, Gateway
from holders import FACTS, config


@pytest.fixture(scope="session", params=BACKENDS)
def gateway(request):
    """One gateway per store backend for all tests that leave it as they found it."""
    with Gateway("limits", request.param, config=config()) as gateway:
        yield gateway


def pytest_unconfigure(config):
    report(config, "limits", FACTS)
