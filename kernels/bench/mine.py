"""`miniclip bench kernels --mine FILE.py:function --as OPERATION`: your kernel, checked as ours are, beside ours.

It is held to the laws that ours keep (`kernels/laws.py`), on a GPU, in Triton's interpreter, or in the emulator. What
breaks one is refused with one sentence. What keeps them is timed in turns with ours and the peers; without a GPU it is
compiled, and its cost is counted beside that of ours.
"""

import contextlib
import functools
import importlib.util
import inspect
import itertools
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch

from miniclip.bench import records, session, timing
from miniclip.errors import InputError, WrongAnswer
from miniclip.kernels import cycles, device, ladder, laws, offline, oracle
from miniclip.kernels.bench import cases, kernels
from miniclip.kernels.table import KERNELS
from miniclip.learn import catalogue, mistakes
from miniclip.learn.holding import describe
from miniclip.ops import numpy_ops, torch_ops

# Without a GPU, CLIP's shapes are checked with so few of what only repeats the same program, and for so many seconds.
FEW = {"B": 1, "H": 1, "rows": 3, "M": 17}
SECONDS = 60


def run(target, operation, *, emulate=False, quick=False, seconds=None, out=None):
    """Check the function of `target`, "FILE.py:function", as an operation; then time it, or count what it costs.

    Raises InputError if it cannot be loaded or called, and if it breaks a law: then nothing is timed. Nothing is
    recorded unless `out` is a directory. `seconds` limits the checks of CLIP's shapes without a GPU, and the timing.
    """
    if operation not in KERNELS:
        raise InputError(f"there is no operation {operation!r} for --as; choose one of {', '.join(KERNELS)}")
    call = _careful(load(target), target)
    place = _place(emulate)
    print(f"{target} as {operation}, {PLACES[place]}", flush=True)
    with torch.no_grad():
        with emulating() if place == "emulator" else contextlib.nullcontext():
            check(operation, call, target, place, seconds)
        if place == "cuda":
            measure(operation, call, quick=quick, seconds=seconds, out=out)
        else:
            count(operation, call)


# ----------------------------------------------------------------------------------------- loading and calling


def load(target):
    """The function of "FILE.py:function". The file is run in this process. Raises InputError if there is none."""
    file, _, name = target.rpartition(":")
    path = Path(file)
    if not file or not name.isidentifier():
        raise InputError(f"--mine takes FILE.py:FUNCTION, not {target!r}")
    if not path.is_file():
        raise InputError(f"--mine: there is no file {file}")
    sys.path.insert(0, str(path.resolve().parent))  # for what it imports from beside it
    spec = importlib.util.spec_from_file_location("mine", path)
    if spec is None:
        raise InputError(f"--mine takes a file of Python, whose name ends with .py, not {file}")
    module = sys.modules["mine"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # it is anyone's code
        raise InputError(f"{file} cannot be imported: it {describe(error, path)}") from error
    function = getattr(module, name, None)
    if hasattr(function, "fn") and hasattr(function, "__getitem__"):
        raise InputError(f"{target} is a Triton kernel: name the function that launches it, and returns the result")
    if not callable(function):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == "mine"]
        raise InputError(f"{file} has no function {name}; it has {', '.join(there) or 'none'}")
    return function


def _careful(function, target):
    """The function; what it raises is a WrongAnswer that says where, except what the emulator does not know."""
    path = Path(target.rpartition(":")[0])

    @functools.wraps(function)
    def call(**inputs):
        try:
            inspect.signature(function).bind(**inputs)
        except TypeError as error:
            raise WrongAnswer(f"it cannot be called with ({', '.join(inputs)}): {error}") from error
        except ValueError:  # a function of C, whose signature is unknown
            pass
        try:
            return function(**inputs)
        except WrongAnswer:
            raise
        except (Exception, SystemExit) as error:
            if getattr(error, "may_be_right", False):  # `emulator.errors.Unknown`, which is not loaded on a GPU
                raise InputError(
                    f"{target} cannot be checked in the emulator: set TRITON_INTERPRET=1, or take a GPU; {error}"
                ) from error
            raise WrongAnswer(f"it {describe(error, path)}") from error

    return call


