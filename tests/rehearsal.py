"""`make gpu-rehearsal`: the steps of `make gpu` without a GPU, so that the first run on one has only to measure.

Everything is done except launching. Kernels are compiled for an H100 by the Triton in `.venv/older-triton`, tensors
have shapes and no numbers, the GPU's clock is a fake, and answers are not compared: the tests of kernels do that, in
the emulator. Records go to a temporary directory. Packages that such a machine may lack cannot be imported.

A process of a step runs this file, too: `rehearsal.py -m MODULE ...` is `python -m MODULE ...` with the fakes.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRITON = ROOT / ".venv" / "older-triton"
# What a machine for `make gpu` has, and what these packages require; matplotlib is only for pictures.
NEEDED = (
    "torch", "triton", "numpy", "pillow", "regex", "safetensors", "tqdm", "threadpoolctl", "transformers", "pytest",
    "pytest-xdist", "hypothesis", "packaging", "matplotlib", "jax", "pip",
)  # fmt: skip


def missing_there():
    """The top-level modules that are installed here and that `make gpu` must do without."""
    allowed, todo = set(), list(NEEDED)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        try:
            requirements = importlib.metadata.requires(name) if name not in allowed else None
        except importlib.metadata.PackageNotFoundError:
            continue
        allowed.add(name)
        todo += [re.match(r"[\w.-]+", text)[0] for text in requirements or () if "extra ==" not in text]
    return sorted(
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if not module.startswith(("_", "miniclip"))
        if not {re.sub(r"[-_.]+", "-", package).lower() for package in packages} & allowed
    )


SITE = """
from importlib.machinery import PathFinder

missing, find = set({modules!r}), PathFinder.find_spec

def find_spec(cls, name, *where):
    return None if name.partition(".")[0] in missing else find(name, *where)

PathFinder.find_spec = classmethod(find_spec)  # a method of its class, as before: pytest keeps it in a class of its own
"""


# --------------------------------------------------------------------------------- inside the process of a step


KEPT = []


def pretend():
    """Make this process believe that it has an H100, whose tensors have no numbers."""
    import dataclasses

    import numpy as np
    import pytest
    import torch
    from fake_gpu import fake
    from torch.overrides import TorchFunctionMode

    from miniclip.bench import session
    from miniclip.errors import WrongAnswer
    from miniclip.families.clip.presets import PRESETS
    from miniclip.kernels import offline, oracle
    from miniclip.kernels.bench import gpu_timing, kernels, models, report

    class Elsewhere(TorchFunctionMode):
        """Tensors that should be on the GPU have no memory at all."""

        def __torch_function__(self, function, types, args=(), kwargs=None):
            def moved(x):
                return torch.device("meta") if str(x).startswith("cuda") and not isinstance(x, torch.Tensor) else x

            return function(*map(moved, args), **{name: moved(x) for name, x in (kwargs or {}).items()})

    def as_tuple(result):
        return result if isinstance(result, tuple) else (result,)

    def checker(kernel, inputs):
        try:
            expected = [x.shape for x in as_tuple(kernel.plain(**inputs))]
        except RuntimeError:  # torch's own looks at numbers, such as lengths, and there are none
            expected = None

        def check(result, slack=0):
            found = [x.shape for x in as_tuple(result)]
            if expected not in (None, found):
                raise WrongAnswer(f"its shapes are {found}, not {expected}")
            return 0.0

        return check, 0.0

    def compiled(function, **options):
        real_compile(function, **options)  # refuses unknown options; it compiles when it is called
        return function

    def transformers(config, tower, flat, device, dtype):
        numbers = {name: torch.zeros(x.shape, device="cpu") for name, x in flat.items()}
        return real_transformers(config, tower, numbers, device, dtype)

    def small(config):
        tower = config.visual
        return dataclasses.replace(config, visual=dataclasses.replace(tower, layers=2))

    patch, real_compile, real_transformers = pytest.MonkeyPatch(), torch.compile, models._transformers
    fake(patch, ticks=100)
    patch.setattr(torch, "compile", compiled)
    for module, name, value in [
        (oracle, "checker", checker),
        (gpu_timing, "SAMPLE", 0),
        (gpu_timing, "CALLS", 1),
        (models, "_transformers", transformers),
        (models, "as_array", lambda x: np.zeros(tuple(x.shape))),
        (session, "compare", lambda *arguments: 0.0),
        (report, "README", Path(os.environ["REHEARSAL"]) / "README.md"),
        (report, "RESULTS", Path(os.environ["REHEARSAL"]) / "results"),
        (kernels, "RESULTS", Path(os.environ["REHEARSAL"]) / "results"),
        (models, "RESULTS", Path(os.environ["REHEARSAL"]) / "results"),
    ]:
        patch.setattr(module, name, value)
    for name in ("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"):
        models.CONFIGS[name] = small(PRESETS[name])
    for context in (Elsewhere(), offline.compiling(90)):
        context.__enter__()
        KEPT.append(context)  # until the process ends


def act(arguments):
    """`python -m MODULE ...` or `python -c CODE`, in this process."""
    if arguments[0] == "-c":
        exec(arguments[1], {"__name__": "__main__"})
        return
    module, rest = arguments[1], arguments[2:]
    if module == "miniclip":
        sys.exit(importlib.import_module("miniclip.cli").main(rest))
    importlib.import_module(module).main(rest)


# ------------------------------------------------------------------------------------------------ the rehearsal


def rehearsed(step):
    """A step of `make gpu`, as a step of the rehearsal."""
    if "pytest" in step.command:
        return step._replace(command=without(step.command, "-n"))
    return step._replace(command=["tests/rehearsal.py", *without(step.command, "--seconds")])


def without(command, option):
    """A command without an option and its value."""
    return [part for i, part in enumerate(command) if option not in command[max(i - 1, 0) : i + 1]]


def main():
    from miniclip.kernels.bench import steps

    if not TRITON.is_dir():
        sys.exit(f"{TRITON} is missing: make .venv/test installs it")
    emulated = importlib.util.find_spec("miniclip.kernels.emulator") is not None
    with tempfile.TemporaryDirectory() as directory:
        site = Path(directory, "site")
        for folder in (site, Path(directory, "results")):
            folder.mkdir()
        (site / "sitecustomize.py").write_text(SITE.format(modules=missing_there()))
        Path(directory, "README.md").write_text((ROOT / "kernels" / "README.md").read_text())
        environment = {
            **os.environ,
            **steps.ENVIRONMENT,
            "PYTHONPATH": os.pathsep.join(map(str, [site, TRITON, ROOT, ROOT / "tests"])),
            "TRITON_CACHE_DIR": str(Path(directory, "cache")),
            "REHEARSAL": directory,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # of packages that are only here
        }
        environment |= {"MINICLIP_EMULATE": "90"} if emulated else {}
        chosen = [step for step in steps.STEPS if not sys.argv[1:] or step.name in sys.argv[1:]]
        failed = steps.run(list(map(rehearsed, chosen)), environment, os.environ.get("OUT"), limited=False)
    sys.exit(f"failed: {', '.join(failed)}" if failed else None)


ACTS = sys.argv[1:2] in (["-m"], ["-c"])
if __name__ in ("__main__", "__mp_main__") and ACTS:  # the second: in a process that a step has started
    pretend()
if __name__ == "__main__":
    if ACTS:
        act(sys.argv[1:])
    else:
        main()
