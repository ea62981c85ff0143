"""What the kernels that ship are compiled to, in processes beside the tests: `Compiling.needed(job)` waits for them.

Triton compiles unless it interprets, and that is decided when it is imported: so it cannot be the tests' own process.

`python tests/compiled_kernels.py` records in kernels/ceilings.json how many registers every kernel takes now, a minute
for each target and Triton; with names of targets after it, only these. Look at what changed, `git diff tests`, before
you commit it: with more registers fewer programs may run at once.
"""

import collections
import importlib.metadata
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from miniclip.kernels.ladder import describe
from miniclip.kernels.table import FILES, KERNELS

CEILINGS = Path(__file__).with_name("kernels") / "ceilings.json"
OLDER = (
    Path(__file__).parents[1] / ".venv" / "older-triton"
)  # where `make test` installs it; the Makefile has its version
TRITONS = {  # {the two numbers of a version: the folder that it is in, None for the installed one}
    importlib.metadata.version("triton").rpartition(".")[0]: None,
    **{found.version.rpartition(".")[0]: OLDER for found in importlib.metadata.distributions(path=[str(OLDER)])},
}


class Job(NamedTuple):
    """What one process compiles: for some targets, with one Triton, all kernels or `only` some."""

    triton: str
    targets: tuple
    only: tuple | None = None

    def __str__(self):
        return " ".join([f"Triton {self.triton}:", *map(str, self.targets), *(["some"] if self.only else [])])


def environment(triton=None):
    """The environment of a process that compiles."""
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if triton and TRITONS[triton]:
        places = [str(TRITONS[triton]), *variables.get("PYTHONPATH", "").split(os.pathsep)]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return variables


INSTALLED, *OLDERS = TRITONS
MAIN, OTHERS = (80, 90, 100), (86, 89, 103, 120, "gfx942", "gfx950", "gfx1201")
SHIPPED = [describe(name, x) for name, kernel in KERNELS.items() for x in (*kernel.clip, *kernel.compiled)]
CHOSEN = tuple(  # the first shape of each file's first kernel
    describe(name, kernel.clip[0]) for name, kernel in (next(iter(file.KERNELS.items())) for file in FILES)
)
# All kernels for the main targets, with the installed Triton; of the rest some. And what is compiled less often: all.
QUICK = [*(Job(INSTALLED, (target,)) for target in MAIN), Job(INSTALLED, OTHERS, CHOSEN)]
QUICK += [Job(triton, MAIN, CHOSEN) for triton in OLDERS]
SLOW = [Job(INSTALLED, (target,)) for target in OTHERS] + [
    Job(triton, (target,)) for triton in OLDERS for target in MAIN
]


class Compiling:
    """Jobs in two processes at a time; results are {(target, what, dtype): [kernels]}."""

    def __init__(self):
        self.pool, self.futures, self.running = ThreadPoolExecutor(2), {}, set()

    def begin(self, job):
        """Compile in the background."""
        if job not in self.futures:
            self.futures[job] = self.pool.submit(self._run, job)
        return self.futures[job]

    def needed(self, job):
        """The result of a job; it is begun now if it is not under way."""
        return self.begin(job).result()

    def stop(self):
        """Drop what has not begun, and end what is running."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in self.running:
            process.kill()

    def _run(self, job):
        command = [sys.executable, "-m", "miniclip.kernels.offline", *map(str, job.targets)]
        command += ["--only", *job.only] if job.only else []
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(job.triton)
        )
        self.running.add(process)
        out, errors = process.communicate()
        self.running.discard(process)
        assert process.returncode == 0, errors
        kernels = collections.defaultdict(list)
        for kernel in map(json.loads, out.splitlines()):
            kernels[kernel["capability"], kernel["what"], kernel["dtype"]].append(kernel)
        return kernels


def registers(kernels, target, what):
    """The registers that a kernel takes, as ceilings.json has them: in 16 bit types, and in float32."""

    def most(*dtypes):
        return max(-(-kernel["registers"] // 8) * 8 for dtype in dtypes for kernel in kernels[target, what, dtype])

    return [most("float16", "bfloat16"), most("float32")]


def main():
    compiling, tables = Compiling(), json.loads(CEILINGS.read_text())
    jobs = [job for job in QUICK + SLOW if not sys.argv[1:] or {str(x) for x in job.targets} <= {*sys.argv[1:]}]
    for job in jobs:
        compiling.begin(job)
    for job in jobs:
        kernels = compiling.needed(job)
        table = tables.setdefault(job.triton, {})
        for target, what, _ in kernels:
            table.setdefault(what, {})[str(target)] = registers(kernels, target, what)
        tables[job.triton] = {what: table[what] for what in SHIPPED if what in table}
        write(tables)
        print(job, flush=True)


def write(tables):
    """A line for each kernel: a diff shows what changes."""
    texts = [
        f'"{triton}": {{\n' + ",\n".join(f" {json.dumps(what)}: {json.dumps(entry)}" for what, entry in table.items())
        for triton, table in tables.items()
    ]
    CEILINGS.write_text("{" + "\n},\n".join(texts) + "\n}}\n")


if __name__ == "__main__":
    main()
