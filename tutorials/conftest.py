"""At the end of a test run: how long each tutorial took, and the time that its header states."""

import pytest

_took = pytest.StashKey()


@pytest.fixture
def took(request):
    """Return a function that records a tutorial's time: took(tutorial, seconds)."""
    return request.config.stash.setdefault(_took, {}).__setitem__


def pytest_terminal_summary(terminalreporter, config):
    took = config.stash.get(_took, {})
    if not took:
        return
    terminalreporter.section("time of each tutorial")
    for tutorial, seconds in took.items():
        over = "  over its budget" if seconds > tutorial.seconds else ""
        terminalreporter.line(f"{tutorial.name:<32}{seconds:6.1f} s of {tutorial.seconds:4} s{over}")
    terminalreporter.line(f"{'all':<32}{sum(took.values()):6.1f} s of {sum(t.seconds for t in took):4} s")
