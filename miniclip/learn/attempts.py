"""Keeps what a student has tried so far, in the directory of the exercises, so that hints come one at a time.

A file counts as a new attempt if it has changed since the last one. Each attempt that fails gets a hint, unless the
grader knows the mistake by name. Hints follow the first law that fails: it has a hint that comes first, then come the
others, and after the last it says where the reference is. A check that something else ended counts for nothing.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType

from miniclip.errors import InputError
from miniclip.learn import skeletons
from miniclip.runtime.files import open_regular, write_atomically

FILE = ".progress.json"


@dataclass
class Entry:
    """What the last check found, how many hints each law has given, and a digest of the file at that time."""

    state: str = "to do"
    passed: int = 0
    laws: int = 0
    points: int = 0
    hints: dict[str, int] = field(default_factory=dict)
    digest: str | None = None

    def __post_init__(self):
        if type(self.hints) is int:  # of all laws together, as older versions counted: count again
            self.hints = {}


def _is_entry(entry):
    """Whether the values of an Entry that was read are of the right types."""
    counts = (entry.passed, entry.laws, entry.points)
    return (
        type(entry.state) is str
        and isinstance(entry.digest, (str, NoneType))
        and all(type(n) is int and n >= 0 for n in counts)
        and all(type(n) is int and n > 0 for n in entry.hints.values())
    )


class Attempts:
    """{exercise id: Entry} of a directory that exists."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.path = self.directory / FILE
        try:
            found = json.loads(self._read()) if self.path.exists() else {}
            self.entries = {id: Entry(**entry) for id, entry in found.items()}
            if not all(map(_is_entry, self.entries.values())):
                raise ValueError("an entry has a value of another type")
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{self.path}: cannot be read; delete it to start counting again: {error}") from error

    def _read(self):
        with open_regular(self.path) as file:
            return file.read()

    def note(self, exercise, result):
        """Record a result."""
        if result.outside:
            return
        before, digest, law = self._entry(exercise), result.sha256, result.first_failing
        hints = dict(before.hints)
        if result.state == "partial" and result.was_held and not result.behaves_as:
            hints[law] = hints.get(law, 0) + (digest != before.digest or law not in hints)
        laws = len(result.verdicts)
        self.entries[exercise.id] = Entry(result.state, result.passed, laws, result.points(exercise), hints, digest)

    def save(self):
        """Write the file."""
        found = {id: asdict(entry) for id, entry in self.entries.items()}
        write_atomically(self.path, json.dumps(found, indent=1).encode())

    def _entry(self, exercise):
        return self.entries.get(exercise.id, Entry())

    def state(self, exercise):
        """ "done", "partial" or "to do": what the last check found."""
        return self._entry(exercise).state

    def is_unchanged(self, exercise):
        """Whether the file is still as it was at the last check."""
        return exercise.id in self.entries and self._entry(exercise).digest == self._digest(exercise)

    def hint(self, exercise, law):
        """The next hint for a law that fails, or after the last one where the reference is."""
        number, first = self._entry(exercise).hints[law], exercise.hints[exercise.about[law] - 1]
        hints = [first, *(hint for hint in exercise.hints if hint != first)]
        if number <= len(hints):
            return f"Hint {number} of {len(hints)}: {hints[number - 1]}"
        path, line = skeletons.line_of(exercise)
        return f"The reference is in {path}, line {line}."

    def table(self, exercises):
        """The progress table: one line for each exercise, and the points."""
        width = max(len(exercise.id) for exercise in exercises)
        laid_out = {exercise.id for exercise in exercises}
        after = next((e for e in exercises if self._is_open(e, laid_out)), None)
        lines = [f"{'exercise':<{width}}  points  state"]
        for exercise in exercises:
            entry = self._entry(exercise)
            state = entry.state
            if state != "to do" and not self.is_unchanged(exercise):
                state += " at the last check, but the file has changed since"
            elif state == "partial":
                state += f": {entry.passed} of {entry.laws} laws hold"
            elif exercise is after:
                state = "next"
            lines.append(f"{exercise.id:<{width}}  {exercise.points:>6}  {state}")
        points = sum(self._entry(exercise).points for exercise in exercises)
        lines.append(f"{'':<{width}}  {points:>6}  of {sum(exercise.points for exercise in exercises)}")
        return "\n".join(lines)

    def _is_open(self, exercise, laid_out):
        needs = laid_out.intersection(exercise.needs)
        done = {id for id, entry in self.entries.items() if entry.state == "done"}
        return exercise.id not in done and needs <= done

    def _digest(self, exercise):
        path = exercise.path(self.directory)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
