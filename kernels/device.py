"""What kernels run on: a GPU, Triton's interpreter on the CPU, or the compiler alone (see `offline`).

They were written for NVIDIA's GPUs. They compile for AMD's too, and `make test` checks that; nobody has run them there.
"""

import contextlib
import functools
import inspect
import math

import numpy as np
import torch
import triton

from miniclip.errors import InputError
from miniclip.kernels import operators

LEAST_CAPABILITY = 80  # Ampere's: the first with bfloat16
# Whether Triton runs kernels step by step on the CPU: TRITON_INTERPRET=1 decides that when triton is imported.
INTERPRETING = triton.knobs.runtime.interpret
NO_BFLOAT16 = "Triton's interpreter multiplies bfloat16 wrongly: take float16 or float32, or a GPU"
WITHOUT = "with TRITON_INTERPRET=1, set before Python starts, kernels run on the CPU, slowly"


def launches(versions=1, schema=None, empty=None, name=None, integers=(), statistics=()):
    """A decorator for functions that launch kernels: checks their tensors, and launches on the tensors' GPU.

    Triton launches on the current GPU and reads any address it is given, so the tensors' GPU is made the current one.
    The function has `versions` of its kernel, 1 to `versions`; the number is its attribute `versions`. With a `schema`
    it is an operator of torch as well, and that is what torch.compile and torch.export call: see `operators.register`
    for `empty`. Messages call it `name`, if it is given. Its arguments `integers` may be tensors of integers, and its
    `statistics` are float32. Inside torch.autocast it computes as without: its tensors' dtype is what counts.
    Raises InputError for dtypes other than float32, float16 and bfloat16, for several dtypes or devices at once, if
    gradients are wanted, if there is nothing to launch on, inside torch.func's transforms, and for a `version` beyond
    `versions`.
    """

    def decorate(function):
        title = name or function.__name__

        def run(*arguments, **options):
            tensors = [x for x in (*arguments, *options.values()) if isinstance(x, torch.Tensor)]
            if options.get("version") not in (None, *range(1, versions + 1)):
                raise InputError(f"{title} has versions 1 to {versions}, not {options['version']!r}")
            named = lambda: inspect.signature(function).bind(*arguments, **options).arguments  # noqa: E731
            _check(title, tensors, named, integers, statistics)
            # The interpreter computes with padding as a GPU does, 0/0 too, and NumPy would warn of that.
            with torch.cuda.device_of(tensors[0]), no_autocast(tensors[0]), np.errstate(all="ignore"):
                return function(*arguments, **options)

        operator = operators.register(run, title, schema, empty) if schema else None

        @functools.wraps(function)
        def launch(*arguments, **options):
            if not operators.recording((*arguments, *options.values())):
                return run(*arguments, **options)
            if operator is None or any(options.get(key) is not None for key in ("version", "config", "lse", "into")):
                raise InputError(
                    f"{title} cannot be recorded by torch.compile or torch.export with these arguments: "
                    f"call it outside, or as torch.compiler.disable({title})(...)"
                )
            # nothing is written over x: a recording has no memory yet
            return operator(*arguments, **{key: x for key, x in options.items() if key not in OF_EAGER_CALLS})

        launch.versions = versions
        return launch

    return decorate


OF_EAGER_CALLS = ("version", "config", "in_place", "lse", "into")


def no_autocast(x):
    """A context: torch's own operations keep the dtype of tensors on x's device, torch.autocast or not."""
    kind = x.device.type
    active = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if active else contextlib.nullcontext()


def _check(name, tensors, named, integers, statistics):
    """Refuse tensors that no kernel takes. named() gives {argument: value}, and takes longer than all else here."""
    if operators.transforming():
        raise InputError(f"{name} cannot run inside torch.func's transforms, such as vmap: pass a whole batch")
    numbers = [x for x in tensors if x.is_floating_point()]
    others = (*statistics, *(integers if len(numbers) < len(tensors) else ()))
    if len(numbers) < len(tensors) or (statistics and len({x.dtype for x in numbers}) > 1):
        numbers = [x for key, x in named().items() if isinstance(x, torch.Tensor) and key not in others]
    dtypes = {str(x.dtype).removeprefix("torch.") for x in numbers}
    if len(dtypes) != 1 or not dtypes <= {"float32", "float16", "bfloat16"}:
        given = sorted(dtypes) or [str(getattr(next(iter(named().values())), "dtype", "what is no tensor"))]
        raise InputError(f"kernels take float32, float16 or bfloat16, all tensors alike, not {', '.join(given)}")
    if INTERPRETING and "bfloat16" in dtypes:
        raise InputError(NO_BFLOAT16)
    if operators.differentiating(tensors):
        raise InputError(f"{name} computes no gradients: take miniclip.kernels.gradients, or torch.no_grad()")
    if any(x.device != tensors[0].device for x in tensors):
        places = ", ".join(f"{key} on {x.device}" for key, x in named().items() if isinstance(x, torch.Tensor))
        raise InputError(f"{name} takes tensors of one device, not {places}")
    if not INTERPRETING and not emulating() and tensors[0].device.type == "cpu":
        raise InputError(why_not("cpu"))


