import pytest
from asking import report
from books import FACTS, config
from harness import BACKENDS, Gateway


@pytest.fixture(scope="session", params=BACKENDS)
def gateway(request):
    """One gateway per store backend for all tests that leave it as they found it. Its provider keeps books."""
    with Gateway("ledger", request.param, config=config(), log=True) as gateway:
        yield gateway


def pytest_unconfigure(config):
    report(config, "ledger", FACTS)
