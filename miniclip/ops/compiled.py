"""Towers as programs of another runtime: recorded once, compiled once, then fed with chunks of a batch.

Builds on `onnx_ops`, which record a tower, and on `runtime.chunks`, which cuts a batch. A backend adds what its runtime
does differently.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from miniclip.errors import InputError
from miniclip.ops import onnx_int8
from miniclip.ops.graph import Graph
from miniclip.runtime import chunks

PICTURES, TOKENS = 64, 1600  # at most in a chunk, which bounds the memory; and texts are sorted by length


class Runtime(NamedTuple):
    """What a backend adds: its runtime's name, and compile(graph, result, dtype) -> a program.

    program({name: ndarray}) -> ndarray, the graph's Value `result`; `dtype` is the model's.
    """

    name: str
    compile: Callable[[Graph, Any, str], Callable]


def captured(runtime, function, parameters, dtype):
    """function(batch, trace=, ...) or function(tokens, end, trace=, ...) -> the same function, computed by a runtime.

    There is a program for each set of options that are not None and for each shape of picture, made when it is first
    needed. With `trace`, which needs values, and for an empty batch NumPy computes the function. The program has the
    parameters as they are when it is made: a later change of them is not seen. Raises InputError if the runtime refuses
    it.
    """
    programs, lock = {}, threading.Lock()

    def run(*batch, trace=None, **options):
        options = {name: x for name, x in options.items() if x is not None}
        if trace is not None or len(batch[0]) == 0:
            return np.ascontiguousarray(function(*batch, **parameters, **options, trace=trace))
        key = (*options,), () if batch[1:] else batch[0].shape[1:]
        with lock:  # two threads do not compile the same
            if key not in programs:
                recorded = record(function, parameters, batch, options, "int8" if dtype == "int8" else "float32")
                programs[key] = _attempt(runtime.name, runtime.compile, *recorded, dtype)
        total = int(chunks.lengths_of(*batch).sum())
        most = chunks.share(total, TOKENS if batch[1:] else PICTURES, 1)
        pieces = chunks.pieces(*batch, most=most, **options)
        program = programs[key]
        parts = [_attempt(runtime.name, program, named(piece.batch, piece.options)) for piece in pieces]
        return chunks.joined(pieces, parts)

    return run


def record(function, parameters, batch, options, dtype):
    """The graph of a tower for inputs like these, and its result. The sizes of a batch get names: B, and T of texts."""
    graph = Graph(dtype)
    if dtype == "int8":
        shape = None if batch[1:] else batch[0].shape[1:]
        two = {} if batch[1:] else {name: x[[0, 0]] for name, x in options.items()}  # as many as it computes
        parameters = onnx_int8.calibrated(functools.partial(function, **two), parameters, shape)
    inputs, options = (
        {name: _input(graph, name, x, texts=bool(batch[1:])) for name, x in given.items()}
        for given in (named(batch, {}), options)
    )
    return graph, function(*inputs.values(), **graph.parameters(parameters), **options)


def named(batch, options):
    """{name: array} of a tower's inputs."""
    return {**dict(zip(("tokens", "end") if batch[1:] else ("images",), batch)), **options}


def _input(graph, name, x, texts):
    shape = ("B", "T")[: x.ndim] if texts else ("B", *x.shape[1:])
    return graph.input(name, x.dtype.name, *shape)


def _attempt(runtime, function, *arguments):
    """function(*arguments), which calls the runtime with this name. Raises InputError if that refuses them."""
    try:
        return function(*arguments)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # runtimes raise errors of many kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{runtime} refuses the model or its input: {reason}; pass backend='numpy'") from error
