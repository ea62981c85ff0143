"""`miniclip bench kernels --autotune`: every candidate for a kernel's tiles, measured here; the fastest is recorded."""

import math
from functools import partial
from pathlib import Path

import torch

from miniclip.bench import records, session
from miniclip.kernels import device, tuning
from miniclip.kernels.bench import gpu_timing, oracle
from miniclip.kernels.bench.cases import KERNELS, describe, input_sets

SECONDS = 240  # unless others are asked for


def run(cases, rounds, path=None, seconds=None):
    """Tune for all cases of 16 bit, and add what is fastest to `path` (None: the cache's file) as it is found."""
    path = None if path is None else Path(path)
    groups = list(grouped(cases).values())
    for group in session.within(SECONDS if seconds is None else seconds, groups, lambda group: describe(group[0])):
        entry, count = tune(group, rounds)
        told = f"{entry['config']}, {entry['microseconds']:.1f} µs" if entry else "none that runs and is right"
        print(f"{describe(group[0])}: of {count} tiles {told}", flush=True)
        if entry:
            tuning.record([entry], path)


def grouped(cases):
    """{(module, key): cases}: those that find the same tiles, layer norm with and without a sum before it, say."""
    groups = {}
    for case in cases:
        kernel = KERNELS[case.kernel]
        if kernel.tuned and case.dtype != "float32" and not case.compiled:
            groups.setdefault((kernel.tuned.__name__, str(_key(case))), []).append(case)
    return groups


def _key(case):
    return KERNELS[case.kernel].key(**case.shape, dtype=getattr(torch, case.dtype))


def tune(group, rounds):
    """-> (the entry for `tuning.record`, how many candidates there were); None where none runs and is right.

    The fastest is the one with the least geometric mean over all cases of the group. A linear layer is held against
    the library's product with one pass more, too.
    """
    first, module = group[0], KERNELS[group[0].kernel].tuned
    candidates = dict(enumerate(module.candidates()))
    times = [_times(case, candidates, rounds) for case in group]  # of each case, {candidate or peer: microseconds}
    means = {i: math.prod(t[i] for t in times) ** (1 / len(times)) for i in candidates if all(i in t for t in times)}
    if not means:
        return None, len(candidates)
    best = min(means, key=means.get)
    config = candidates[best]
    if first.kernel == "linear":
        library = [times[0][name] for name in KERNELS["linear"].peers if name in times[0]]
        config = {**config, "fused": all(means[best] < time for time in library)}
    return {
        "kernel": module.__name__.rpartition(".")[2],
        "capability": device.capability(),
        "key": _key(first),
        "config": config,
        "microseconds": times[0][best],
        "device": torch.cuda.get_device_name(),
        "date": records.today(),
    }, len(candidates)


def _times(case, candidates, rounds):
    """{candidate's number, or peer: microseconds} of all that run and are right."""
    kernel = KERNELS[case.kernel]
    sets = input_sets(case, "cuda")
    inputs = next(sets)
    check, _ = oracle.checker(kernel, inputs)
    calls = {i: partial(kernel.ours, config=config) for i, config in candidates.items()}
    if case.kernel == "linear":
        calls |= kernel.peers
    right, _ = session.attempt({i: partial(call, **inputs) for i, call in calls.items()}, lambda i, x: check(x))
    sets = [inputs, *(next(sets) for _ in range(gpu_timing.how_many_sets(inputs) - 1))]
    return gpu_timing.kernel_medians({i: calls[i] for i in right}, sets, rounds)[0] if right else {}
