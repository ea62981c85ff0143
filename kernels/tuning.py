"""Tuned configurations: the fastest tiles that were measured, by kernel, compute capability and shape.

`tuned.json` ships with the package. `miniclip bench kernels --autotune` measures on this machine and writes to the
cache, which is read first. A kernel that finds nothing here takes the tiles that its own file chooses: no user waits
for tuning that they did not ask for.
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
    """The path of the file with this machine's own measurements."""
    return caches.cache_directory() / "tuned.json"


def find(kernel, key, default=None):
    """The configuration recorded for a kernel, a key and this device's capability, or `default`.

    The warps of `default` have 32 threads each: see `device.count_warps`.
    """
    if default is not None and "num_warps" in default:
        default = device.count_warps(default)
    return _table().get(_entry(kernel, device.capability(), key), default)


def record(entries, path=None):
    """Add measured entries {"kernel", "capability", "key", "config", ...} to a file (None: the cache's)."""
    path = cached() if path is None else path
    table = {_entry(e["kernel"], e["capability"], e["key"]): e for e in [*_read(path), *entries]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(list(table.values()), indent=1) + "\n").encode())
    _table.cache_clear()


@functools.cache
def _table():
    entries = [*_read(SHIPPED), *_read(cached())]  # of two for the same key the later one counts
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
