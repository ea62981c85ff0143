"""What must be true of a function, the library's or a student's.

A law is a generator `law(function, rng)`: it draws inputs from `rng` (numpy.random.Generator), calls the function, and
yields pairs (what it got, what is expected). Its docstring states the law, for students to read. Numbers must agree
within 1e-5 of the largest expected number, which float32 allows after sums of a few hundred terms. Expected zeros must
be zeros.
"""

import importlib

import numpy as np

TOLERANCE = 1e-5
MODULES = {
    "numpy": ("tokenizer", "operations", "attention", "towers", "objective", "gradients"),
    "triton": ("kernels",),
}
_laws = {}  # exercise -> its laws, in order


def law(*exercises, extra=False):
    """Decorates a law: the exercises that it belongs to. An `extra` law is about what only this library asks for."""

    def register(function):
        function.extra = extra
        for exercise in exercises:
            _laws.setdefault(exercise, []).append(function)
        return function

    return register


def of(exercise):
    """The laws of an exercise of the catalogue."""
    for name in MODULES[exercise.track]:
        importlib.import_module(f"miniclip.learn.laws.{name}")
    return _laws[exercise.id]


def normal(rng, *shape, scale=1.0):
    """Normally distributed numbers, float32."""
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def slopes(function, x, step=1e-5):
    """The slope of a number, function(x), in each number of an array: central differences, float64."""
    found = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        up, down = x.astype(np.float64), x.astype(np.float64)
        up[at] += step
        down[at] -= step
        found[at] = (function(up) - function(down)) / (2 * step)
    return found


def raised(function, *arguments):
    """The name of the exception that a call raises, "nothing" if it raises none."""
    try:
        function(*arguments)
    except Exception as error:
        return type(error).__name__
    return "nothing"


def difference(got, want):
    """None if they agree, else how they differ, in words."""
    if isinstance(want, (np.ndarray, np.generic, float)):
        if isinstance(got, (list, tuple, dict, str)):
            return f"gives a {type(got).__name__}, expected an array"
        return _numeric_difference(np.asarray(got), np.asarray(want))
    if isinstance(got, np.ndarray):
        return f"gives an array, expected {_short(want)}"
    return None if got == want else f"gives {_short(got)}, expected {_short(want)}"


def _numeric_difference(got, want):
    if got.dtype.kind not in "biuf":
        return f"gives {_short(got.tolist())}, expected numbers"
    if got.shape != want.shape:
        return f"has the shape {got.shape}, expected {want.shape}"
    if want.size == 0:
        return None
    wide, exact = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(wide - exact)
    error = np.where(np.isnan(error), np.inf, error)
    where = np.unravel_index(error.argmax(), error.shape)
    if error[where] <= TOLERANCE * np.abs(exact).max():
        return None
    at = f" at {list(map(int, where))}" if where else ""
    return f"gives {wide[where]:.6g}{at}, expected {exact[where]:.6g}"


def _short(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
