"""What a training writes down while it runs: a line of JSON for each step, and TensorBoard's files."""

import contextlib
import json
from pathlib import Path

from miniclip.errors import InputError
from miniclip.runtime.files import write_atomically

START = b'{"step": '  # of each line


def curve_of(path):
    """The file with the metrics of the training that writes, or has written, `path`."""
    return Path(f"{path}.jsonl")


def check_curve(path):
    """Raise InputError if the place of the curve has a file that is none, such as the table of the data."""
    curve = curve_of(path)
    try:
        with curve.open("rb") as file:
            ours = file.read(len(START)) in (START, b"")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{curve}: cannot be written: {error.strerror}") from error
    if not ours:
        raise InputError(f"{curve}: is not the curve of a training, which would replace it: write to another path")


class Metrics:
    """Appends {"step": ..., "loss": ..., ...} to the curve of a training after each step, at once.

    path         of the model that is trained, None: nothing is written
    done         finished steps: what the file has of later ones, from a training that was killed, is cut off
    tensorboard  a folder for TensorBoard's files, None: without them; InputError if TensorBoard is not installed
    """

    def __init__(self, path, done=0, tensorboard=None):
        self.file = self.writer = None
        if path is None:
            return
        self.writer = _tensorboard(tensorboard) if tensorboard else None
        kept = [json.dumps(line) for line in read(curve_of(path)) if line["step"] <= done] if done else []
        write_atomically(curve_of(path), "".join(f"{line}\n" for line in kept).encode())
        self.file = curve_of(path).open("a", encoding="utf-8")

    def __call__(self, step, **numbers):
        if self.file is None:
            return
        try:
            self.file.write(json.dumps({"step": step, **numbers}) + "\n")
            self.file.flush()
        except OSError as error:
            raise InputError(f"{self.file.name}: cannot be written: {error.strerror}") from error
        if self.writer:
            for name, x in numbers.items():
                self.writer.add_scalar(name, x, step)

    def close(self):
        if self.file:
            with contextlib.suppress(OSError):  # what could not be written was an error already
                self.file.close()
        if self.writer:
            self.writer.close()


def read(path):
    """The lines of a curve, a list of dicts; without the last one if a killed training left half of it."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _tensorboard(folder):
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise InputError("writing for TensorBoard needs its package: pip install tensorboard") from error
    return Writer(str(folder))
