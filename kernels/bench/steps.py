"""`make gpu`: everything that is to be known from a GPU, in steps. The most important come first, and each has a limit.

A step that fails or takes too long does not stop the others. After each step its results are copied to the directory
$OUT, if there is one: a borrowed machine keeps nothing. `make gpu-rehearsal` runs the same steps without a GPU.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
RESULTS = ("kernels/bench/results/*.jsonl", "kernels/README.md")
ENVIRONMENT = {
    "MINICLIP_WITHOUT": "jax,tensorflow",  # see tests/backends.py
    "JAX_PLATFORMS": "cpu",  # what imports it all the same leaves the GPU's memory alone
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "HF_HUB_OFFLINE": "1",  # a machine without a network must not wait for one
    "PYTHONUNBUFFERED": "1",
}
CHECK = (
    "import sys, hypothesis, pytest; from miniclip.kernels.device import why_not; reason = why_not(); "
    "import torch; sys.exit(reason or print(torch.cuda.get_device_name(), torch.__version__))"
)
KERNELS = [
    "kernels",
    "attention",
    "memory",
    "graphs",
    "float8",
    "packed",
    "top_k",
    "device",
    "registered",
    "first_steps",
]
KERNELS = [f"tests/kernels/test_{name}.py" for name in KERNELS]
OPERATIONS = [f"tests/ops/test_{name}.py" for name in ("ops", "shared_space", "ops_convolutions", "backends")]


class Step(NamedTuple):
    name: str
    seconds: int  # after which it is ended
    command: list  # the arguments of Python


def tests(name, seconds, files):
    """A step of tests. They begin no test in the last seconds, so that they end with a summary."""
    many = ["-n", str(min(8, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []
    options = [
        "-q",
        "-rs",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
        "-k",
        "not jax and not tensorflow",
        f"--junitxml={{out}}/{name}.xml",
    ]
    return Step(name, seconds, ["-m", "pytest", *many, *options, *files])


STEPS = [
    Step("check", 20, ["-c", CHECK]),
    Step("compile", 40, ["-m", "miniclip.kernels.bench.compile_all"]),
    tests("tests-of-kernels", 90, KERNELS),
    Step("kernels", 115, ["-m", "miniclip", "bench", "kernels", "--seconds", "95"]),
    Step("models", 100, ["-m", "miniclip", "bench", "models", "--seconds", "80"]),
    Step("versions", 45, ["-m", "miniclip", "bench", "kernels", "--ladder", "--seconds", "25"]),
    Step("report", 15, ["-m", "miniclip", "bench", "report", "--write"]),
    tests("tests-of-operations", 30, OPERATIONS),
    Step("counters", 25, ["-m", "miniclip.kernels.bench.counters"]),
]
SUMMARY = 10  # seconds that tests have to end, once no test is begun


def run(steps, environment, out=None, python=sys.executable, limited=True):
    """Run the steps and print how long each took beside its limit: -> the names of those that failed.

    Results are copied to `out` after each. With limited=False no step is ended.
    """
    log = Path(out, "steps.log") if out else None
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
        log.write_text("")
    took, failed = {}, []
    for step in steps:
        start = time.monotonic()
        code = _run(step, environment, out, python, limited, lambda line: _show(line, log))
        took[step.name] = time.monotonic() - start
        if code:
            failed.append(step.name)
        copy_out(out)
        _show(f"== {step.name}: {took[step.name]:.0f} of {step.seconds} s{f', FAILED ({code})' if code else ''}\n", log)
    lines = [f"{name:<24}{took[name]:6.0f} s{'  FAILED' if name in failed else ''}" for name in took]
    total = f"{sum(took.values()):.0f} s of {sum(step.seconds for step in steps)} s"
    _show("\n".join(["", *lines, f"all together: {total}", ""]), log)
    return failed


def _show(text, log):
    sys.stdout.write(text)
    sys.stdout.flush()
    if log:
        with log.open("a") as file:
            file.write(text)


def _run(step, environment, out, python, limited, show):
    """The exit code of a step; 124 if it was ended because its time was over."""
    show(f"== {step.name}: {' '.join(step.command)[:120]}\n")
    command = [argument.format(out=out or ".") if "{out}" in argument else argument for argument in step.command]
    command = [part for part in command if out or not part.startswith("--junitxml=")]
    if limited:
        environment = {**environment, "MINICLIP_TESTS_END": str(time.time() + step.seconds - SUMMARY)}
    process = subprocess.Popen(
        [python, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    late = threading.Event()

    def end():
        late.set()
        _kill(process)

    timer = threading.Timer(step.seconds, end)
    if limited:
        timer.start()
    try:
        with process.stdout:
            for line in process.stdout:
                show(line)
        code = process.wait()
    finally:
        timer.cancel()
        _kill(process)  # and what it has started
    return 124 if late.is_set() else code


def _kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def copy_out(out):
    """Copy the records and the page of results to the directory `out`."""
    for pattern in RESULTS if out else ():
        for path in ROOT.glob(pattern):
            shutil.copy(path, out)


def main():
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    failed = run(STEPS, {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}, os.environ.get("OUT"))
    sys.exit(f"failed: {', '.join(failed)}" if failed else None)


if __name__ == "__main__":
    main()
