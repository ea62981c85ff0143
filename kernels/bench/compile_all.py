"""Compiles all that `miniclip bench kernels` and `bench models` launch, before the first launch, on all cores.

A kernel is compiled when it is first launched, one after another, while the GPU waits. Here nothing is launched, and
Triton's cache has the kernels afterwards: python -m miniclip.kernels.bench.compile_all. Without a GPU they are compiled
for an H100: it shows that all compile.
"""

import argparse
import dataclasses
import multiprocessing
import os
import sys
import time
from functools import partial

import torch

from miniclip import ops, params
from miniclip.bench import session
from miniclip.kernels import device, offline
from miniclip.kernels.bench import cases, models

LAYERS = 2  # of a tower: the first ones are alike, the last one computes one token


def launches():
    """{what: a function that launches it}, on tensors of the device "meta"."""
    found = {}
    for case in [*cases.CASES, *cases.LADDERS]:
        kernel = cases.KERNELS[case.kernel]
        what = cases.describe(case._replace(modes=()))
        found[what] = partial(_launch, kernel.ours, case)
        if case in cases.LADDERS:
            for name, version in kernel.versions.items():
                found[f"{what}, {name}"] = partial(_launch, version, case)
    for tower, name in models.TOWERS:
        for B in models.BATCHES["cuda", tower]:
            found[models.Case(tower, name, B).name + f" B={B}"] = partial(_encode, tower, name, B)
    return found


def _launch(call, case):
    call(**next(cases.input_sets(case, "meta")))


def _encode(tower, name, B):
    config = models.alone(models.CONFIGS[name], tower)
    part = getattr(config, tower)
    if hasattr(part, "layers"):
        config = dataclasses.replace(config, **{tower: dataclasses.replace(part, layers=LAYERS)})
    dtype = models.DTYPES["cuda"]
    flat = {name: torch.empty(shape, device="meta") for name, shape in params.flatten(config.shapes()).items()}
    kind = models.families.of(config).model
    model = kind(config, params.unflatten(flat), ops.select("triton", "meta"), device="meta", dtype=dtype)
    inputs = models._inputs(config, tower, B, "meta")
    if tower == "visual":
        model.encode_image(inputs.to(getattr(torch, dtype)))
    else:
        model.encode_text(inputs.numpy())


def compile_some(first, step, capability):
    """Compile every `step`-th launch from the `first` on: -> [what failed and why]."""
    failures = []
    for what, launch in list(launches().items())[first::step]:
        try:
            with torch.no_grad(), offline.compiling(capability):
                launch()
        except Exception as error:  # the others are worth compiling
            failures.append(f"{what}: {session.reason(error)}")
    return failures


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m miniclip.kernels.bench.compile_all", description=__doc__)
    parser.add_argument("--processes", type=int, default=min(12, os.cpu_count() or 1), metavar="N")
    options = parser.parse_args(arguments)
    capability = 90 if device.why_not() else device.capability()
    start, n = time.monotonic(), options.processes
    with multiprocessing.get_context("spawn").Pool(n) as pool:
        parts = pool.starmap(compile_some, [(i, n, capability) for i in range(n)])
    failures = [failure for some in parts for failure in some]
    took = f"{time.monotonic() - start:.0f} s by {n} processes"
    print(f"{len(launches()) - len(failures)} cases compiled for {capability} in {took}")
    if failures:
        sys.exit("\n".join(["these do not compile:", *failures]))


if __name__ == "__main__":
    main()
