"""What a student's file is worth: it runs in a process of its own (`python -m miniclip.learn.grading`).

So whatever it does, the grader goes on. What is found out in there stands in `holding`.
"""

import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import miniclip
from miniclip.errors import InputError
from miniclip.learn import catalogue, skeletons
from miniclip.learn.holding import Unusable, Verdict, behaves_as, hold, told

LIMIT = 300  # seconds that an exercise may take: only what hangs takes more than a few
HOME = Path(miniclip.__file__).parents[1]  # where `import miniclip` finds this very library
PRINTED = 10  # last lines of what a student's file prints that are told


@dataclass
class Result:
    """What became of an exercise. `state` is "done", "partial" or "to do"; `behaves_as` the mistake it looks like."""

    id: str
    state: str
    verdicts: list[Verdict] = field(default_factory=list)
    behaves_as: str | None = None
    printed: str = ""

    @property
    def passed(self):
        """How many laws hold."""
        return sum(verdict.passed for verdict in self.verdicts)

    @property
    def was_held(self):
        """Whether there was a function that could be held to its laws; else the one verdict says what there was."""
        return self.verdicts[0].law not in NO_LAWS


NO_LAWS = ("file", "begun", "loads", "runs")  # what has to be true before there is something to hold to laws


def why_not(exercise):
    """What is missing for an exercise to be checked here, and how to get it; None where nothing is."""
    if exercise.track == "triton" and not all(map(importlib.util.find_spec, ("torch", "triton"))):
        return f"{exercise.id} needs torch and triton: in the checkout, pip install -c constraints.txt -e '.[gpu]'"


def grade(exercise, directory, seed=0, limit=LIMIT):
    """Hold what a student's directory has of an exercise to its laws -> Result. `seed` draws other inputs.

    Raises InputError where `why_not` has something to say, and for a file that cannot be read.
    """
    path = exercise.path(directory)
    if not path.is_file():
        return Result(
            exercise.id, "to do", [Verdict("file", f"there is a file {path.name}", False, f"{path} is missing")]
        )
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if source == skeletons.skeleton(exercise).encode():
        return Result(
            exercise.id, "to do", [Verdict("begun", f"{path.name} has been begun", False, f"{path} is as it was")]
        )
    if reason := why_not(exercise):
        raise InputError(reason)
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # read when Triton is imported
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as temporary:  # where nothing lies that could be imported by mistake
        out = Path(temporary) / "result.json"
        command = [sys.executable, "-m", "miniclip.learn.grading", exercise.id, path.resolve(), str(seed), out]
        code, printed = _run(command, temporary, environment, limit)
        if out.is_file():
            found = json.loads(out.read_text(encoding="utf-8"))
            found["verdicts"] = [Verdict(**verdict) for verdict in found["verdicts"]]
            return Result(**found, printed=printed)
    why = f"was still running after {limit} seconds" if code is None else f"ended Python, with code {code}"
    return Result(exercise.id, "partial", [Verdict("runs", "it comes to an end", False, why)], printed=printed)


def _run(command, directory, environment, limit):
    """Run a command, and end whatever it has started -> (exit code, None after `limit` seconds; its last lines)."""
    path = Path(directory) / "printed"
    with open(path, "wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, cwd=directory,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            process.wait()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return code, "\n".join(["..."] * (len(lines) > PRINTED) + lines[-PRINTED:])


def load(path, name):
    """The function `name` of a student's file. Raises Unusable where there is none, and whatever the file raises."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    written = getattr(function, "fn", function)  # what a kernel of Triton's was written as
    if not callable(written):
        raise Unusable(f"{Path(path).name} has no function {name}")
    if written.__module__ != module.__name__:
        raise Unusable(f"{name} is not written in {Path(path).name}, but comes from {written.__module__}")
    return function


def _returning(function):
    """The same function, but that it must return something."""

    @functools.wraps(function)
    def checked(*arguments, **options):
        out = function(*arguments, **options)
        if out is None:
            raise Unusable("returns None: is a `return` missing?")
        return out

    return checked


def _grade_here(exercise, path, seed):
    """`grade`, in the process that is there for it."""
    try:
        function = load(path, exercise.name)
    except (Exception, SystemExit) as error:
        return Result(exercise.id, "partial", [Verdict("loads", "there is a function", False, told(error, path))])
    function = _returning(function) if exercise.track == "numpy" else function
    verdicts, values = hold(exercise, function, seed, path)
    if all(verdict.passed for verdict in verdicts):
        return Result(exercise.id, "done", verdicts)
    if all("NotImplementedError" in verdict.message for verdict in verdicts):
        return Result(exercise.id, "to do", verdicts)
    return Result(exercise.id, "partial", verdicts, behaves_as(exercise, verdicts, values, seed))


if __name__ == "__main__":
    id, path, seed, out = sys.argv[1:]
    (exercise,) = catalogue.choose([id])
    found = asdict(_grade_here(exercise, path, int(seed)))
    del found["printed"]
    Path(out).write_text(json.dumps(found), encoding="utf-8")
