"""The laws that a kernel keeps, yours too: `miniclip bench kernels --mine` holds yours to them, the tests ours.

Its answer is as exact as torch's own, in the same shape and dtype (`oracle`); a second call gives the same; inputs are
not changed; results are written whole and nothing beside them; what is beside the inputs changes nothing; inputs may
have any layout, and be large.
"""

import contextlib
import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from miniclip.errors import WrongAnswer
from miniclip.kernels import ladder, oracle

MARGIN = 64  # numbers on either side of a tensor that must not be touched: 128 bytes or more keep its alignment
LARGE, LARGE_SLACK = 8, 10  # softmax without its maximum subtracted overflows; rounded scores weigh more, in torch too


def hold(kernel, call, shape, dtype, place):
    """Hold a call of a Kernel to all laws at a shape -> (its error, torch's). WrongAnswer says which one it breaks."""
    torch.manual_seed(0)
    inputs = kernel.inputs(partial(ladder.randn, dtype=dtype, device=place), **shape)
    check, usual = oracle.checker(kernel, inputs, whole=True)

    before = copied(inputs)
    first = results_of(call, inputs)
    error = check(first)
    if changed := [name for name, x in _tensors(inputs).items() if not torch.equal(x, before[name])]:
        raise WrongAnswer(f"it changes what it is given, {' and '.join(changed)}")
    first = tuple(x.clone() for x in first)
    if not all(map(torch.equal, results_of(call, inputs), first)):
        raise WrongAnswer("it gives different numbers in a second call with the same inputs")

    with sea() as seas:
        again = results_of(call, {**inputs, **{name: lake(x) for name, x in _tensors(inputs).items()}})
    if not calm(seas):
        raise WrongAnswer("it writes beside its result")
    if not all(map(torch.equal, again, first)):
        raise WrongAnswer("it reads what is beside its inputs, or leaves a part of its result unwritten")

    for law, layout in LAYOUTS.items():
        with _under(law):
            check(results_of(call, {**inputs, **{name: layout(x) for name, x in _tensors(inputs).items()}}))
    with _under(f"if its inputs are {LARGE} times as large"):
        large = {**inputs, **{name: LARGE * inputs[name] for name in kernel.rows}}
        oracle.checker(kernel, large, whole=True)[0](results_of(call, large), LARGE_SLACK)
    return error, usual


def results_of(call, inputs):
    """What a call gives for {argument: value}, as a tuple. Raises WrongAnswer if it is not tensors of their device."""
    with np.errstate(all="ignore"):  # the interpreter computes with padding as a GPU does, 0/0 too
        results = oracle.several(call(**inputs))
    if len(results) == 1 and results[0] is None:
        raise WrongAnswer("it returns None: is a `return` missing?")
    if wrong := [type(x).__name__ for x in results if not isinstance(x, torch.Tensor)]:
        raise WrongAnswer(f"it gives {' and '.join(wrong)}, not tensors")
    place = next(x.device for x in inputs.values() if isinstance(x, torch.Tensor))
    if wrong := [str(x.device) for x in results if x.device != place]:
        raise WrongAnswer(f"it gives a tensor on {' and '.join(wrong)}, not on {place}")
    return results


def copied(inputs):
    return {**inputs, **{name: x.clone() for name, x in _tensors(inputs).items()}}


def _tensors(inputs):
    return {name: x for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.is_floating_point()}


@contextlib.contextmanager
def _under(law):
    try:
        yield
    except WrongAnswer as error:
        raise WrongAnswer(f"{law}, {error}") from error


# ------------------------------------------------------------------------------------------------- memory


def lake(x):
    """A copy of x, with its strides, among NaN: a kernel that reads beside it finds them."""
    return _among_nans(x.shape, x.stride(), x.dtype, x.device)[1].copy_(x)


@contextlib.contextmanager
def sea():
    """Inside, `torch.empty` and `torch.empty_like` give tensors in a sea of NaN; yields a list of (sea, tensor)."""
    seas, empty, empty_like = [], torch.empty, torch.empty_like

    def among_nans(make):
        def made(*arguments, **options):
            x = make(*arguments, **options)
            if x.is_meta or x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
                return x  # integers have no NaN; e4m3 has, but torch cannot look for it
            seas.append(_among_nans(x.shape, x.stride(), x.dtype, x.device))
            return seas[-1][1]

        return made

    torch.empty, torch.empty_like = among_nans(empty), among_nans(empty_like)
    try:
        yield seas
    finally:
        torch.empty, torch.empty_like = empty, empty_like


def calm(seas):
    """Whether the seas that `sea` yields are NaN still, on both sides of each tensor."""
    return all(margin.isnan().all() for whole, _ in seas for margin in (whole[:MARGIN], whole[-MARGIN:]))


def _among_nans(shape, stride, dtype, device):
    """(the whole, the tensor in it)."""
    numbers = 1 + sum((size - 1) * step for size, step in zip(shape, stride)) if math.prod(shape) else 0
    whole = torch.full((numbers + 2 * MARGIN,), math.nan, dtype=dtype, device=device)
    return whole, whole.as_strided(shape, stride, MARGIN)


# ------------------------------------------------------------------------------------------------ layouts


def _rows_apart(x):
    return x.repeat_interleave(2, dim=0)[::2] if x.ndim else x


def _not_aligned(x):
    return F.pad(x, (1, 2))[..., 1:-2] if x.ndim else x


def _columns_apart(x):
    return x.mT.contiguous().mT if x.ndim > 1 else _rows_apart(x)


LAYOUTS = {
    "if its inputs have rows that are apart in memory": _rows_apart,
    "if its inputs are not aligned to 16 bytes": _not_aligned,
    "if its inputs have columns that are apart in memory": _columns_apart,
}