# ------------------------------------------------------------------------------------------------- checking

PLACES = {
    "cuda": "on this GPU",
    "interpreter": "in Triton's interpreter, which has no bfloat16",
    "emulator": "in the emulator, compiled for compute capability 9.0",
}


def _place(emulate):
    if emulate and device.INTERPRETING:
        raise InputError("--emulate runs what is compiled, and TRITON_INTERPRET=1 compiles nothing: unset it")
    if device.INTERPRETING:
        return "interpreter"
    return "emulator" if emulate or device.emulating() or device.why_not() else "cuda"


def emulating():
    from miniclip.kernels import emulator

    return emulator.emulating()


def check(operation, call, target, place, seconds):
    """Hold a function to the laws, small shapes first. Raises InputError with the first law that is broken."""
    kernel, on = KERNELS[operation], "cuda" if place == "cuda" else "cpu"
    dtypes = [torch.float32, torch.float16, torch.bfloat16][: 2 if place == "interpreter" else 3]
    cases = list(itertools.product(kernel.small, dtypes))
    for shape, dtype in cases:
        with _named(operation, shape, dtype, target, call, on):
            print_errors(operation, shape, dtype, laws.hold(kernel, call, shape, dtype, on))
    end = time.monotonic() + (float("inf") if place == "cuda" else SECONDS if seconds is None else seconds)
    shapes = [shape if place == "cuda" else few(shape) for shape in kernel.clip or kernel.compiled[:1]]
    for i, shape in enumerate(shapes):
        if time.monotonic() >= end:
            print(f"not checked, time is over: {'; '.join(ladder.describe(operation, x) for x in shapes[i:])}")
            break
        with _named(operation, shape, dtypes[-1], target, call, on):
            print_errors(operation, shape, dtypes[-1], answer(kernel, call, shape, dtypes[-1], on))


def few(shape):
    """A shape of CLIP's that the CPU computes in seconds: less of what repeats the same program."""
    return {name: min(size, FEW.get(name, size)) for name, size in shape.items()}


def answer(kernel, call, shape, dtype, place):
    """The error of a call at a shape, and torch's: the law of the right answer alone."""
    torch.manual_seed(0)
    inputs = kernel.inputs(functools.partial(ladder.randn, dtype=dtype, device=place), **shape)
    check_one, usual = oracle.checker(kernel, inputs)
    (*results,) = laws.results_of(call, inputs)
    return check_one(tuple(results)), usual


@contextlib.contextmanager
def _named(operation, shape, dtype, target, call, place):
    """Add to a WrongAnswer what was computed, and which common mistake it looks like."""
    try:
        yield
    except WrongAnswer as error:
        mistake = looks_like(operation, call, shape, place)
        raise InputError(
            f"{target} is refused, and nothing is timed: {_case(operation, shape, dtype)}: {error}"
            + (f"; it behaves as if {mistake}" if mistake else "")
        ) from error


def _case(operation, shape, dtype):
    return f"{ladder.describe(operation, shape)} {str(dtype).removeprefix('torch.')}"


def print_errors(operation, shape, dtype, errors):
    print(f"  right: {_case(operation, shape, dtype):<56} error {errors[0]:.1e}, torch's {errors[1]:.1e}", flush=True)


