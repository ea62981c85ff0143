"""Why the slowest attention takes its time: `ncu` reads the GPU's own counters while it runs once.

python -m miniclip.kernels.bench.counters, after `miniclip bench kernels`. Without ncu, or if it may not read the
counters, there is nothing to show, and that is said.
"""

import json
import shutil
import subprocess
import sys

import torch

from miniclip.bench import records
from miniclip.kernels.bench.cases import KERNELS, TOKENS, Case, input_sets
from miniclip.kernels.bench.report import RESULTS

SECTIONS = ("SpeedOfLight", "SchedulerStats", "WarpStateStats", "Occupancy", "LaunchStats", "MemoryWorkloadAnalysis")


def slowest(found):
    """The shape of attention at B = 256 that is furthest from its limit; T = 197 if none has been measured."""
    shapes = [
        (r["share_of_limit"], r["shape"])
        for r in found
        if r["name"] == "attention" and r["shape"] in TOKENS and r["dtype"] == "bfloat16" and r["share_of_limit"]
    ]
    usual = next(shape for shape in TOKENS if shape["T"] == 197)
    return min(shapes, key=lambda pair: pair[0])[1] if shapes else usual


def run(shape):
    """Call attention twice; the second call is what ncu looks at."""
    inputs = next(input_sets(Case("attention", shape), "cuda"))
    with torch.no_grad():
        KERNELS["attention"].ours(**inputs)
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        KERNELS["attention"].ours(**inputs)
        torch.cuda.profiler.stop()
        torch.cuda.synchronize()


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments:
        run(json.loads(arguments[0]))
        return
    ncu = shutil.which("ncu")
    if ncu is None:
        print("ncu is not installed: no counters")
        return
    shape = slowest(records.read(RESULTS, records.own(RESULTS), missing_ok=True))
    print(f"counters of attention {json.dumps(shape)}", flush=True)
    sections = [argument for name in SECTIONS for argument in ("--section", name)]
    # The clocks stay as they are: they are not ours to change.
    program = [sys.executable, "-m", "miniclip.kernels.bench.counters", json.dumps(shape)]
    done = subprocess.run([ncu, "--clock-control", "none", "--profile-from-start", "off", *sections, *program])
    if done.returncode:
        print(f"ncu ended with {done.returncode}: no counters")


if __name__ == "__main__":
    main()
