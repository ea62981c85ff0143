"""Compiling takes minutes: it begins before the first test of all, on a core that they leave idle."""

import dataclasses

import pytest
from budget import DEVICE
from compiled_kernels import Compiling, Job

import miniclip
from miniclip.kernels import triton_ops

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


@pytest.fixture(scope="session")
def model():
    """The built-in model with one block a tower: the interpreter takes long."""
    whole = miniclip.load("shapes")[0]
    config = dataclasses.replace(
        whole.config,
        visual=dataclasses.replace(whole.config.visual, layers=1),
        text=dataclasses.replace(whole.config.text, layers=1),
    )
    params = {
        name: {**tower, "blocks": tower["blocks"][:1]} if name in ("visual", "text") else tower
        for name, tower in whole.params.items()
    }
    return miniclip.CLIP(config, params, triton_ops, device=DEVICE, dtype="float32", tokenizer=whole.tokenizer)
