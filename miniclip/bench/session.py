"""What all benches share: cases one after another within a time, and answers checked before they are timed."""

import sys
import time
import warnings

import numpy as np

from miniclip.bench import records
from miniclip.errors import InputError, WrongAnswer
from miniclip.ops.numpy_ops import l2_normalize

LEAST_COSINE = {"bfloat16": 0.999, "float32": 0.99999}  # of each feature with float32's


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
            left = "; ".join(map(describe, cases[i:]))
            print(f"{seconds} s are over, not measured: {left}", file=sys.stderr)
            return
        yield case


def tell(record):
    print(records.told(record) + "\n", flush=True)


def run(cases, measure, describe, directory, seconds=None, tell=tell):
    """Tell and append measure(case) of each case begun within `seconds`; InputError at the end naming the failed."""
    failed = []
    for case in within(seconds, cases, describe):
        record = measure(case)
        tell(record)
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


def compare(features, reference, dtype):
    """1 - the least cosine of features (B, E) with the reference's, ndarrays; WrongAnswer where it is too large."""
    if features.shape != reference.shape or not np.isfinite(features).all():
        raise WrongAnswer(f"it is wrong: features {features.shape} are misshaped or not finite")
    a, b = (l2_normalize(x.astype(np.float64)) for x in (features, reference))
    cosine = float((a * b).sum(axis=-1).min())
    if not cosine >= LEAST_COSINE[dtype]:
        raise WrongAnswer(f"it is wrong: a cosine with float32's is {cosine:.5f}, not {LEAST_COSINE[dtype]}")
    return 1 - cosine
