"""Weights files that are changed at random, and read in a process of their own: `changed_files.py < task`.

The process has a limit of memory and time, and watches what a file makes miniclip do except to read files.
"""

import collections
import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py  # noqa: F401
import numpy as np

from miniclip import InputError, params
from miniclip.checkpoints import load, others  # noqa: F401  with all that it imports, before it is watched
from miniclip.formats import flax_files, hdf5_files, torch_files  # noqa: F401

WIDE = ("16", "16_le", "16_be", "32", "32_le", "32_be")
ENCODINGS = ("cp437", "raw_unicode_escape", *map("utf_{}".format, WIDE))  # what Python loads when text is in it
NUMBERS = [0, 1, 2, 7, 0x7F, 0x80, *((1 << bits) - 1 for bits in (8, 15, 16, 31, 32, 40, 62, 63, 64))]


def load_changed(directory, count, models):
    """({"FILE OUTCOME": times}, the slowest in seconds, events other than reading) of `count` changes of each file.

    models  {file: what is loaded when it is changed}, both in the directory
    """
    task = json.dumps([str(directory), count, models])
    done = subprocess.run([sys.executable, __file__], input=task, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def change(random, content, places):
    """Make one change to a bytearray, usually near one of `places`, where the format stores positions and sizes."""
    at = random.choice(places) + random.randint(-40, 40)
    at = min(max(at, 0), len(content)) if random.random() < 0.7 else random.randrange(len(content) + 1)
    some = random.choice([1, 1, 2, 4, 8, 30, 200])
    kind = random.randrange(9)
    if kind < 2:
        for i in range(at, min(at + random.choice([1, 1, 2, 5]), len(content))):
            content[i] ^= 1 << random.randrange(8)
    elif kind == 2:
        content[at : at + 1] = bytes([random.randrange(256)])
    elif kind == 3:
        del content[at : at + some]
    elif kind == 4:
        content[at:at] = random.randbytes(some)
    elif kind == 5:  # a block from elsewhere
        begin = random.randrange(len(content) + 1)
        content[at : at + random.choice([0, some])] = content[begin : begin + some]
    elif kind == 6:
        size = random.choice([1, 2, 4, 8])
        number = random.choice([*NUMBERS, len(content), at])
        content[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, random.choice(["little", "big"]))
    elif kind == 7:
        content[at : at + some] = bytes(len(content[at : at + some]))
    elif random.random() < 0.2:
        del content[at:]


def marks(content):
    """Positions of zip headers, their directory, the pickle and JSON."""
    found = [0, 8, len(content)]
    for sign in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"data.pkl", b"ctorch", b"Q", b"{", b"[", b"\xc8", b"\x93"):
        at = content.find(sign)
        while at >= 0 and len(found) < 4000:
            found.append(at)
            at = content.find(sign, at + 1)
    return found


def run(directory, count, models):
    """What `load_changed` returns."""
    seen, watching = [], False

    def hook(event, arguments):
        reading = event == "open" and arguments[1] in ("r", "rb")
        reading |= event in ("mmap.__new__", "os.listdir", "os.scandir")
        if watching and not reading and event != "builtins.id":  # which h5py asks for
            seen.append(f"{event} {arguments}"[:200])

    for name in ENCODINGS:
        __import__(f"encodings.{name}")
    sys.addaudithook(hook)
    resource.setrlimit(resource.RLIMIT_AS, 2 * (3 << 30,))
    outcomes, slowest = collections.Counter(), 0
    for file, model in models.items():
        path = Path(directory, file)
        original = path.read_bytes()
        places = marks(original)
        for i in range(count):
            print(file, i, flush=True, file=sys.stderr)
            source, content = random.Random(f"{file} {i}"), bytearray(original)
            for _ in range(source.choice([1, 1, 2, 4])):
                change(source, content, places)
            path.unlink()
            path.write_bytes(content)
            signal.alarm(20)
            watching, start = True, time.process_time()
            try:
                tree = load(Path(directory, model), dtype="float32", as_openai=True)[1]
                for x in params.flatten(tree).values():
                    np.isfinite(x).all()
                outcome = "loaded"
            except InputError as error:
                good = str(Path(directory, model)) in str(error) and len(str(error)) < 3010
                outcome = "refused" if good else f"{i}: not to the point: {error}"
            except BaseException as error:
                outcome = f"{i}: {type(error).__name__}: {error}"
            watching, slowest = False, max(slowest, time.process_time() - start)
            outcomes[f"{file} {outcome}"[:3000]] += 1
        path.write_bytes(original)
    return outcomes, slowest, seen


if __name__ == "__main__":
    print(json.dumps(run(*json.load(sys.stdin))))
