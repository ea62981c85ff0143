"""Tuned configurations: what was measured to be fastest, by kernel, compute capability and shape.

`tuned.json` ships with the package; `miniclip bench kernels --autotune` measures this machine's and writes them to the
cache, where they come first. A kernel that finds nothing here takes the tiles that its own file chooses: nobody waits
for tuning unasked.
"""

import functools
import json
from pathlib import Path

from miniclip.errors import InputError
from miniclip.kernels import device
from miniclip.runtime import caches
from miniclip.runtime.files import write_atomically

SHIPPED = Path(__file__).with_name("tuned.json")


def cached():
    """The file for what this machine measured itself."""
    return caches.cache_directory() / "tuned.json"


def find(kernel, key, default=None):
    """The configuration recorded for a kernel and a key on this device's capability, or `default`."""
    return _table().get(_entry(kernel, device.capability(), key), default)


def record(entries, path=None):
    """Add measured entries {"kernel", "capability", "key", "config", ...} to a file, the cache's if None."""
    path = cached() if path is None else path
    table = {_entry(e["kernel"], e["capability"], e["key"]): e for e in [*_read(path), *entries]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(list(table.values()), indent=1) + "\n").encode())
    _table.cache_clear()


@functools.cache
def _table():
    entries = [*_read(SHIPPED), *_read(cached())]  # the later one counts
    return {_entry(e["kernel"], e["capability"], e["key"]): e["config"] for e in entries}


def _entry(kernel, capability, key):
    return (kernel, capability, *sorted(key.items()))


def _read(path):
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise InputError(f"{path} is not a file of tuned configurations: {error}; delete it") from error
