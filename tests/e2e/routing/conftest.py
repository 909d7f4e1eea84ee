import pytest
from harness import BACKENDS, Gateway
from world import FACTS, config_of


@pytest.fixture(scope="session", params=BACKENDS)
def gateway(request):
    """One gateway per store backend, with the groups of every selected test file (its function `configure`)."""
    modules = {item.module.__name__: item.module for item in request.session.items}
    with Gateway("routing", request.param, config=config_of(*modules.values())) as gateway:
        yield gateway


def pytest_unconfigure(config):
    """Last of all, the figures in one line."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not (reporter.stats.get("passed") or reporter.stats.get("failed")):
        return
    passed, failed = (len(reporter.stats.get(outcome, ())) for outcome in ("passed", "failed"))
    failed += len(reporter.stats.get("error", ()))
    checks = f"{passed} checks" + (f", {failed} FAILED" if failed else "")
    reporter.write_line(f"routing: {checks}" + "".join(f"{', ' if n else '; '}{text}" for n, text in enumerate(FACTS.lines())))
