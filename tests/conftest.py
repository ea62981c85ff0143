"""Shared fixtures of the tests: the official code, which ours is compared with, and the difference of two results."""

import atexit
import contextlib
import importlib
import importlib.util
import os
import sys
import time
import types
import warnings
from pathlib import Path

# Before NumPy loads: if BLAS threads of two processes spin while they wait for each other, seconds become minutes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Before Triton loads: without a GPU, its kernels run in the interpreter on the CPU. Or, with MINICLIP_EMULATE=90 (or
# 80), they are compiled for a GPU of that compute capability, and the emulator runs them.
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "0" if os.environ.get("MINICLIP_EMULATE") else "1"

# Triton must be imported before TensorFlow.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

import numpy as np
import packaging.version
import pytest
from hypothesis import HealthCheck, settings

from miniclip import Tokenizer, params
from miniclip.runtime import cpu

# On a GPU torch convolves float32 in tf32 by default, and ours would be held to twice that error, 1e-3.
torch.backends.cudnn.allow_tf32 = False
EMULATED = os.environ.get("MINICLIP_EMULATE")
if EMULATED and not EMULATED.isdigit():
    raise pytest.UsageError(f"MINICLIP_EMULATE is a compute capability, such as 90, not {EMULATED!r}")

# Runs are reproducible and without time limits, because they test answers, not speed. On a GPU there are fewer
# examples, because almost every one has to be compiled.
settings.register_profile(
    "miniclip",
    deadline=None,
    derandomize=True,
    max_examples=10 if torch.cuda.is_available() or EMULATED else 50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("miniclip")


if EMULATED:  # for good, and now: some modules of tests ask for the triton backend when they are imported
    from miniclip.kernels import emulator

    EMULATION = contextlib.ExitStack()
    EMULATION.enter_context(emulator.emulating(int(EMULATED)))
    atexit.register(EMULATION.close)


def official_file(name):
    """The path of a file in the installed openai-clip package, which cannot be imported without torchvision."""
    package = importlib.util.find_spec("clip")
    assert package is not None, "openai-clip is not installed: run make test, which installs it"
    return Path(package.submodule_search_locations[0]) / name


def official_module(name):
    spec = importlib.util.spec_from_file_location(f"official_{name}", official_file(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TIME_IS_OVER = "not run: the time for the tests is over"


def pytest_runtest_setup(item):
    """After the moment MINICLIP_TESTS_END, in seconds since 1970, no test begins: then there is a summary in time."""
    if time.time() > float(os.environ.get("MINICLIP_TESTS_END", "inf")):
        pytest.skip(TIME_IS_OVER)


def pytest_sessionfinish(session):
    """Tests that were not run in time make the run fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if any(TIME_IS_OVER in str(report.longrepr) for report in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def official_model():
    """A function that builds OpenAI's model, clip/model.py's CLIP, in eval mode, without parameters of 0 or 1.

    It takes the arguments of that class: embed_dim, image size, layers, width, patch or None, context, vocabulary,
    width, heads, layers.
    """
    module = official_module("model")

    def build(*sizes, half=False):
        torch.manual_seed(0)
        model = module.CLIP(*sizes).eval()
        with torch.no_grad():
            for name, x in [*model.named_parameters(), *model.named_buffers()]:
                if name.endswith("running_var"):
                    x.uniform_(0.5, 2)
                elif x.is_floating_point() and (x.ndim < 2 or "bn" in name):
                    x.add_(0.1 * torch.randn_like(x))
        if half:
            module.convert_weights(model)
        return model

    build.module = module
    return build


@pytest.fixture(scope="session")
def save_torchscript():
    """A function that saves a model in OpenAI's format: a TorchScript archive with weights and three numbers."""

    def save(model, path):
        size, (context_length, vocab_size) = model.visual.input_resolution, (model.context_length, model.vocab_size)
        marks = {"input_resolution": size, "context_length": context_length, "vocab_size": vocab_size}
        for name, number in marks.items():
            model.__dict__.pop(name, None)
            model.register_buffer(name, torch.tensor(number))
        inputs = torch.zeros(1, 3, size, size), torch.zeros(1, context_length, dtype=torch.long)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing is deprecated, and warns at every branch
            torch.jit.trace(model, inputs, check_trace=False).save(str(path))
        for name, number in marks.items():
            del model._buffers[name]
            setattr(model, name, number)

    return save


@pytest.fixture(scope="session")
def official_vocabulary():
    """The path of bpe_simple_vocab_16e6.txt.gz."""
    return official_file("bpe_simple_vocab_16e6.txt.gz")


@pytest.fixture(scope="session")
def official_tokenizer_module():
    """OpenAI's clip/simple_tokenizer.py."""
    return official_module("simple_tokenizer")


@pytest.fixture(scope="session")
def official_tokenizer(official_tokenizer_module):
    """OpenAI's SimpleTokenizer."""
    return official_tokenizer_module.SimpleTokenizer()


@pytest.fixture(scope="session")
def tokenizer(official_vocabulary):
    """Our tokenizer with OpenAI's vocabulary."""
    return Tokenizer.load(official_vocabulary, vocab_size=49408)


@pytest.fixture
def relative_error():
    """A function: max |ours - theirs| / max |theirs|."""

    def error(ours, theirs):
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape
        return np.abs(ours - theirs).max() / np.abs(theirs).max()

    return error


@pytest.fixture(scope="session")
def official_clip():
    """OpenAI's clip/clip.py, for its `tokenize`. Modules that only its other functions need are replaced by fakes."""
    names = ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize", "InterpolationMode")
    transforms = types.SimpleNamespace(**dict.fromkeys(names, types.SimpleNamespace(BICUBIC=None)))
    fakes = {
        "torchvision": types.SimpleNamespace(transforms=transforms),
        "torchvision.transforms": transforms,
        "pkg_resources": types.SimpleNamespace(packaging=packaging),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, fake in fakes.items():
            patch.setitem(sys.modules, name, fake)
        module = importlib.import_module("clip.clip")
        for name in [name for name in sys.modules if name.partition(".")[0] == "clip"]:
            del sys.modules[name]  # other tests look for the installed package, not for an imported one
    return module


@pytest.fixture
def same_tree():
    """A function: whether two parameter trees have the same names and values."""

    def same(a, b):
        a, b = params.flatten(a), params.flatten(b)
        return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)

    return same


@pytest.fixture
def two_threads():
    """Run BLAS on two threads; the other tests use one."""
    cpu._set_threads([2] * len(cpu.blas()))
    yield
    assert cpu.blas_threads() == 2
    cpu._set_threads([1] * len(cpu.blas()))
