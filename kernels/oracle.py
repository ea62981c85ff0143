"""Whether a kernel's answer is right: its first and last rows are compared with float64."""

import torch

from miniclip.errors import WrongAnswer

SLACK = 2  # our error may be so many times torch's own
EDGE = 128  # rows at either end of a matrix that are compared


def checker(kernel, inputs):
    """(check, torch's own error) for a Kernel on some inputs; check(result, slack=SLACK) -> the error of a result.

    The exact answer is computed for the first and the last rows, in float64. An error is max |x - exact| / max |exact|.
    check raises WrongAnswer if the error is more than slack times torch's own, and if shapes or numbers are wrong.
    """
    first = inputs[kernel.rows[0]]
    edge = 2 if first.ndim > 2 else EDGE
    ends = sorted({*range(len(first))[:edge], *range(len(first))[-edge:]})
    few = {name: x[ends] if name in kernel.rows else x for name, x in inputs.items()}
    doubled = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in few.items()}
    exact = _several(kernel.plain(**doubled))

    def error(results):
        return max(((x.double() - e).abs().max() / e.abs().max()).item() for x, e in zip(results, exact))

    usual = error(_several(kernel.plain(**few)))

    def check(result, slack=SLACK):
        results = _several(result)
        if not all(torch.isfinite(x).all() for x in results):
            raise WrongAnswer("it is wrong: not all of its numbers are finite")
        if [x[ends].shape for x in results] != [x.shape for x in exact]:
            raise WrongAnswer(f"it is wrong: its shapes are {[tuple(x.shape) for x in results]}")
        found = error([x[ends] for x in results])
        if not found <= slack * usual:
            raise WrongAnswer(f"it is wrong by {found:.1e} of the largest value, {slack * usual:.1e} is allowed")
        return found

    return check, usual


def _several(result):
    return result if isinstance(result, tuple) else (result,)
