"""`python -m miniclip.kernels.emulator`: the error of every kernel that ships, beside torch's own, without a GPU."""

import argparse
import sys
import time

import torch

from miniclip.errors import WrongAnswer
from miniclip.kernels import oracle
from miniclip.kernels.device import INTERPRETING
from miniclip.kernels.emulator.driver import CAPABILITIES, emulating
from miniclip.kernels.ladder import describe
from miniclip.kernels.table import KERNELS

DTYPES = ("bfloat16", "float16", "float32")
# Sizes of CLIP's shapes are cut to these: the tiles are the same, and there are fewer of them.
MOST = {"B": 2, "H": 1, "rows": 5, "M": 257, "N": 320}


def shapes(kernel):
    """A kernel's shapes: those of its tests, and CLIP's, cut to what is emulated in a second or two."""
    cut = [{name: min(size, MOST.get(name, size)) for name, size in shape.items()} for shape in kernel.clip]
    return list({str(shape): shape for shape in (*kernel.small, *cut)}.values())


def error(kernel, inputs, capability):
    """(the error of a kernel, torch's own, seconds a program, whether it is right)."""
    check, usual = oracle.checker(kernel, inputs)
    with emulating(capability) as launches:
        kernel.ours(**inputs)  # compiles
        start = time.process_time()
        result = kernel.ours(**inputs)
        seconds = time.process_time() - start
    programs = sum(launch.programs for launch in launches) / 2
    try:
        found = check(result, slack=float("inf"))
    except WrongAnswer:
        found = float("nan")
    first = result[0] if isinstance(result, tuple) else result
    return found, usual, seconds / programs, found <= oracle.allowed(usual, first.dtype)


def main():
    parser = argparse.ArgumentParser(prog="python -m miniclip.kernels.emulator", description=__doc__)
    parser.add_argument("capabilities", nargs="*", type=int, default=[90, 80], metavar="|".join(map(str, CAPABILITIES)))
    parser.add_argument("--only", help="kernels whose name contains this")
    options = parser.parse_args()
    if INTERPRETING:
        parser.error("TRITON_INTERPRET=1 is set, so nothing would be compiled: unset it")
    if unknown := [capability for capability in options.capabilities if capability not in CAPABILITIES]:
        parser.error(f"the emulator has compute capabilities {', '.join(map(str, CAPABILITIES))}, not {unknown[0]}")
    if not any((options.only or "") in name for name in KERNELS):
        parser.error(f"no kernel's name contains {options.only}; there are {', '.join(KERNELS)}")
    wrong = 0
    print("error: max |x - exact| / max |exact|, exact in float64; seconds of the CPU that a program takes")
    print(f"{'capability':<11}{'dtype':<10}{'ours':>9}{'torch':>9}{'seconds':>9}")
    for name, kernel in KERNELS.items():
        for shape in shapes(kernel) if (options.only or "") in name else ():
            print(describe(name, shape))
            for capability in filter(kernel.runs_on, options.capabilities):
                for dtype in DTYPES:
                    torch.manual_seed(0)
                    inputs = kernel.inputs(lambda *size, d=dtype: torch.randn(size).to(getattr(torch, d)), **shape)
                    with torch.no_grad():
                        ours, usual, seconds, right = error(kernel, inputs, capability)
                    wrong += not right
                    mark = "" if right else "  WRONG"
                    print(f"{capability:<11}{dtype:<10}{ours:>9.1e}{usual:>9.1e}{seconds:>9.3f}{mark}", flush=True)
    sys.exit(f"{wrong} are off by more than twice torch's error" if wrong else 0)


if __name__ == "__main__":
    main()
