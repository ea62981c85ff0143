"""`miniclip bench kernels`: every kernel beside its peers in the same run. First its answer is checked, then timed."""

from functools import partial

import torch

from miniclip.bench import records, session, timing
from miniclip.errors import InputError
from miniclip.kernels import device, oracle
from miniclip.kernels.bench import autotune, gpu_timing
from miniclip.kernels.bench.cases import CASES, KERNELS, describe, input_sets
from miniclip.kernels.bench.report import RESULTS

OURS = "miniclip"
PEERS_SLACK = 10  # a peer must only compute the same thing


def run(*, only=None, quick=False, ladder=False, tune=False, tuned_path=None, seconds=None, out=None):
    """Measure CASES, print and record them; with `ladder` the versions of each kernel instead of its peers.

    With `tune`, the tiles of each kernel are measured instead and recorded in `tuned_path` (None: the cache). No case
    is started after `seconds`. Raises InputError without a GPU, and at the end if an answer of ours was wrong.
    """
    if tune and out is not None:
        raise InputError("--out is for records: pass the file for tiles to --autotune itself")
    ladders = [case for case in CASES if len(KERNELS[case.kernel].versions) > 1 and not case.compiled]
    chosen = session.select(ladders if ladder else CASES, only, lambda case: [case.kernel])
    check_gpu()
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    with torch.no_grad():
        if tune:
            autotune.run(chosen, rounds, tuned_path, seconds)
            return
        directory = records.writable(out or records.own(RESULTS))
        ceilings = {name: gpu_timing.ceilings(getattr(torch, name)) for name in {case.dtype for case in chosen}}
        facts = {"device": torch.cuda.get_device_name(), "versions": records.versions(), "date": records.today()}
        measure_one = partial(measure, rounds=rounds, ladder=ladder, ceilings=ceilings, facts=facts)
        session.run(chosen, measure_one, describe, directory, seconds)


def check_gpu():
    reason = "TRITON_INTERPRET=1 is set, which runs kernels on the CPU" if device.INTERPRETING else device.why_not()
    if reason:
        raise InputError(
            f"bench kernels needs an NVIDIA GPU of compute capability 8.0 or more: {reason}. "
            f"Without a GPU, miniclip bench models --device cpu compares the other backends"
        )


def measure(case, *, rounds, ladder, ceilings, facts, device="cuda"):
    """The record of a case. Providers whose answer is wrong, or that raise, have no time in it."""
    kernel, dtype, ceilings = KERNELS[case.kernel], getattr(torch, case.dtype), ceilings[case.dtype]
    sets = input_sets(case, device)
    inputs = next(sets)
    check, usual = oracle.checker(kernel, inputs)
    calls = kernel.versions if ladder else providers(kernel, case.compiled)
    ours, errors = (list(calls)[-1] if ladder else OURS), {}

    def check_one(name, result):
        errors[name] = check(result, oracle.SLACK if ladder or name == ours else PEERS_SLACK)

    right, skipped = session.attempt({name: partial(call, **inputs) for name, call in calls.items()}, check_one)
    times, samples, launched = {}, 0, []
    if ours in right:
        sets = [inputs, *(next(sets) for _ in range(gpu_timing.how_many_sets(inputs) - 1))]
        times, samples, launched = gpu_timing.kernel_medians({name: calls[name] for name in right}, sets, rounds)
    if device == "cuda":
        torch.cuda.empty_cache()

    flops, numbers = kernel.work(**case.shape)
    size = numbers * dtype.itemsize
    least, bound = timing.limit(flops, size, ceilings)
    work, unit = {"copy": (size / 1e3, "GB/s"), "product": (flops / 1e6, "TFLOP/s")}[bound]
    return {
        "name": case.kernel + (" ladder" if ladder else ""),
        "shape": case.shape,
        "dtype": case.dtype,
        **facts,
        "ours": ours,
        "times": times,
        "launched": launched,
        "skipped": skipped,
        "samples": samples,
        "value": work / times[ours] if times else None,
        "unit": unit,
        **records.figures(times, ours, least),
        "flops": flops,
        "bytes": size,
        "ceilings": ceilings,
        "error": errors.get(ours),
        "allowed_error": oracle.SLACK * usual,
    }


def providers(kernel, compiled):
    """{name: call}: ours, torch's own, the peers, and with `compiled` also torch.compile of torch's own."""
    calls = {OURS: kernel.ours, "torch": kernel.plain, **kernel.peers}
    if compiled:
        torch.compiler.reset()  # it gives up on a function after some shapes, without a message
        # Its own graphs cannot be recorded into ours: a mode without them.
        calls["torch.compile"] = torch.compile(kernel.plain, mode="max-autotune-no-cudagraphs", dynamic=False)
    return calls
