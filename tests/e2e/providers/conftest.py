import pytest
from asking import report
from world import FACTS, start


@pytest.fixture(scope="session")
def gateway():
    """One gateway with a group per provider, for all tests that leave it as they found it."""
    with start("embedded") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def replicated():
    """The same on Redis and Postgres."""
    with start("redis+postgres") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def hasty():
    """A gateway whose tokens live for three seconds."""
    with start("embedded", "hasty", google="expires:3", sts="expires:3", login="expires:3") as gateway:
        yield gateway


def pytest_unconfigure(config):
    report(config, "providers", FACTS)
