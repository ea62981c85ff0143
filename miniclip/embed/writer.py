"""Adds rows to an index, so that no row is lost or repeated, wherever a process is killed.

Each part is written whole or not at all. The last part is replaced by a longer one every few seconds: a killed process
loses only what it computed since. Parts are the same, however often a process was killed and resumed.
"""

import json
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from miniclip.embed.index import COLUMNS, FAILED, KEY, PART, ROWS, check_same, parts_of, pyarrow, rows_of
from miniclip.errors import InputError
from miniclip.runtime import files

SECONDS = 5.0  # between two writes of the last part
LOCK = ".lock"


@contextmanager
def writing(index, metadata):
    """Yield the Writer of an index: a new folder, or one whose rows are of the same kind, model and preprocessing.

    At the end, also after an error, what was added is written. Raises InputError if `metadata` (see `describe`) differ
    from those of the index, or if another process is writing to it.
    """
    index = Path(index)
    pyarrow()  # if it is missing, this says so before anything is computed
    with ExitStack() as stack:
        try:
            index.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(index / LOCK, wait=False))
        except BlockingIOError:
            raise InputError(f"{index}: another process is writing to it: wait until it has ended") from None
        except OSError as error:
            raise InputError(f"{index}: cannot be written: {error.strerror}") from error
        writer = Writer(index, metadata)
        try:
            yield writer
        finally:
            writer.close()


class Writer:
    """Adds rows to an index; `writing` makes it. `metadata` is what `index.describe` returns.

    One thread may call `add`, and another one `fail`: for a GPU, pictures are read in a thread of their own.
    """

    def __init__(self, index, metadata):
        self.index, self.metadata = index, metadata
        found = parts_of(index)
        if found:
            check_same(index, found[0].metadata, metadata)
        elif foreign := sorted(path.name for path in index.iterdir() if path.name[0] not in "._"):
            raise InputError(f"{index}: has files that are not of an index, such as {foreign[0]}: use a new folder")
        self.there = Counter(name for part in found for name in rows_of(part, features=False))
        self.failed, repaired = _read_failed(index / FAILED, self.there)  # {picture: error}, of all runs
        # the part that is being filled: its number, names and features; of these only the first len(names) are set
        self.number, self.names = len(found), []
        self.features = np.empty((ROWS, metadata["embed_dim"]), np.float16)
        if found and found[-1].rows < ROWS:
            self.number -= 1
            self.names, self.features[: found[-1].rows] = rows_of(found[-1])
        for name in (PART.format(self.number), PART.format(len(found)), FAILED):
            files.remove_incomplete(index / name)
        self.lock = threading.RLock()
        self.changed, self.unwritten = False, []  # whether there are new rows, and names that have failed
        # whether `FAILED` has other lines than `self.failed`: the file is replaced at the end, and now if a killed
        # process has left half a line, or pictures that are in the index
        self.failed_changed = repaired
        if repaired:
            self._write_failed()
        self.written = time.monotonic()

    @property
    def rows(self):
        """The number of rows in the index, with those that are not written yet."""
        return self.number * ROWS + len(self.names)

    def left(self, names, fail):
        """Yield those of the names that are not in the index yet: a picture once, a text as often as it is given.

        fail(name, error) is called for names that Parquet cannot hold.
        """
        once = self.metadata["kind"] == "pictures"
        for name in names:
            if self.there[name]:
                if not once:
                    self.there[name] -= 1
            elif not _is_unicode(name):
                advice = "its name is not Unicode text: rename it" if once else "is not Unicode text"
                fail(name, InputError(f"{name!r}: {advice}"))
            else:
                if once:
                    self.there[name] = 1
                yield name

    def add(self, names, features):
        """Add n rows: names, a list of n, and features (n, E) of length one."""
        with self.lock:
            while names:
                start, room = len(self.names), ROWS - len(self.names)
                some, names = names[:room], names[room:]
                self.features[start : start + len(some)], features = features[: len(some)], features[room:]
                self.names, self.changed = self.names + some, True
                for name in some:
                    self.failed_changed |= self.failed.pop(name, None) is not None
                if len(self.names) == ROWS:
                    self._write_part()
                    self.number, self.names, self.changed = self.number + 1, [], False
            self._flush_in_time()

    def fail(self, name, error):
        """Note that a picture cannot be read."""
        with self.lock:
            self.failed_changed |= name in self.failed
            self.failed[name] = str(error)
            self.unwritten.append(name)
            self._flush_in_time()

    def _flush_in_time(self):
        if time.monotonic() > self.written + SECONDS:
            self.flush()

    def flush(self):
        """Write what was added since the last time."""
        with self.lock:
            if self.changed:
                self._write_part()
                self.changed = False
            if self.unwritten:
                path = self.index / FAILED
                try:
                    with open(path, "ab") as file:
                        file.write(_lines({name: self.failed[name] for name in self.unwritten}))
                except OSError as error:
                    raise InputError(f"{path}: cannot be written: {error.strerror}") from error
                self.unwritten = []
            self.written = time.monotonic()

    def close(self):
        """Write what was added, and `FAILED` without what has changed since."""
        self.flush()
        if self.failed_changed:
            self._write_failed()

    def _write_failed(self):
        files.write_atomically(self.index / FAILED, _lines(self.failed))
        self.failed_changed = False

    def _write_part(self):
        pa, pq = pyarrow()
        column = COLUMNS[self.metadata["kind"]]
        vector = pa.list_(pa.field("element", pa.float16(), nullable=False), self.metadata["embed_dim"])
        schema = pa.schema(
            [pa.field(column, pa.string(), nullable=False), pa.field("features", vector, nullable=False)],
            metadata={KEY: json.dumps(self.metadata).encode()},
        )
        features = pa.FixedSizeListArray.from_arrays(pa.array(self.features[: len(self.names)].ravel()), type=vector)
        table = pa.table([pa.array(self.names, pa.string()), features], schema=schema)
        try:
            with files.atomic(self.index / PART.format(self.number)) as temporary, open(temporary, "wb") as file:
                # features hardly repeat: dictionaries and compression would only take time
                pq.write_table(table, file, use_dictionary=False, compression={column: "zstd"})
        except InputError as error:
            raise InputError(f"{error}; what was written before is kept: the same command resumes") from error
        del table, features
        pa.default_memory_pool().release_unused()  # else it keeps more memory after each part


def _is_unicode(name):
    try:
        name.encode()
    except UnicodeEncodeError:  # the name of a file in another encoding
        return False
    return True


def _lines(failed):
    return "".join(json.dumps({"path": name, "error": error}) + "\n" for name, error in failed.items()).encode()


def _read_failed(path, there):
    """({picture: error} of a file that `Writer` has written, without those that are `there`; whether it has others)."""
    try:
        content = path.read_bytes()
        rows = [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        failed = {row["path"]: row["error"] for row in rows if not there[row["path"]]}
        return failed, _lines(failed) != content
    except FileNotFoundError:
        return {}, False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error!r}): remove it") from error
