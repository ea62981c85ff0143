"""The backends: modules that export the same operations for different arrays.

A backend is chosen once, when a model is loaded, and is then the `ops` argument of every tower function.
"""

import ctypes
import importlib
import os
from types import ModuleType
from typing import Any

from miniclip.errors import InputError

Array = Any  # the arrays that a backend computes with: ndarrays, tensors, jax.Arrays
BACKENDS = {
    "numpy": "miniclip.ops.numpy_ops",
    "torch": "miniclip.ops.torch_ops",
    "triton": "miniclip.kernels.triton_ops",
    "jax": "miniclip.ops.jax_ops",
    "tensorflow": "miniclip.ops.tensorflow_ops",
    "onnxruntime": "miniclip.ops.onnxruntime_ops",
    "openvino": "miniclip.ops.openvino_ops",
}
ON_CPU = ("numpy", "onnxruntime", "openvino")
ONLY = {"batch_invariant": "numpy", "compile": "torch"}  # the backend that has an option of `capture`
EXTRAS = {
    "torch": "train",
    "triton": "gpu",
    "jax": "jax",
    "tensorflow": "tensorflow",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}  # the extra that installs what a backend needs


def select(backend: str = "auto", device: Any = None) -> ModuleType:
    """The ops module of a backend.

    "auto" is "triton" if there is a GPU for it and `device` is None or that GPU, "torch" if `device` is any other
    device than the CPU, else "numpy". Raises InputError for an unknown name, for a device that the backend cannot use,
    and if its packages are not installed.
    """
    on_cpu = str(device) == "cpu"
    if backend == "auto":
        backend = _fastest(device)
    if backend not in BACKENDS:
        raise InputError(f"there is no backend {backend!r}; choose one of auto, {', '.join(BACKENDS)}")
    if backend in ON_CPU and device is not None and not on_cpu:
        raise InputError(f"the {backend} backend runs on the CPU, not on {device}: pass backend='torch'")
    try:
        ops = importlib.import_module(BACKENDS[backend])
    except ImportError as error:
        from miniclip.runtime.installation import install  # only for this message

        reason = f"needs {error.name}" if error.name else f"cannot be imported ({str(error).strip()})"
        raise InputError(f"the {backend} backend {reason}: {install(EXTRAS.get(backend))}") from error
    try:
        ops.asarray(0.0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises both
        reason = str(error).partition("\n")[0]
        raise InputError(f"the {backend} backend cannot use the device {str(device)!r}: {reason}") from error
    return ops


def _fastest(device):
    if str(device) == "cpu" or (device is None and not _has_gpu()):
        return "numpy"
    otherwise = "numpy" if device is None else "torch"
    if device is not None and not str(device).startswith("cuda"):
        return otherwise
    try:
        from miniclip.kernels.device import untried, why_not
    except ImportError:  # Triton or torch is not installed
        return otherwise
    return "triton" if why_not(device or "cuda") is None and not untried() else otherwise


def _has_gpu():
    """Whether there is an NVIDIA GPU.

    NVIDIA's management library answers this: torch takes seconds to import, and after CUDA is initialised, a process
    cannot fork.
    """
    try:
        library = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
    except OSError:
        return False
    count = ctypes.c_uint(0)
    return library.nvmlInit_v2() == 0 and library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 and count.value > 0


def refuse(backend: str, **options: bool) -> None:
    """Raise InputError if an option of `capture` is wanted that another backend has, and not this one."""
    for name, wanted in options.items():
        if wanted:
            other = ONLY[name]
            raise InputError(f"{name} works on the {other} backend, not on {backend}: pass backend={other!r}")


def dtype_name(dtype: Any, ops: ModuleType) -> str:
    """The name of a dtype (NumPy's, torch's, or a name); InputError if the backend does not compute in it."""
    if dtype is None:
        return "float32"
    name = str(dtype).removeprefix("torch.")
    if isinstance(dtype, type):  # numpy.float32, float
        import numpy as np

        name = np.dtype(dtype).name
    if name not in ops.DTYPES:
        other = {"int8": "onnxruntime", "bfloat16": "torch", "float16": "torch", "float64": "torch"}.get(name)
        advice = f", or backend={other!r}" if other else ""
        raise InputError(
            f"the {ops.NAME} backend does not compute in {name}; choose one of {', '.join(ops.DTYPES)}{advice}"
        )
    return name
