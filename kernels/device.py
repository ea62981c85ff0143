"""What the kernels run on: a GPU, Triton's interpreter on the CPU, or the compiler alone (see `offline`)."""

import functools

import numpy as np
import torch
import triton

from miniclip.errors import InputError

LEAST_CAPABILITY = 80  # Ampere's: the first with bfloat16
# Whether Triton runs kernels step by step on the CPU, which TRITON_INTERPRET=1 decides as they are defined.
INTERPRETING = triton.knobs.runtime.interpret
NO_BFLOAT16 = "Triton's interpreter multiplies bfloat16 wrongly: take float16 or float32, or a GPU"
WITHOUT = "with TRITON_INTERPRET=1, set before Python starts, kernels run on the CPU, slowly"


def launches(versions=1):
    """Of a function that launches kernels: what its tensors must be, and on which GPU they are launched.

    Triton launches on the current GPU and reads whatever it is told to, so that is made the tensors' own. Raises
    InputError for other dtypes than float32, float16 and bfloat16, for several at once, where gradients are wanted,
    where there is nothing to launch on, and for a `version` beyond `versions`.
    """

    def decorate(function):
        @functools.wraps(function)
        def launch(*arguments, **options):
            tensors = [x for x in (*arguments, *options.values()) if isinstance(x, torch.Tensor)]
            if options.get("version") not in (None, *range(1, versions + 1)):
                raise InputError(f"{function.__name__} has versions 1 to {versions}, not {options['version']!r}")
            _check([x for x in tensors if x.is_floating_point()])
            # Padding is computed with in the interpreter as on a GPU, 0/0 among it, and there NumPy warns.
            with torch.cuda.device_of(tensors[0]), np.errstate(all="ignore"):
                return function(*arguments, **options)

        return launch

    return decorate


def _check(tensors):
    dtypes = {str(x.dtype).removeprefix("torch.") for x in tensors}
    if len(dtypes) > 1 or not dtypes <= {"float32", "float16", "bfloat16"}:
        raise InputError(
            f"kernels take float32, float16 or bfloat16, all tensors alike, not {', '.join(sorted(dtypes))}"
        )
    if INTERPRETING and "bfloat16" in dtypes:
        raise InputError(NO_BFLOAT16)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        raise InputError("the triton backend computes no gradients: use the torch backend, or torch.no_grad()")
    if not INTERPRETING and tensors[0].device.type == "cpu":
        raise InputError(why_not("cpu"))


def within_reach(x):
    """x (B, ...) itself, or a copy where numbers of its last axis lie apart or an entry of the batch spans 2^31.

    Offsets within an entry are of 32 bits.
    """
    farthest = sum((size - 1) * step for size, step in zip(x.shape[1:], x.stride()[1:]))
    return x if x.stride(-1) == 1 and farthest < 2**31 else x.contiguous()


def expect(**shapes):
    """Kernels read where they are told to: each name=(tensor, shape) is checked first. Raises InputError."""
    for name, (x, shape) in shapes.items():
        if tuple(x.shape) != tuple(shape):
            raise InputError(f"{name} is {tuple(x.shape)}, expected {tuple(shape)}")


def why_not(device=None):
    """Why the kernels cannot run on a device as torch names it (None: the current GPU), or None where they can."""
    try:
        kind = "cuda" if device is None else torch.device(device).type
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    if INTERPRETING:
        return None if device is None or kind == "cpu" else "TRITON_INTERPRET=1 runs kernels on the CPU alone"
    if kind == "meta":  # see `offline`
        return None
    if kind != "cuda":
        return f"Triton's kernels run on a GPU, not on {device}; {WITHOUT}"
    if not torch.cuda.is_available():
        return f"torch sees no CUDA GPU; {WITHOUT}"
    if (torch.device(device or "cuda").index or 0) >= torch.cuda.device_count():
        return f"there is no {device}, only {torch.cuda.device_count()} GPUs"
    major, minor = torch.cuda.get_device_capability(device)
    if 10 * major + minor < LEAST_CAPABILITY:
        return f"it has compute capability {major}.{minor}, the kernels need {LEAST_CAPABILITY / 10}"
    return None


def capability():
    """The compute capability that kernels are compiled for, 10 · major + minor: 90 on an H100 or H200."""
    return 90 if INTERPRETING else triton.runtime.driver.active.get_current_target().arch


def choose(table, size):
    """Of {(least capability, largest size): value} the value of the least size that fits, for the newest device."""
    here = capability()
    largest, least = min((largest, -least) for least, largest in table if least <= here and size <= largest)
    return table[-least, largest]


@functools.cache
def _processors(name):
    return torch.cuda.get_device_properties(name).multi_processor_count


def processors(x):
    """How many multiprocessors the device of `x` has; an H200's 132 where there is no GPU."""
    return _processors(x.device) if x.is_cuda else 132


def dot_precision(dtype):
    """How float32 products are to be computed: three tf32 products each, near float32; one would lose 13 bits."""
    return "tf32x3" if dtype == torch.float32 else "ieee"
