import pytest
from harness import BACKENDS, Gateway


@pytest.fixture(scope="session", params=BACKENDS)
def gateway(request):
    """One gateway per store backend for all tests that leave it as they found it."""
    with Gateway("main", request.param) as gateway:
        yield gateway


@pytest.fixture(params=BACKENDS)
def own_gateway(request):
    """A gateway that the test may break."""
    with Gateway("own", request.param) as gateway:
        yield gateway
