"""What `miniclip doctor` finds out about a machine."""

import importlib.metadata
import platform
import shutil
import subprocess

from miniclip import weights
from miniclip.errors import InputError
from miniclip.fetch import hub, vocabulary
from miniclip.runtime import caches, cpu

PACKAGES = ("miniclip", "numpy", "pillow", "regex", "safetensors", "ftfy", "torch", "triton", "jax", "transformers")


def report():
    """{what: finding}, everything as text."""
    return {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "blas": _blas(),
        "cpus": f"{cpu.cores()}",
        "gpu": _gpu(),
        "kernels": _kernels(),
        "models": _models(),
        "cache": f"{caches.cache_directory()}{'' if caches.cache_directory().is_dir() else ' (not there yet)'}",
        "vocabulary": _vocabulary(),
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _blas():
    found = "; ".join(
        f"{library['internal_api']} {library['version']}, kernel {library.get('architecture', 'unknown')}, "
        f"{library['num_threads']} threads"
        for library in cpu.blas()
    )
    if cpu.slow_kernel():
        found += (
            f"; this kernel leaves AVX-512 unused: set {cpu.CORETYPE}={cpu.AVX512} before Python "
            f"starts, and matrix products take half the time"
        )
    return found or "unknown to threadpoolctl"


def _gpu():
    if shutil.which("nvidia-smi") is None:
        return "none (there is no nvidia-smi)"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return "; ".join(
            subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi fails: {error}"


def _kernels():
    try:
        from miniclip.kernels.device import INTERPRETING, why_not
    except ImportError as error:
        return f'not without {error.name}, which the extra "gpu" installs'
    here = "run here, slowly, in Triton's interpreter" if INTERPRETING else "run here"
    return why_not() or f"{here}: backend='triton'"


def _models():
    found = {name: hub.find_model(name) for name in weights.manifest()["models"]}
    here = ", ".join(f"{name} in {path.parent}" for name, path in found.items() if path)
    return f"{here}; fetched when first needed: {', '.join(name for name, path in found.items() if not path)}"


def _vocabulary():
    try:
        return str(vocabulary.find() or "not on this machine; fetched when it is first needed")
    except InputError as error:
        return str(error)
