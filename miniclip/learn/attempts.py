"""What a student has tried so far: kept in the directory of the exercises, so that hints come one at a time.

A file counts as a new attempt when it has changed since the last one. The first attempts that fail get a hint each, and
those after them are told where the reference stands.
"""

import hashlib
import json
from pathlib import Path

from miniclip.errors import InputError
from miniclip.files import write_atomically
from miniclip.learn import skeletons

FILE = ".progress.json"


class Attempts:
    """{exercise id: {"state", "passed", "laws", "attempts", "digest"}} of a directory."""

    def __init__(self, directory):
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise InputError(f"{directory}: no such directory; `miniclip learn start {directory}` makes it")
        self.path = self.directory / FILE
        try:
            self.entries = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be read; delete it to count from nothing: {error}") from error

    def note(self, exercise, result):
        """Take a result in, and write the file."""
        digest = self._digest(exercise)
        entry = self.entries.get(exercise.id, {"attempts": 0, "digest": None})
        failed = result.state == "partial" and (digest != entry["digest"] or not entry["attempts"])
        self.entries[exercise.id] = {
            "state": result.state,
            "passed": result.passed,
            "laws": len(result.verdicts),
            "attempts": entry["attempts"] + failed,
            "digest": digest,
        }
        write_atomically(self.path, json.dumps(self.entries, indent=1).encode())

    def state(self, exercise):
        """ "done", "partial" or "to do": what the last check found."""
        return self.entries.get(exercise.id, {}).get("state", "to do")

    def is_unchanged(self, exercise):
        """Whether the file is the one that was last checked."""
        return exercise.id in self.entries and self.entries[exercise.id]["digest"] == self._digest(exercise)

    def hint(self, exercise):
        """What to tell after so many attempts that failed: a hint, then the next one, then the reference."""
        attempts = self.entries[exercise.id]["attempts"]
        if attempts <= len(exercise.hints):
            return f"Hint {attempts} of {len(exercise.hints)}: {exercise.hints[attempts - 1]}"
        path, line = skeletons.line_of(exercise)
        return f"The reference has it in {path}, line {line}."

    def table(self, exercises):
        """The progress table: a line an exercise, and the points."""
        width = max(len(exercise.id) for exercise in exercises)
        laid_out = {exercise.id for exercise in exercises}
        after = next((e for e in exercises if self._is_next(e, laid_out)), None)
        lines = [f"{'exercise':<{width}}  points  state"]
        for exercise in exercises:
            state = self.state(exercise)
            if state == "partial":
                entry = self.entries[exercise.id]
                state += f": {entry['passed']} of {entry['laws']} laws hold"
            elif exercise is after:
                state = "next"
            lines.append(f"{exercise.id:<{width}}  {exercise.points:>6}  {state}")
        points = sum(exercise.points for exercise in exercises if self.state(exercise) == "done")
        lines.append(f"{'':<{width}}  {points:>6}  of {sum(exercise.points for exercise in exercises)}")
        return "\n".join(lines)

    def _is_next(self, exercise, laid_out):
        needs = laid_out.intersection(exercise.needs)
        return self.state(exercise) == "to do" and all(self.entries.get(id, {}).get("state") == "done" for id in needs)

    def _digest(self, exercise):
        path = exercise.path(self.directory)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
