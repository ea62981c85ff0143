"""`miniclip bench kernels`: every kernel beside its peers in the same run. First its answer is checked, then timed."""

import sys
from functools import partial

import torch

from miniclip.bench import records, session, timing
from miniclip.errors import InputError
from miniclip.kernels import device, oracle
from miniclip.kernels.bench import autotune, gpu_timing, isolated
from miniclip.kernels.bench.cases import CASES, KERNELS, LADDERS, LONG, PLAIN, describe, input_sets
from miniclip.kernels.bench.report import RESULTS

OURS, YOURS = "miniclip", "yours"
COMPILED = {PLAIN: "torch.compile", LONG: "torch.compile, max-autotune"}
PEERS_SLACK = 10  # a peer must only compute the same thing


def run(*, only=None, quick=False, ladder=False, tune=False, tuned_path=None, seconds=None, out=None):
    """Measure CASES, print and record them; with `ladder` the versions of each kernel instead of its peers.

    With `tune`, the tiles of each kernel are measured instead and recorded in `tuned_path` (None: the cache). No case
    is started after `seconds`. A case that raises, ends its process or hangs has a record that says so. Raises
    InputError without a GPU, and at the end if an answer of ours was wrong or missing.
    """
    if tune and out is not None:
        raise InputError("--out is for records: pass the file for tiles to --autotune itself")
    chosen = session.select(LADDERS if ladder else CASES, only, lambda case: [case.kernel])
    check_gpu()
    chosen = [case for case in chosen if KERNELS[case.kernel].runs_on(device.capability())]
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    if tune:
        with torch.no_grad():
            autotune.run(chosen, rounds, tuned_path, seconds)
        return
    directory = records.writable(out or records.own(RESULTS))
    facts = {"device": torch.cuda.get_device_name(), "versions": records.versions(), "date": records.today()}
    make = partial(measurer, sorted({case.dtype for case in chosen}), rounds=rounds, ladder=ladder, facts=facts)
    with isolated.Isolated(make, limit, seconds) as process:
        failure = partial(failed, ladder=ladder, facts=facts)
        session.run(chosen, process.measure, describe, directory, seconds, failure=failure)


def limit(case):
    """The seconds that a case may take: max-autotune measures many kernels of its own."""
    return 300 if LONG in case.modes else 60


def measurer(dtypes, **how):
    """A function that measures a case, after the GPU's ceilings in these dtypes."""
    return partial(measure, ceilings={name: _ceilings(getattr(torch, name)) for name in dtypes}, **how)


def _ceilings(dtype):
    try:
        return gpu_timing.ceilings(dtype)
    except Exception as error:  # a case is worth measuring without a limit
        print(f"the GPU's ceilings are not known: {session.reason(error)}", file=sys.stderr)
        return None


def check_gpu():
    reason = "TRITON_INTERPRET=1 is set, which runs kernels on the CPU" if device.INTERPRETING else device.why_not()
    if reason:
        raise InputError(
            f"bench kernels needs an NVIDIA GPU of compute capability 8.0 or more: {reason}. "
            f"Without a GPU, miniclip bench models --device cpu compares the other backends"
        )


def measure(case, *, rounds, ladder, ceilings, facts, device="cuda", yours=None):
    """The record of a case. Providers whose answer is wrong, or that raise, have no time in it.

    `yours` is a call that is measured in the same turns; then it is what the others are compared with.
    """
    kernel, ceilings = KERNELS[case.kernel], ceilings[case.dtype]
    sets = input_sets(case, device)
    inputs = next(sets)
    check, usual = oracle.checker(kernel, inputs)
    calls = kernel.versions if ladder else providers(kernel, case.modes)
    if yours:
        calls = {YOURS: yours, **calls}
    ours, errors = (YOURS if yours else list(calls)[-1] if ladder else OURS), {}

    def check_one(name, result):
        errors[name] = check(result, oracle.SLACK if ladder or name == ours else PEERS_SLACK)

    right, skipped = session.attempt({name: partial(call, **inputs) for name, call in calls.items()}, check_one)
    flops, numbers = kernel.work(**case.shape)
    size = numbers * getattr(torch, case.dtype).itemsize
    times, samples, launched = {}, 0, []
    if ours in right:
        sets = [inputs, *(next(sets) for _ in range(gpu_timing.how_many_sets(inputs) - 1))]
        runs = {name: [partial(calls[name], **inputs) for inputs in sets] for name in right}
        runs |= gpu_timing.copies(size, len(sets), device)
        times, samples, launched = gpu_timing.kernel_medians(runs, rounds)
        copy = min(times.pop(name) for name in gpu_timing.COPIES)
        ceilings = ceilings and {**ceilings, "copy": size / copy / 1e3}  # of as many bytes
    if device == "cuda":
        torch.cuda.empty_cache()

    least, bound = timing.limit(flops, size, ceilings) if ceilings else (None, "product" if flops else "copy")
    work, unit = {"copy": (size / 1e3, "GB/s"), "product": (flops / 1e6, "TFLOP/s")}[bound]
    return {
        **_case(case, ladder, facts),
        **({"name": f"your {case.kernel}", "ours": ours} if yours else {}),
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
        "allowed_error": oracle.allowed(usual, getattr(torch, case.dtype)),
    }


def failed(case, reason, *, ladder, facts):
    """The record of a case that could not be measured."""
    case_facts = _case(case, ladder, facts)
    if case.modes:  # else it would replace the record without torch.compile, which may be the cause
        case_facts["name"] += " with torch.compile"
    ours = case_facts["ours"]
    nothing = {"times": {}, "skipped": {ours: reason}, "samples": 0, "value": None, "unit": ""}
    return {**case_facts, **nothing, **records.figures({}, ours)}


def _case(case, ladder, facts):
    ours = list(KERNELS[case.kernel].versions)[-1] if ladder else OURS
    name = case.kernel + (" ladder" if ladder else "")
    return {"name": name, "shape": case.shape, "dtype": case.dtype, **facts, "ours": ours}


def providers(kernel, modes):
    """{name: call}: ours, torch's own, the peers, and torch.compile of torch's own in each of its `modes`."""
    calls = {OURS: kernel.ours, "torch": kernel.plain, **kernel.peers}
    if modes:
        torch.compiler.reset()  # it gives up on a function after some shapes, without a message
    for mode in modes:
        calls[COMPILED[mode]] = torch.compile(kernel.plain, mode=mode, dynamic=False)
    return calls
