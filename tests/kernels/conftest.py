"""Compiling takes minutes: it begins before the first test of all, on a core that they leave idle."""

import pytest
from compiled_kernels import Compiling, Job

compiling = pytest.StashKey()


def pytest_collection_finish(session):
    session.stash[compiling] = Compiling()
    for item in session.items if not session.config.option.collectonly else ():
        job = getattr(item, "callspec", None) and item.callspec.params.get("job")
        if isinstance(job, Job):
            session.stash[compiling].begin(job)


def pytest_sessionfinish(session):
    if compiling in session.stash:
        session.stash[compiling].stop()


@pytest.fixture
def compiled(request, job):
    """What a job of the test's own parameters compiled to."""
    return request.session.stash[compiling].needed(job)
