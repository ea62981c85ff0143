"""What the kernels run on: a GPU, Triton's interpreter on the CPU, or the compiler alone (see `offline`)."""

import functools

import torch
import triton

from miniclip.errors import InputError

LEAST_CAPABILITY = 80  # Ampere's: the first with bfloat16
# Whether Triton runs kernels step by step on the CPU, which TRITON_INTERPRET=1 decides as they are defined.
INTERPRETING = triton.knobs.runtime.interpret


def launched_where_its_tensors_are(function):
    """Triton launches on the current GPU; this makes it that of the function's first tensor."""

    @functools.wraps(function)
    def on_device(*arguments, **options):
        first = next(x for x in (*arguments, *options.values()) if isinstance(x, torch.Tensor))
        with torch.cuda.device_of(first):
            return function(*arguments, **options)

    return on_device


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
        return f"Triton's kernels run on a GPU, not on {device}; with TRITON_INTERPRET=1 they run, slowly, on the CPU"
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU (with TRITON_INTERPRET=1 kernels run, slowly, on the CPU)"
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
