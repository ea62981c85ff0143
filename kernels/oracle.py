"""Whether a kernel's answer is right: it is compared with float64, and its error with that of torch's own operation."""

import torch

from miniclip.errors import WrongAnswer
from miniclip.kernels import device

SLACK = 2  # our error may be so many times torch's own
EDGE = 128  # rows at either end of a matrix that are compared


def allowed(usual, dtype, slack=SLACK, exponent=0.0):
    """The largest error that is right: `slack` times torch's own, `usual`, and the rounding of a result of a dtype.

    Errors are shares of the largest value. Compiled kernels compute float32 by three products of tf32, whose parts
    together have 22 of its 24 bits: they may be off by four roundings where torch happens to be exact. exp(x) has the
    error of x's rounding, and kernels compute x in float32: `exponent` is the largest such x.
    """
    roundings = 4 if dtype == torch.float32 and not device.INTERPRETING else 1
    return slack * usual + roundings * torch.finfo(dtype).eps + exponent * torch.finfo(torch.float32).eps


def checker(kernel, inputs, *, whole=False):
    """(check, torch's own error) for a Kernel on some inputs; check(result, slack=SLACK) -> the error of a result.

    The exact answer is computed in float64, for the first and the last rows, or with `whole`, or if no argument has
    rows of its own, for all. An error is max |x - exact| / max |exact|. check raises WrongAnswer if the error is more
    than is allowed, and if shapes, dtypes or numbers are wrong.
    """
    ends = slice(None) if whole or not kernel.rows else _ends(inputs[kernel.rows[0]])
    few = {name: x[ends] if name in kernel.rows else x for name, x in inputs.items()}
    exact, torchs = several(kernel.plain(**_doubled(few))), several(kernel.plain(**few))
    dtypes = [x.dtype for x in torchs]
    shapes = [(*([len(inputs[kernel.rows[0]])] if kernel.rows else x.shape[:1]), *x.shape[1:]) for x in exact]

    def error(results):
        return max(((x.double() - e).abs().max() / e.abs().max()).item() for x, e in zip(results, exact))

    usual = error(torchs)

    def check(result, slack=SLACK):
        results = several(result)
        if [tuple(x.shape) for x in results] != shapes:
            raise WrongAnswer(f"it is wrong: its shapes are {_text(x.shape for x in results)}, not {_text(shapes)}")
        if [x.dtype for x in results] != dtypes:
            raise WrongAnswer(f"it is wrong: it gives {_names(x.dtype for x in results)}, not {_names(dtypes)}")
        if not all(torch.isfinite(x).all() for x in results):
            raise WrongAnswer("it is wrong: not all of its numbers are finite")
        found, most = error([x[ends] for x in results]), allowed(usual, dtypes[0], slack)
        if not found <= most:
            raise WrongAnswer(f"it is wrong by {found:.1e} of the largest value, {most:.1e} is allowed")
        return found

    return check, usual


def _ends(x):
    """The indices of the rows of x that are compared."""
    edge, rows = 2 if x.ndim > 2 else EDGE, range(len(x))
    return sorted({*rows[:edge], *rows[-edge:]})


def _doubled(inputs):
    numbers = {name for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.is_floating_point()}
    return {name: x.double() if name in numbers else x for name, x in inputs.items()}


def several(result):
    """The results of a kernel as a tuple, which it may be already."""
    return result if isinstance(result, tuple) else (result,)


def _text(shapes):
    return ", ".join(str(tuple(shape)) for shape in shapes)


def _names(dtypes):
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
