"""Counts what kernels cost on an H100 and H200 without one: instructions, registers, and cycles by the model.

    python -m miniclip.kernels.cycles attention T=197      every version of a kernel, for the shapes that it ships for
    python -m miniclip.kernels.cycles --write              the table in kernels/README.md

The times are a model's: good to perhaps 25%, to compare versions with, and no measurement.
"""

import argparse
from pathlib import Path

import torch

from miniclip.errors import InputError
from miniclip.kernels import cycles, offline
from miniclip.kernels.device import INTERPRETING
from miniclip.kernels.ladder import describe
from miniclip.kernels.table import KERNELS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- counted -->", "<!-- /counted -->"
SHOWN = (  # what the table in README.md shows
    "attention B=256 T=50 H=12",
    "attention B=256 T=77",
    "attention B=256 T=197",
    "attention B=256 T=257",
    "attention B=256 T=577",
    "layer_norm rows=50000 D=768",
    "add_layer_norm rows=50000 D=768",
    "quick_gelu rows=12800",
    "gelu rows=12800",
    "linear M=12800",
    "patch_embed B=256 P=32",
    "similarity B=4096",
)
HEADER = """\
| kernel | version | instructions | registers | programs at once | issued | cycles | H100, µs | H200, µs | bound by |
|---|---|---|---|---|---|---|---|---|---|
"""


def rows(words, dtype):
    """A line of the table for each kernel that a version launches, for the shapes whose description has all `words`."""

    def new(*shape):
        return torch.empty(shape, dtype=dtype, device="meta")

    for what, kernel, shape in chosen(words):
        for version, call in kernel.versions.items():
            with offline.compiling(90) as compiled:
                call(**kernel.inputs(new, **shape))
            least = kernel.work(**shape)[1] * dtype.itemsize
            for launch in compiled:
                yield row(what, version, launch, least)


def chosen(words):
    """[(description, Kernel, shape)] of the shapes that ship, those whose description has all `words`."""
    shapes = [(describe(name, shape), kernel, shape) for name, kernel in KERNELS.items() for shape in kernel.clip]
    return [(what, kernel, shape) for what, kernel, shape in shapes if set(words) <= set(what.split())]


def row(what, version, launch, least):
    """A line of the table: `launch`, an `offline.Compiled`, must move `least` bytes."""
    cells = (
        what,
        version.removeprefix("version "),
        f"{launch.instructions:,}",
        launch.registers,
        launch.programs_per_processor,
        *_estimated(launch, least),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _estimated(launch, least):
    """The cells of a line that the model gives."""
    try:
        estimates = [cycles.estimate(launch, gpu, least) for gpu in (cycles.H100, cycles.H200)]
    except InputError as error:  # its way depends on data, for example
        return "", "", "", "", f"the model cannot follow it: {error}"
    bounds = dict.fromkeys(f"{estimate.bound} {estimate.used[estimate.bound]:.0%}" for estimate in estimates)
    return (
        f"{estimates[0].issued:,.0f}",
        ", ".join(dict.fromkeys(f"{estimate.cycles:,.0f}" for estimate in estimates)),
        *(f"{estimate.microseconds:,.0f}" for estimate in estimates),
        ", ".join(bounds),
    )


def write():
    """Put the table into README.md, between its marks."""
    lines = [line for shown in SHOWN for line in rows(shown.split(), torch.bfloat16)]
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{HEADER}" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(prog="python -m miniclip.kernels.cycles", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="a kernel's name and sizes: attention T=197")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--write", action="store_true", help="write the table in kernels/README.md; takes minutes")
    options = parser.parse_args()
    if INTERPRETING:
        parser.error("TRITON_INTERPRET=1 is set, so nothing would be compiled: unset it")
    if options.write:
        return write()
    if not chosen(options.words):
        names = dict.fromkeys(what.split()[0] for what, *_ in chosen([]))
        sizes = [what for what, *_ in chosen(options.words[:1])]
        parser.error(
            f"nothing that ships is {' '.join(options.words)}; there is {'; '.join(sizes) or ', '.join(names)}"
        )
    print(HEADER, end="")
    for line in rows(options.words, getattr(torch, options.dtype)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
