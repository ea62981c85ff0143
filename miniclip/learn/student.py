"""The process that has a student's function (`python -m miniclip.learn.student`): it gets calls, and answers them.

The laws and their expected values are in another process, so no code of a student's sees or changes them. One line of
JSON is one message:

    in    {"exercise": id, "path": ..., "source": ...}      out   {"loaded": null}, or why it cannot be loaded
    in    {"arguments": ..., "options": ...}                out   {"value": ..., "changed": ..., "calls": ...}
                                                               or {"raised": its type, "said": a line of text}
"""

import contextlib
import functools
import importlib.util
import json
import linecache
import os
import sys
import types
from pathlib import Path

import numpy as np

from miniclip.learn import catalogue, wire
from miniclip.learn.holding import Unusable, called, describe

ANSWER = 8 << 20  # characters that a call may give


def load(path, name, source=None):
    """The function `name` of a student's file. Raises Unusable if there is none, and what the file raises.

    The source itself is compiled: a compiled file beside it, in __pycache__, is not looked at, and none is written.
    """
    source = Path(path).read_bytes() if source is None else source
    module = types.ModuleType(Path(path).stem)
    module.__file__ = str(path)
    code = compile(source, str(path), "exec")
    lines = importlib.util.decode_source(source).splitlines(keepends=True)
    linecache.cache[str(path)] = len(source), None, lines, str(path)  # where Triton and tracebacks read it
    exec(code, vars(module))
    function = vars(module).get(name)
    written = getattr(function, "fn", function)  # the function that became a Triton kernel
    if not callable(written):
        raise Unusable(f"{Path(path).name} has no function {name}")
    if written.__module__ != module.__name__:
        raise Unusable(f"{name} is not written in {Path(path).name}, it is imported from {written.__module__}")
    return function


def returning(function):
    """The same function; Unusable if it returns None."""

    @functools.wraps(function)
    def checked(*arguments, **options):
        out = function(*arguments, **options)
        if out is None:
            raise Unusable("returns None: is a `return` missing?")
        return out

    return checked


def answer(function, message, path):
    """Call a function as a message says -> the message with what it gives, as a line of text."""
    arrays = []
    arguments, options = (wire.unpack(message[key], arrays) for key in ("arguments", "options"))
    before = [array.tobytes() for array in arrays]
    trace = options.get("trace")
    try:
        with np.errstate(all="ignore"):
            value = wire.pack(function(*arguments, **options))
        calls = wire.pack(trace.calls if trace else [])
        changed = [[i, wire.pack(x)] for i, (x, was) in enumerate(zip(arrays, before)) if x.tobytes() != was]
        line = json.dumps({"value": value, "changed": changed, "calls": calls})
        if len(line) > ANSWER:
            raise Unusable(f"gives more than {ANSWER >> 20} MiB")
        return line
    except BaseException as error:
        return json.dumps({"raised": type(error).__name__, "said": describe(error, path)})


def main():
    # The messages get descriptors of their own: what the student's file prints goes to the other pipe, stderr.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True, errors="replace")

    def give(line):
        answers.write(line.encode() + b"\n")
        answers.flush()

    first = json.loads(requests.readline())
    path = first["path"]
    (exercise,) = catalogue.choose([first["exercise"]])
    try:
        function = load(path, exercise.name, first["source"].encode("latin-1"))
    except BaseException as error:
        give(json.dumps({"loaded": describe(error, path)}))
        return
    function = called(exercise, returning(function) if exercise.track == "numpy" else function)
    give(json.dumps({"loaded": None}))
    for line in requests:
        give(answer(function, json.loads(line), path))
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(0)  # whatever the student's file has left to do at the end


if __name__ == "__main__":
    main()
