"""`miniclip bench export OPERATION`: the operation as a task of GPU MODE's kernel competitions, or of KernelBench.

The files need torch and triton, not miniclip: `bundle` gathers their source. Right is what our own tests call right, in
GPU MODE's form; KernelBench has its own tolerance.
"""

import re
from functools import partial
from pathlib import Path

import torch

from miniclip._version import __version__
from miniclip.errors import InputError
from miniclip.kernels import ladder, oracle
from miniclip.kernels.bench.bundle import bundle, expression
from miniclip.kernels.table import KERNELS
from miniclip.runtime.files import write_atomically

FEWER = {"B": 4, "rows": 200, "M": 100}  # of CLIP's shapes, in what is only tested


def run(operation, *, to=None, form="gpumode", dtype="bfloat16", overwrite=False):
    """Write the files of a task into the folder `to` (None: OPERATION-FORM), and print their paths.

    Raises InputError for an unknown operation, and for files that are there already unless `overwrite`.
    """
    if operation not in KERNELS:
        raise InputError(f"there is no operation {operation!r}; choose one of {', '.join(KERNELS)}")
    folder = Path(to or f"{operation}-{form}")
    files = {"gpumode": gpumode, "kernelbench": kernelbench}[form](operation, dtype)
    there = [name for name in files if (folder / name).exists()]
    if there and not overwrite:
        raise InputError(f"{folder} has {', '.join(there)} already: pass --overwrite, or another folder with --to")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(folder / name, text.encode())
            print(folder / name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error


def _shapes(kernel):
    """CLIP's shapes, or one that is compiled if CLIP has none, with numbers only: names cannot be in a test's line."""
    return [s for s in kernel.clip or kernel.compiled[:1] if not any(isinstance(x, str) for x in s.values())]


def _sample(kernel, shape, device="meta"):
    """{argument: value} at a shape; on the device "meta" without memory."""
    return kernel.inputs(partial(ladder.randn, dtype=torch.float32, device=device), **shape)


def records(kernel):
    """{argument: its class} of the arguments that are neither tensors nor options, but tuples with names."""
    sample = _sample(kernel, kernel.small[0], "cpu")
    return {name: type(x) for name, x in sample.items() if isinstance(x, tuple)}


# ------------------------------------------------------------------------------------------------ GPU MODE


def gpumode(operation, dtype):
    """{file: text} of a folder of GPU MODE's reference-kernels; eval.py and utils.py are in that repository."""
    kernel = KERNELS[operation]
    return {
        "reference.py": _reference(operation, kernel, dtype),
        "task.py": _task(kernel),
        "task.yml": _task_yml(operation, kernel, dtype),
        "template.py": TEMPLATE.format(operation=operation),
        "submission.py": SUBMISSION.format(
            operation=operation,
            version=__version__,
            source=bundle([kernel.ours, *records(kernel).values()], ["from task import input_t, output_t"]),
            call=_call(kernel, kernel.ours),
        ),
    }


def _call(kernel, function):
    """A call with `data`, where the runner's copy of a tuple with names has lost them."""
    given = "".join(f', "{name}": {kind.__name__}(*data["{name}"])' for name, kind in records(kernel).items())
    return f"{expression(function)}(**{f'{{**data{given}}}' if given else 'data'})"


def _flags(kernel):
    """The names of sizes that are yes or no."""
    sizes = [size for shape in (*kernel.small, *_shapes(kernel)) for size in shape.items()]
    return tuple(sorted({name for name, value in sizes if isinstance(value, bool)}))


def _reference(operation, kernel, dtype):
    functions = [kernel.plain, kernel.inputs, *records(kernel).values()]
    return REFERENCE.format(
        operation=operation,
        version=__version__,
        source=bundle(functions, ["import torch", "from task import input_t, output_t"]),
        dtype=dtype,
        slack=oracle.SLACK,
        rows=kernel.rows,
        flags=_flags(kernel),
        inputs=expression(kernel.inputs),
        call=_call(kernel, kernel.plain),
    )


def _task(kernel):
    sizes = dict.fromkeys(name for shape in (*kernel.small, *_shapes(kernel)) for name in shape)
    return TASK.format(sizes="".join(f"    {size}: NotRequired[int]\n" for size in sizes))


def _task_yml(operation, kernel, dtype):
    clip = _shapes(kernel)
    tests = [*kernel.small, *({n: min(x, FEWER.get(n, x)) for n, x in shape.items()} for shape in clip)]
    tests = [shape for shape in tests if not any(isinstance(x, str) for x in shape.values())]
    example = _sample(kernel, kernel.small[0], "cpu")
    results = oracle.several(kernel.plain(**example))
    return TASK_YML.format(
        operation=operation,
        dtype=dtype,
        takes="\n".join(f"    {name}: {_text(x)}" for name, x in example.items()),
        gives=", ".join(map(_text, results)),
        at=ladder.describe("At", kernel.small[0]),
        tests=_lines(tests, 1000),
        benchmarks=_lines(clip, 2000),
    )


def _text(x):
    """A tensor's shape, or an option."""
    if isinstance(x, tuple):
        return ", ".join(f"{name} {_text(field)}" for name, field in zip(x._fields, x))
    return str(tuple(x.shape)) if isinstance(x, torch.Tensor) else repr(x)


def _lines(shapes, seed):
    """Shapes as lines of task.yml. The runner reads numbers and names: true would arrive as the text "True"."""
    return "".join(
        "  - {" + ", ".join(f'"{n}": {int(x)}' for n, x in {**shape, "seed": seed + i}.items()) + "}\n"
        for i, shape in enumerate(shapes)
    )


REFERENCE = '''\
"""{operation}, as torch computes it, and what is right. Written by miniclip {version}."""

{source}

DTYPE = torch.{dtype}
FLAGS = {flags}  # sizes that are yes or no: a line of a test has 1 or 0
ROWS = {rows}  # the inputs that have one row for each row of the results; if none, results may be sums over rows
PARTS = 16  # what is right is computed in so many parts, to save memory


def generate_input(seed: int, **shape: int) -> input_t:
    """The arguments of {operation}, by name."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    shape = {{name: bool(size) if name in FLAGS else size for name, size in shape.items()}}
    make = {inputs}
    return make(lambda *size: torch.randn(size, generator=generator, device=device).to(DTYPE), **shape)


def ref_kernel(data: input_t) -> output_t:
    return {call}


def check_implementation(data: input_t, output: output_t) -> tuple[bool, str]:
    """Right is at most {slack} times as far from float64 as torch's own result, beyond the rounding of a result."""
    outputs = output if isinstance(output, tuple) else (output,)
    rows = [len(data[ROWS[0]])] if ROWS else []
    worst = None
    for part in torch.arange(*rows, device=data[ROWS[0]].device).chunk(PARTS) if ROWS else [slice(None)]:
        few = {{name: x[part] if name in ROWS else x for name, x in data.items()}}
        wide = {{name: x.double() if _is_float(x) else x for name, x in few.items()}}
        exact, usual = ref_kernel(wide), ref_kernel(few)
        exact, usual = (x if isinstance(x, tuple) else (x,) for x in (exact, usual))
        shapes = [(*(rows or x.shape[:1]), *x.shape[1:]) for x in exact]
        if [tuple(x.shape) for x in outputs] != shapes:
            return False, f"its shapes are {{[tuple(x.shape) for x in outputs]}}, not {{shapes}}"
        if [x.dtype for x in outputs] != [x.dtype for x in usual]:
            return False, f"it gives {{[x.dtype for x in outputs]}}, not {{[x.dtype for x in usual]}}"
        # of each result: its error, torch's, and the largest number
        found = [
            torch.stack([(o[part].double() - e).abs().max(), (u.double() - e).abs().max(), e.abs().max()])
            for o, u, e in zip(outputs, usual, exact)
        ]
        worst = found if worst is None else [torch.maximum(a, b) for a, b in zip(worst, found)]  # NaN stays
    for error, torchs, largest in (x.tolist() for x in worst):
        allowed = {slack} * torchs + torch.finfo(outputs[0].dtype).eps * largest
        if not error <= allowed:
            return False, f"wrong by {{error / largest:.1e}} of the largest value, {{allowed / largest:.1e}} is allowed"
    return True, ""


def _is_float(x):
    return isinstance(x, torch.Tensor) and x.is_floating_point()
'''
TASK = """\
from typing import NotRequired, TypedDict, TypeVar

import torch

input_t = TypeVar("input_t", bound=dict)  # {{argument: a tensor or an option}}
output_t = TypeVar("output_t", bound=torch.Tensor | tuple[torch.Tensor, ...])


class TestSpec(TypedDict):
{sizes}    seed: int
"""
TASK_YML = """\
# name: miniclip-{operation}

files:
  - {{"name": "submission.py", "source": "@SUBMISSION@"}}
  - {{"name": "task.py", "source": "task.py"}}
  - {{"name": "utils.py", "source": "../utils.py"}}
  - {{"name": "reference.py", "source": "reference.py"}}
  - {{"name": "eval.py", "source": "../eval.py"}}

lang: "py"

description: |
  CLIP's {operation} in {dtype}, forward only. `data` is a dictionary of arguments. {at}:

{takes}

  and the result is {gives}.
  Right is what is at most twice as far from float64 as torch's own result, beyond the rounding of the result.

config:
  main: "eval.py"

templates:
  Python: "template.py"

test_timeout: 300
benchmark_timeout: 300
ranked_timeout: 600
ranking_by: "geom"

tests:
{tests}
benchmarks:
{benchmarks}"""
TEMPLATE = '''\
"""Where a submission for {operation} begins: torch's own operation. Put your kernel instead of it."""

from reference import ref_kernel
from task import input_t, output_t


def custom_kernel(data: input_t) -> output_t:
    return ref_kernel(data)
'''
SUBMISSION = '''\
"""{operation}: the kernel of miniclip {version}, in one file. All versions of it are here; the last one runs."""

{source}

def custom_kernel(data: input_t) -> output_t:
    return {call}
'''


# --------------------------------------------------------------------------------------------- KernelBench


def kernelbench(operation, dtype):
    """{file: text} for KernelBench: a problem for each of CLIP's shapes, and model_new.py, which solves all of them."""
    kernel = KERNELS[operation]
    if refused := records(kernel):
        raise InputError(
            f"KernelBench's runner makes all inputs numbers of one dtype, also {', '.join(refused)} of {operation}: "
            f"pass --form gpumode"
        )
    sample = _sample(kernel, _shapes(kernel)[0])
    tensors = [name for name, x in sample.items() if isinstance(x, torch.Tensor)]
    options = [name for name in sample if name not in tensors]
    several = len(oracle.several(kernel.plain(**sample))) > 1

    def model(title, function):
        arguments = [*(f"{name}={name}" for name in tensors), *(f"{name}=self.{name}" for name in options)]
        call = f"{expression(function)}({', '.join(arguments)})"
        return MODEL.format(
            name=title,
            parameters="".join(f", {option}" for option in options),
            fields="".join(f"        self.{option} = {option}\n" for option in options),
            tensors=", ".join(tensors),
            call=f"torch.cat([x.flatten() for x in {call}])" if several else call,
        )

    files = {}
    for i, shape in enumerate(_shapes(kernel), 1):
        init = [x for name, x in _sample(kernel, shape).items() if name in options]
        sizes = "_".join(f"{name}{int(x)}" for name, x in shape.items())
        files[f"{i}_{operation}_{sizes}.py"] = PROBLEM.format(
            operation=operation,
            version=__version__,
            shape=ladder.describe("at", shape),
            source=bundle([kernel.plain, kernel.inputs], ["import torch", "from torch import nn"]),
            model=model("Model", kernel.plain),
            sizes=", ".join(f"{name}={x!r}" for name, x in shape.items()),
            inputs=expression(kernel.inputs),
            tensors=tensors,
            init=init,
        )
    files["model_new.py"] = MODEL_NEW.format(
        operation=operation,
        version=__version__,
        source=_without_pass(bundle([kernel.ours], ["import torch", "from torch import nn"], docstrings=False)),
        model=model("ModelNew", kernel.ours),
    )
    return files


def _without_pass(text):
    """The text with another word in its messages: KernelBench's static check refuses any "pass"."""
    return re.sub(r"\bpass\b", "give", text)


MODEL = """\
class {name}(nn.Module):
    def __init__(self{parameters}):
        super().__init__()
{fields}
    def forward(self, {tensors}):
        return {call}
"""
PROBLEM = '''\
"""CLIP's {operation} {shape}, as torch computes it. Written by miniclip {version}; run it with precision bf16."""

{source}

{model}

def get_inputs():
    inputs = {inputs}(lambda *size: torch.randn(size), {sizes})
    return [inputs[name] for name in {tensors}]


def get_init_inputs():
    return {init}
'''
MODEL_NEW = '''\
"""{operation}: the kernel of miniclip {version}, in one file, for KernelBench with backend triton."""

{source}

{model}'''
