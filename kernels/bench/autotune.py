"""`miniclip bench kernels --autotune`: measures every candidate for a kernel's tiles here, and records the fastest."""

import math
from functools import partial
from pathlib import Path

import torch

from miniclip.bench import records, session
from miniclip.errors import InputError
from miniclip.kernels import device, oracle, tuning
from miniclip.kernels.bench import gpu_timing, isolated
from miniclip.kernels.bench.cases import KERNELS, describe, input_sets

SECONDS = 240  # the default


def run(cases, rounds, path=None, seconds=None):
    """Tune for all cases in 16 bit types, and add the fastest of each to `path` (None: the cache's file) at once."""
    path = None if path is None else Path(path)
    groups = list(grouped(cases).values())
    for group in session.within(SECONDS if seconds is None else seconds, groups, lambda group: describe(group[0])):
        try:
            entry, count = tune(group, rounds)
        except Exception as error:  # the other kernels' tiles are worth finding
            print(f"{describe(group[0])}: not tuned: {session.reason(error)}", flush=True)
            if not isolated.usable():
                raise InputError("the GPU cannot be used any more by this process: tune others with --only") from error
            continue
        fastest = f"{entry['config']}, {entry['microseconds']:.1f} µs" if entry else "none that runs and is right"
        print(f"{describe(group[0])}: of {count} tiles {fastest}", flush=True)
        if entry:
            tuning.record([entry], path)


def grouped(cases):
    """{(tuned, key): cases} that find the same tiles, such as layer norm with and without a residual sum."""
    groups = {}
    for case in cases:
        kernel, case = KERNELS[case.kernel], case._replace(modes=())
        if kernel.tuned and case.dtype != "float32" and case not in groups.get((kernel.tuned, str(_key(case))), ()):
            groups.setdefault((kernel.tuned, str(_key(case))), []).append(case)
    return groups


def _key(case):
    return KERNELS[case.kernel].key(**case.shape, dtype=getattr(torch, case.dtype))


def tune(group, rounds):
    """The fastest candidate for a group: -> (entry for `tuning.record` or None if none runs and is right, how many).

    The fastest has the least geometric mean over all cases of the group. A linear layer is also compared with the
    library's product and one more pass.
    """
    first, kernel = group[0], KERNELS[group[0].kernel]
    candidates = dict(enumerate(kernel.candidates()))
    times = [_times(case, candidates, rounds) for case in group]  # of each case, {candidate or peer: microseconds}
    means = {i: math.prod(t[i] for t in times) ** (1 / len(times)) for i in candidates if all(i in t for t in times)}
    if not means:
        return None, len(candidates)
    best = min(means, key=means.get)
    config = candidates[best]
    if first.kernel == "linear":
        library = [times[0][name] for name in kernel.peers if name in times[0]]
        config = {**config, "fused": all(means[best] < time for time in library)}
    return {
        "kernel": kernel.tuned,
        "capability": device.capability(),
        "key": _key(first),
        "config": config,
        "microseconds": times[0][best],
        "device": torch.cuda.get_device_name(),
        "date": records.today(),
    }, len(candidates)


def _times(case, candidates, rounds):
    """{a candidate's number, or a peer: microseconds} of all that run and are right."""
    kernel = KERNELS[case.kernel]
    sets = input_sets(case, "cuda")
    inputs = next(sets)
    check, _ = oracle.checker(kernel, inputs)
    calls = {i: partial(kernel.ours, config=config) for i, config in candidates.items()}
    if case.kernel == "linear":
        calls |= kernel.peers
    right, _ = session.attempt({i: partial(call, **inputs) for i, call in calls.items()}, lambda i, x: check(x))
    sets = [inputs, *(next(sets) for _ in range(gpu_timing.how_many_sets(inputs) - 1))]
    runs = {i: [partial(calls[i], **inputs) for inputs in sets] for i in right}
    return gpu_timing.kernel_medians(runs, rounds)[0] if right else {}
