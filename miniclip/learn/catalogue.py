"""The exercises, read from exercises.toml."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from miniclip.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TRACKS = ("numpy", "triton")


@dataclass(frozen=True)
class Mutant:
    """A common mistake: a function that makes it "behaves as if ...". `mistakes` explains the other fields."""

    as_if: str
    edits: tuple[tuple[str, str], ...] = ()
    instead: str = ""


@dataclass(frozen=True)
class Exercise:
    """A function to write. `target` is where the reference is, `needs` are the exercises to do first."""

    id: str
    title: str
    track: str
    target: str
    points: int
    minutes: int
    tutorial: str
    hints: tuple[str, str, str]
    mutants: tuple[Mutant, ...]
    needs: tuple[str, ...] = ()
    file: str = ""  # the exercise whose file it continues; empty: it has its own
    imports: tuple[str, ...] = ()  # of the target's module, beyond what the reference itself uses
    plain: str = ""  # a body that is edited instead of the reference's
    note: str = ""  # a comment above the function
    about: dict[str, int] = field(default_factory=dict, compare=False)  # law -> the hint that it needs first, 1 to 3

    @property
    def module(self):
        """The name of the module that has the target."""
        return self.target.partition(":")[0]

    @property
    def function(self):
        """The target's name in its module, "function" or "class.method"."""
        return self.target.partition(":")[2]

    @property
    def name(self):
        """The same without a class: what a student's function is called."""
        return self.function.rpartition(".")[2]

    def path(self, directory):
        """The file that the student writes."""
        return Path(directory) / f"{self.file or self.id}.py"


def exercises():
    """All exercises, in order."""
    with open(Path(__file__).parent / "exercises.toml", "rb") as file:
        entries = tomllib.load(file)["exercise"]
    return [_exercise(**entry) for entry in entries]


def _exercise(mutants, hints, needs=(), imports=(), **fields):
    mutants = tuple(Mutant(**{**m, "edits": tuple(map(tuple, m.get("edits", [])))}) for m in mutants)
    return Exercise(mutants=mutants, hints=tuple(hints), needs=tuple(needs), imports=tuple(imports), **fields)


def choose(ids=None, tracks=TRACKS):
    """The exercises with the given ids, else of the given tracks, in order. Raises InputError for an unknown id."""
    everything = exercises()
    if not ids:
        return [exercise for exercise in everything if exercise.track in tracks]
    unknown = set(ids) - {exercise.id for exercise in everything}
    if unknown:
        names = ", ".join(exercise.id for exercise in everything)
        raise InputError(f"there is no exercise {', '.join(sorted(unknown))}; choose among {names}")
    return [exercise for exercise in everything if exercise.id in ids]
