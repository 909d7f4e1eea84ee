import pytest
from asking import report
from harness import BACKENDS, Gateway
from world import FACTS, config_of


@pytest.fixture(scope="session", params=BACKENDS)
def gateway(request):
    """One gateway per store backend, with the groups of every selected test file (its function `configure`)."""
    modules = {item.module.__name__: item.module for item in request.session.items}
    with Gateway("routing", request.param, config=config_of(*modules.values())) as gateway:
        yield gateway


def pytest_unconfigure(config):
    report(config, "routing", FACTS)
