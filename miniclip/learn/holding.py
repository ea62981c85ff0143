"""Checks a function against its laws: which of them hold, and which common mistake it behaves like."""

import functools
import importlib
import traceback
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miniclip.learn import laws, mistakes

CASES = {"numpy": 5, "triton": 2}  # how often each law is tried; the interpreter is slow


@dataclass
class Verdict:
    """Whether a law holds; if not, `message` says what the function gave and what was expected."""

    law: str
    text: str
    passed: bool
    message: str = ""
    extra: bool = False  # whether it is about what only this library asks for, `keep` and `trace`


class Unusable(Exception):
    """Something in a student's file cannot be used; the text says what."""


def reference(exercise):
    """The library's own function; a method takes its class or instance first."""
    place = importlib.import_module(exercise.module)
    for name in exercise.function.split("."):
        place = vars(place)[name]
    return getattr(place, "__func__", place)


def called(exercise, function):
    """What the laws call: the function itself, or for a Triton kernel the library's function that launches it."""
    if exercise.track == "numpy":
        return function
    launch = vars(importlib.import_module(exercise.module))[exercise.name.removesuffix("_kernel")]
    return importlib.import_module("miniclip.learn.laws.kernels").watching(functools.partial(launch, kernel=function))


def hold(exercise, function, seed=0):
    """Check a function against an exercise's laws -> (verdicts, values): for each law, and what the function gave."""
    return hold_called(exercise, called(exercise, function), seed)


def hold_called(exercise, function, seed=0):
    """The same for what `called` gives, in this process or another."""
    verdicts, values = [], []
    for law in laws.of(exercise):
        message, given = None, []
        for case in range(CASES[exercise.track]):
            rng = np.random.default_rng([seed, zlib.crc32(f"{exercise.id} {law.__name__}".encode()), case])
            try:
                with np.errstate(all="ignore"):
                    for got, want in list(law(function, rng)):
                        message = message or laws.difference(got, want)
                        given.append(got)
            except Exception as error:
                message = message or describe(error)
                given.append(type(error).__name__)
        values.append(given)
        verdicts.append(Verdict(law.__name__, law.__doc__.strip(), message is None, message or "", law.extra))
    return verdicts, values


def describe(error, path=None):
    """An exception in one line of text, with the line of the student's file that raised it.

    If no line of the file raised it, the law did: the function takes or gives something that the law cannot use.
    """
    if isinstance(error, Unusable):
        return str(error)
    text = f"{type(error).__name__}: {str(error).strip() or 'no message'}".replace("\n", " ")[:300]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if lines:
        return f"raises {text} ({Path(path).name}, line {lines[-1]})"
    if isinstance(error, (NotImplementedError, SyntaxError, SystemExit)) or "Interpreter" in text or path is None:
        return f"raises {text}"
    return f"takes or gives something unexpected: {text}"


def behaves_as(exercise, verdicts, values, seed=0):
    """The mistake whose function gives the same values, in words; None if there is none.

    If several things are wrong at once, no mistake gives the same values under all laws. Then it is the first mistake
    that gives the same wrong values under one law. Mistakes in kernels need the interpreter, too.
    """
    if exercise.track == "triton" and not importlib.import_module("miniclip.kernels.device").INTERPRETING:
        return None
    for mutant in exercise.mutants:
        if all(map(_all_alike, values, _held(exercise, mutant, seed)[1])):
            return mutant.as_if
    for i, verdict in enumerate(verdicts):
        for mutant in exercise.mutants:
            theirs, given = _held(exercise, mutant, seed)
            if not (verdict.passed or theirs[i].passed) and _says_enough(given[i]) and _all_alike(values[i], given[i]):
                return f"{mutant.as_if}; and something else is wrong, too"
    return None


@functools.cache
def _held(exercise, mutant, seed):
    return hold(exercise, mistakes.function(exercise, mutant), seed)


def _says_enough(values):
    """Whether values can identify a mistake: arrays can, exceptions and yes or no cannot."""
    return all(isinstance(value, np.ndarray) and value.size > 1 and np.isfinite(value).all() for value in values)


def _all_alike(values, others):
    return len(values) == len(others) and all(map(_alike, values, others))


def _alike(a, b):
    if isinstance(a, (np.ndarray, np.generic, float)) and isinstance(b, (np.ndarray, np.generic, float)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        scale = np.abs(b, where=np.isfinite(b), out=np.zeros(b.shape)).max(initial=0)
        return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=laws.TOLERANCE * scale, equal_nan=True)
    return type(a) is type(b) and a == b
