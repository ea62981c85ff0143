"""The backends: modules that export the same operations for different arrays.

A backend is chosen once, at load, and is then the `ops` argument of every tower function.
"""

import importlib
from types import ModuleType
from typing import Any

from miniclip.errors import InputError

Array = Any  # whatever the backend computes with: an ndarray, a tensor
BACKENDS = {"numpy": "miniclip.ops.numpy_ops", "torch": "miniclip.ops.torch_ops"}


def select(backend: str = "auto", device: Any = None) -> ModuleType:
    """The ops module of a backend's name; "auto" is "torch" for a device other than the CPU, else "numpy".

    Raises InputError for an unknown name, for a device that the backend cannot use, and where its packages are missing.
    """
    on_cpu = device is None or str(device) == "cpu"
    if backend == "auto":
        backend = "numpy" if on_cpu else "torch"
    if backend not in BACKENDS:
        raise InputError(f"there is no backend {backend!r}; choose one of auto, {', '.join(BACKENDS)}")
    if backend == "numpy" and not on_cpu:
        raise InputError(f"the numpy backend runs on the CPU, not on {device}: pass backend='torch'")
    try:
        ops = importlib.import_module(BACKENDS[backend])
    except ImportError as error:
        raise InputError(
            f"the {backend} backend needs {error.name}: in the checkout, pip install -c constraints.txt -e '.[train]'"
        ) from error
    try:
        ops.asarray(0.0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises both
        reason = str(error).partition("\n")[0]
        raise InputError(f"the {backend} backend cannot use the device {str(device)!r}: {reason}") from error
    return ops
