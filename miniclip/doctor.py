"""The report of `miniclip doctor`: what this machine has for miniclip."""

import importlib.metadata
import os
import platform
import shutil
import subprocess

from miniclip import weights
from miniclip.bench import machine, records, report_cpu
from miniclip.errors import InputError
from miniclip.fetch import hub, vocabulary
from miniclip.runtime import caches, cpu
from miniclip.runtime.installation import install

PACKAGES = ("miniclip", "numpy", "pillow", "regex", "safetensors", "ftfy", "torch", "triton", "jax", "transformers")
PACKAGES += ("tensorflow", "onnx", "onnxruntime", "openvino")
MEASURED = "encode_image ViT-B/32"  # in float32: the rows of `miniclip bench cpu` that say which backend is fast


def report():
    """{topic: finding}, all as text."""
    return {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "blas": _blas(),
        "cpus": f"{cpu.cores()}",
        "gpu": _gpu(),
        "kernels": _kernels(),
        "backends": backends(),
        "models": _models(),
        "cache": f"{caches.cache_directory()}{'' if caches.cache_directory().is_dir() else ' (does not exist yet)'}",
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
    chosen = os.environ.get(cpu.CORETYPE)
    if chosen and machine.facts()["overlooks"]:
        found += f"; ${cpu.CORETYPE} chose it, but it does not use AVX-512: unset it, then products take half the time"
    if cpu.slow_kernel():
        found += (
            f"; this kernel does not use AVX-512: set {cpu.CORETYPE}={cpu.AVX512} before Python "
            f"starts, then matrix products take half the time"
        )
    return found or "unknown to threadpoolctl"


def _gpu():
    if shutil.which("nvidia-smi") is None:
        return "none (nvidia-smi is not installed)"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return "; ".join(
            subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown, nvidia-smi fails: {error}"


def _kernels():
    try:
        from miniclip.kernels.device import INTERPRETING, untried, why_not
    except ImportError as error:
        return f'do not run: {error.name} is not installed, the extra "gpu" installs it'
    here = "run here, slowly, in Triton's interpreter" if INTERPRETING else "run here"
    here = "compile for this GPU, of a kind that nobody has run them on" if untried() else here
    return why_not() or f"{here}: backend='triton'"


def backends(*directories):
    """How fast other backends encode pictures on this processor, beside NumPy, as far as that has been measured.

    directories  of records; none: miniclip's own, and this machine's
    """
    directories = directories or (report_cpu.RESULTS, records.own(report_cpu.RESULTS))
    rows = [r for r in records.read(*directories, missing_ok=True) if _tells(r)]
    here = [r for r in rows if records.kind(r) == records.kind(machine.facts())]
    found = {}  # the newest last
    for r in sorted(here or rows, key=lambda r: r["date"]):
        others = [f"{name.partition(' on ')[2]} {_speed(r, name):.2f}x" for name in _others(r)]
        found[r["shape"]["B"]] = f"{r['shape']['B']} at a time: {', '.join(others)}"
    if not found:
        return "nothing has been measured: run miniclip bench cpu --only encode_image"
    last = max(here or rows, key=lambda r: r["date"])
    where = "on a processor of this kind" if here else f"on {last['device']}"
    missing = [name for name in ("onnxruntime", "openvino") if _version(name) == "not installed"]
    advice = "".join(f"; {name} is not installed: {install(name)}" for name in missing)
    measured = f"{'; '.join(found[B] for B in sorted(found))} ({last['date']}, {where})"
    advice += "; miniclip bench cpu --only encode_image measures this machine"
    return f"beside NumPy (1.00x), ViT-B/32 in float32, pictures {measured}{advice}"


def _tells(record):
    return record["name"] == MEASURED and record["dtype"] == "float32" and bool(_others(record))


def _others(record):
    """The other backends of a record with a time, the fastest first; none if NumPy has no time."""
    times = record["times"] if records.OURS in record["times"] else {}
    return sorted((name for name in times if records.is_ours(name) and name != records.OURS), key=times.get)


def _speed(record, name):
    return record["times"][records.OURS] / record["times"][name]


def _models():
    found = {name: hub.find_model(name) for name in weights.manifest()["models"]}
    here = ", ".join(f"{name} in {path.parent}" for name, path in found.items() if path)
    return f"{here}; downloaded when first used: {', '.join(name for name, path in found.items() if not path)}"


def _vocabulary():
    try:
        return str(vocabulary.find() or "not on this machine; downloaded when first used")
    except InputError as error:
        return str(error)