@contextlib.contextmanager
def replaced(driver, loaded):
    """In the block, Triton launches through another driver, and calls loaded(...) for each kernel that it loads."""
    active, hook = triton.runtime.driver._active, triton.knobs.runtime.kernel_load_end_hook
    triton.runtime.driver.set_active(driver)
    hook.add(loaded)
    try:
        yield
    finally:
        hook.remove(loaded)
        triton.runtime.driver._active = active


def emulating():
    """Whether kernels are run by `emulator`, on tensors of the CPU."""
    return getattr(triton.runtime.driver._active, "runs_on_cpu", False)


def within_reach(x):
    """x (B, ...) itself, or a contiguous copy if its last axis has a stride or an entry of the batch spans 2^31.

    Kernels compute offsets within an entry in 32 bits.
    """
    farthest = sum((size - 1) * step for size, step in zip(x.shape[1:], x.stride()[1:]))
    return x if x.stride(-1) == 1 and farthest < 2**31 else x.contiguous()


def expect(**shapes):
    """Raise InputError unless each name=(tensor, shape) has that shape: kernels read any address they are given."""
    for name, (x, shape) in shapes.items():
        if not isinstance(x, torch.Tensor):
            raise InputError(f"{name} is of {type(x).__name__}, expected a tensor {tuple(shape)}")
        if tuple(x.shape) != tuple(shape):
            raise InputError(f"{name} is {tuple(x.shape)}, expected {tuple(shape)}")


def expect_scalars(features, **scalars):
    """Raise InputError unless each name=tensor is one number on the device of the features. It may be of any dtype."""
    for name, x in scalars.items():
        expect(**{name: (x, ())})
        if x.device != features.device:
            raise InputError(f"{name} is on {x.device}, expected {features.device}, as the features")


def why_not(device=None):
    """The reason why kernels cannot run on a device (torch's name; None: the current GPU), or None if they can."""
    try:
        kind = ("cpu" if emulating() else "cuda") if device is None else torch.device(device).type
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    if INTERPRETING:
        return None if device is None or kind == "cpu" else "TRITON_INTERPRET=1 runs kernels on the CPU alone"
    if kind == "meta" or (kind == "cpu" and emulating()):  # see `offline` and `emulator`
        return None
    if kind != "cuda":
        return f"Triton's kernels run on a GPU, not on {device}; {WITHOUT}"
    if not torch.cuda.is_available():
        return f"torch sees no CUDA GPU; {WITHOUT}"
    if (torch.device(device or "cuda").index or 0) >= torch.cuda.device_count():
        return f"there is no {device}, only {torch.cuda.device_count()} GPUs"
    if torch.version.hip:  # Triton knows which of AMD's it compiles for
        return None
    major, minor = torch.cuda.get_device_capability(device)
    if 10 * major + minor < LEAST_CAPABILITY:
        return f"it has compute capability {major}.{minor}, the kernels need {LEAST_CAPABILITY / 10}"
    return None


def untried():
    """Whether kernels compile for the GPUs that this torch is made for, but nobody has run them there: AMD's."""
    return torch.version.hip is not None


def capability():
    """What kernels are compiled for: 10 · major + minor, 90 on an H100 or H200; an AMD GPU's architecture, "gfx942"."""
    return 90 if INTERPRETING else triton.runtime.driver.active.get_current_target().arch


def amd():
    """Whether kernels are compiled for a GPU of AMD."""
    return isinstance(capability(), str)


def choose(table, size):
    """The value for a size in {(least capability, largest size): value}: the smallest that fits, for the newest GPU.

    A GPU of AMD has the row ("gfx1201", math.inf) of its own architecture, if there is one, or else the rows of an
    Ampere: those of later capabilities need NVIDIA's copy engine, or more shared memory.
    """
    if amd() and (capability(), math.inf) in table:
        return table[capability(), math.inf]
    here = LEAST_CAPABILITY if amd() else capability()
    rows = [(largest, -least) for least, largest in table if isinstance(least, int)]
    largest, least = min((largest, least) for largest, least in rows if -least <= here and size <= largest)
    return table[-least, largest]


def count_warps(config):
    """A configuration whose warps have 32 threads, as on most GPUs, for this one: AMD's Instincts have warps of 64."""
    lanes = 32 if INTERPRETING else triton.runtime.driver.active.get_current_target().warp_size
    return {**config, "num_warps": max(1, config["num_warps"] * 32 // lanes)}


@functools.cache
def _processors(name):
    return torch.cuda.get_device_properties(name).multi_processor_count


def processors(x):
    """The number of multiprocessors of x's device; an H200's 132 if there is no GPU."""
    return _processors(x.device) if x.is_cuda else 132


def dot_precision(dtype):
    """`tl.dot`'s input_precision. float32 is multiplied as exactly as by torch; one tf32 product would lose 13 bits.

    NVIDIA: three products of tf32. AMD's Instincts multiply float32 itself. Its other GPUs have no matrix instruction
    for it: a number is split into three of bfloat16, 24 bits as a float32 has, and six products are summed; three of
    them ("bf16x3") would lose 8 bits.
    """
    if dtype != torch.float32:
        return "ieee"
    if not amd():
        return "tf32x3"
    return "ieee" if capability().startswith("gfx9") else "bf16x6"
