"""What both benches share: cases one after another within a time, and answers checked before they are timed."""

import time
import warnings

import torch

from miniclip.errors import InputError
from miniclip.kernels.bench import records

SLACK = 2  # times torch's own error is what ours may have
EDGE = 128  # rows at either end of a matrix that are looked at


class WrongAnswer(Exception):
    """What a provider computed is not what was asked."""


def select(cases, only, names):
    """The cases of which `only` is one of the names(case), all where it is None; InputError where there are none."""
    chosen = [case for case in cases if only is None or only in names(case)]
    if not chosen:
        known = dict.fromkeys(name for case in cases for name in names(case))
        raise InputError(f"there is nothing to measure called {only!r}; choose one of {', '.join(known)}")
    return chosen


def within(seconds, cases, describe):
    """The cases, one by one, until `seconds` have passed (None: all); says which are left then."""
    cases, end = list(cases), time.monotonic() + (float("inf") if seconds is None else seconds)
    for i, case in enumerate(cases):
        if time.monotonic() >= end:
            print(f"{seconds} s are over, not measured: " + "; ".join(map(describe, cases[i:])), flush=True)
            return
        yield case


def run(cases, measure, describe, directory, seconds=None):
    """Print and append measure(case) of each case begun within `seconds`; InputError at the end naming the failed."""
    failed = []
    for case in within(seconds, cases, describe):
        record = measure(case)
        print(records.told(record) + "\n", flush=True)
        records.append(directory, record)
        if record["ours"] not in record["times"]:
            failed.append(f"{describe(case)}: {record['skipped'][record['ours']]}")
    if failed:
        raise InputError(f"{len(failed)} of {len(cases)} cases gave no answer that can be timed: " + "; ".join(failed))


def attempt(calls, check):
    """check(name, call()) for each of {name: call} -> ({name: call} of those that raise nothing, {name: why not}).

    What torch warns of before it raises belongs to the reason.
    """
    right, skipped = {}, {}
    for name, call in calls.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                check(name, call())
                right[name] = call
            except Exception as error:  # a provider may fail in any way
                reasons = [f"{type(error).__name__}: {error}", *(str(w.message) for w in told)]
                skipped[name] = " / ".join(dict.fromkeys(reason.strip().partition("\n")[0] for reason in reasons))
    return right, skipped


# --------------------------------------------------------------------------- whether a kernel's answer is right


def oracle(kernel, inputs):
    """-> (check(result, slack=SLACK) -> its error, torch's own error) for a Kernel on some inputs.

    The exact answer is computed for the first and the last rows, in float64. An error is max |x - exact| / max |exact|.
    """
    first = inputs[kernel.rows[0]]
    edge = 2 if first.ndim > 2 else EDGE
    ends = sorted({*range(len(first))[:edge], *range(len(first))[-edge:]})
    few = {name: x[ends] if name in kernel.rows else x for name, x in inputs.items()}
    doubled = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in few.items()}
    exact = _several(kernel.plain(**doubled))

    def error(results):
        return max(((x.double() - e).abs().max() / e.abs().max()).item() for x, e in zip(results, exact))

    usual = error(_several(kernel.plain(**few)))

    def check(result, slack=SLACK):
        results = _several(result)
        if not all(torch.isfinite(x).all() for x in results):
            raise WrongAnswer("it is wrong: not all of its numbers are finite")
        if [x[ends].shape for x in results] != [x.shape for x in exact]:
            raise WrongAnswer(f"it is wrong: its shapes are {[tuple(x.shape) for x in results]}")
        found = error([x[ends] for x in results])
        if not found <= slack * usual:
            raise WrongAnswer(f"it is wrong by {found:.1e} of the largest value, {slack * usual:.1e} is allowed")
        return found

    return check, usual


def _several(result):
    return result if isinstance(result, tuple) else (result,)