def looks_like(operation, call, shape, place):
    """The mistake in the course's catalogue whose function gives what a call gives, in words; None if there is none.

    It must be 50 times nearer to the mistake than the right answer is.
    """
    kernel, right = KERNELS[operation], getattr(numpy_ops, operation, None)
    if kernel.plain is not getattr(torch_ops, operation, None):  # it has other arguments
        return None
    torch.manual_seed(0)
    inputs = kernel.inputs(functools.partial(ladder.randn, dtype=torch.float32, device=place), **shape)
    try:
        got = [torch_ops.to_numpy(x) for x in laws.results_of(call, laws.copied(inputs))]
    except WrongAnswer:
        return None
    arrays = {name: torch_ops.to_numpy(x) if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    answer = oracle.several(right(**arrays))
    with np.errstate(all="ignore"):
        for as_if, function in _wrong_functions(right):
            try:
                wrong = oracle.several(function(**arrays))
            except ValueError:  # weights of another shape, which do not fit the values
                continue
            alike = [x.shape for x in got] == [x.shape for x in wrong] == [x.shape for x in answer]
            if alike and _distance(got, wrong) <= 0.02 * _distance(answer, wrong):
                return as_if
    return None


def _wrong_functions(right):
    """(in words, function) for each mistake in a function of `numpy_ops`, or in what it calls."""
    exercises = catalogue.choose(tracks=["numpy"])
    for exercise in sorted(exercises, key=lambda exercise: exercise.name != right.__name__):  # its own mistakes first
        if exercise.module == right.__module__ and exercise.name in (right.__name__, *right.__code__.co_names):
            for mutant in exercise.mutants:
                function = mistakes.function(exercise, mutant)
                if exercise.name != right.__name__:
                    scope = {**vars(numpy_ops), exercise.name: function}
                    function = types.FunctionType(right.__code__, scope, argdefs=right.__defaults__)
                    function.__kwdefaults__ = right.__kwdefaults__
                yield mutant.as_if, function


def _distance(results, others):
    return max(abs(x - y).max() for x, y in zip(results, others))


# ------------------------------------------------------------------------------------------ timing and counting


def measure(operation, call, *, quick, seconds, out):
    """Time it in turns with our last version and the peers, at CLIP's shapes. Recorded only if `out` is a directory."""
    directory = None if out is None else records.writable(out)
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    facts = {"device": torch.cuda.get_device_name(), "versions": records.versions(), "date": records.today()}
    chosen = [case for case in cases.MAIN if case.kernel == operation]
    chosen = chosen or [cases.Case(operation, shape) for shape in KERNELS[operation].compiled[:1]]
    dtypes = {case.dtype for case in chosen}
    print()
    measure_one = kernels.measurer(dtypes, rounds=rounds, ladder=False, facts=facts, yours=call)
    session.run(chosen, measure_one, cases.describe, directory, seconds)


def count(operation, call):
    """Compile it for compute capability 9.0 at CLIP's shapes, and print what it costs beside ours."""
    if device.INTERPRETING:
        print("TRITON_INTERPRET=1 is set, so nothing is compiled: without it, registers and instructions are counted")
        return
    kernel = KERNELS[operation]
    print("\ncounted for compute capability 9.0 in bfloat16, not measured")
    for shape in kernel.clip or kernel.compiled[:1]:
        print(ladder.describe(operation, shape))
        for name, function in {"yours": call, "miniclip": kernel.ours}.items():
            for line in costs(kernel, function, shape):
                print(f"  {name:<9} {line}", flush=True)


def costs(kernel, call, shape):
    """A line for each kernel that a call launches at a shape: what it is compiled to. Nothing is run."""
    inputs = kernel.inputs(lambda *size: torch.empty(size, dtype=torch.bfloat16, device="meta"), **shape)
    try:
        with offline.compiling(90) as compiled:
            laws.results_of(call, inputs)
    except WrongAnswer as error:
        return [f"cannot be compiled without data: {error}"]
    least = kernel.work(**shape)[1] * torch.bfloat16.itemsize
    return [_cost(x, least) for x in compiled] or ["launches no Triton kernel: there is nothing to count"]


def _cost(compiled, least):
    try:
        estimate = cycles.estimate(compiled, cycles.H100, least)
        time = f"{estimate.cycles:,.0f} cycles a program by the model, {estimate.microseconds:,.0f} µs on an H100"
    except InputError as error:  # its way depends on data, for example
        time = f"the model cannot follow it: {error}"
    parts = [
        f"{compiled.instructions:,} instructions",
        f"{compiled.registers} registers",
        f"{compiled.local} bytes spilled",
        f"{compiled.shared:,} bytes shared",
        f"{compiled.programs_per_processor} programs at once",
        time,
        *compiled.warnings,
    ]
    return f"{compiled.name}: {', '.join(parts)}"
