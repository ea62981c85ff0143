"""Grades a student's file: the laws run here, the student's function in a process of its own (`remote`).

So the grader continues, whatever the file does, and no code in it sees the expected values or writes a verdict.
"""

import dataclasses
import functools
import hashlib
import importlib.util
from dataclasses import dataclass, field

from miniclip.errors import InputError
from miniclip.learn import laws, remote, skeletons
from miniclip.learn.holding import Verdict, behaves_as, hold_called
from miniclip.runtime.files import open_regular
from miniclip.runtime.installation import install

SOURCE = 1 << 20  # bytes that a file may have


@dataclass
class Result:
    """The result of an exercise. `state` is "done", "partial" or "to do"; `behaves_as` is the mistake it looks like."""

    id: str
    state: str
    verdicts: list[Verdict] = field(default_factory=list)
    behaves_as: str | None = None
    printed: str = ""
    sha256: str | None = None  # of the file that was checked
    outside: bool = False  # whether something else ended the check, so that it says nothing about the file

    @property
    def passed(self):
        """How many laws hold."""
        return sum(verdict.passed for verdict in self.verdicts)

    def points(self, exercise):
        """The exercise's points if it is done, one less if only `extra` laws fail, else none."""
        if self.state == "done":
            return exercise.points
        only_extras = self.was_held and all(verdict.passed or verdict.extra for verdict in self.verdicts)
        return exercise.points - 1 if only_extras else 0

    @property
    def first_failing(self):
        """The name of the first law that fails, None if all hold."""
        return next((verdict.law for verdict in self.verdicts if not verdict.passed), None)

    @property
    def was_held(self):
        """Whether there was a function to check; if not, the one verdict says why."""
        return self.verdicts[0].law not in NO_LAWS


NO_LAWS = ("file", "begun", "loads", "runs")  # what must be true before there is a function to check


def why_not(exercise):
    """What is missing to check an exercise here, and how to get it; None if nothing is missing."""
    if exercise.track == "triton" and not all(map(importlib.util.find_spec, ("torch", "triton"))):
        return f"{exercise.id} needs torch and triton: {install('gpu')}"


def grade(exercise, directory, seed=0, limits=None):
    """Check an exercise in a student's directory against its laws -> Result. `seed` draws other inputs.

    `limits` are those of `remote.LIMITS` that are to be others.

    Raises InputError if something is missing (`why_not`), and for a file that cannot be read.
    """
    path, done = exercise.path(directory), functools.partial(Result, exercise.id)
    if not path.is_file():
        return done("to do", [Verdict("file", f"there is a file {path.name}", False, f"{path} is missing")])
    try:
        with open_regular(path) as file:
            source = file.read(SOURCE + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    digest = hashlib.sha256(source).hexdigest()
    if len(source) > SOURCE:
        why = f"{path.name} has more than {SOURCE >> 20} MiB"
        return done("partial", [Verdict("loads", "there is a function", False, why)])
    if source == skeletons.skeleton(exercise).encode():
        untouched = Verdict("begun", f"{path.name} has been begun", False, f"{path} is as it was")
        return done("to do", [untouched], sha256=digest)
    if reason := why_not(exercise):
        raise InputError(reason)
    result = _check(exercise, path, source, seed, limits)
    if result.outside:  # once more: the machine may have been short of memory
        result = _check(exercise, path, source, seed, limits)
    return dataclasses.replace(result, sha256=digest)


def _check(exercise, path, source, seed, limits):
    done = functools.partial(Result, exercise.id)
    with remote.Student(exercise, path.resolve(), source, {**remote.LIMITS, **(limits or {})}) as student:
        try:
            laws.of(exercise)  # imports them while the student's process begins
            why = student.load()
            verdicts, values = ([], []) if why is not None else hold_called(exercise, student, seed)
        except remote.Ended as error:
            ends = Verdict("runs", "it ends", False, str(error))
            result = done("partial", [ends], outside=error.outside)
        else:
            if why is not None:
                result = done("partial", [Verdict("loads", "there is a function", False, why)])
            elif all(verdict.passed for verdict in verdicts):
                result = done("done", verdicts)
            elif all("NotImplementedError" in verdict.message for verdict in verdicts):
                result = done("to do", verdicts)
            else:
                result = done("partial", verdicts, behaves_as(exercise, verdicts, values, seed))
    return dataclasses.replace(result, printed=student.printed)
