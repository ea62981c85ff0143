"""How benchmarks run: cases one after another within a time limit, and answers checked before they are timed."""

import sys
import time
import warnings

import numpy as np

from miniclip.bench import records
from miniclip.errors import InputError, WrongAnswer
from miniclip.ops.numpy_ops import l2_normalize

LEAST_COSINE = {"int8": 0.999, "bfloat16": 0.999, "float32": 0.99999}  # of each feature with the reference's in float32


def select(cases, only, names):
    """The cases with a word of `only` (commas between them) among names(case); None: all cases.

    Raises InputError for a word without a case.
    """
    known = dict.fromkeys(name for case in cases for name in names(case))
    words = [*known] if only is None else [word.strip() for word in only.split(",")]
    for word in words:
        if word not in known:
            raise InputError(f"there is nothing to measure called {word!r}; choose one of {', '.join(known)}")
    return [case for case in cases if not {*words}.isdisjoint(names(case))]


def within(seconds, cases, describe):
    """Yield the cases until `seconds` have passed (None: all cases), then print which are left."""
    cases, end = list(cases), time.monotonic() + (float("inf") if seconds is None else seconds)
    for i, case in enumerate(cases):
        if time.monotonic() >= end:
            left = "; ".join(map(describe, cases[i:]))
            print(f"{seconds} s are over, not measured: {left}", file=sys.stderr)
            return
        yield case


def print_record(record):
    print(records.summary(record) + "\n", flush=True)


def run(cases, measure, describe, directory, seconds=None, show=print_record, failure=None):
    """Show and save measure(case) for each case that begins within `seconds`; at the end, InputError names failures.

    Each record is in its file before the next case begins; with `directory` None it is only shown. If measure raises,
    failure(case, reason) is the record, and the next case follows; without `failure`, the error ends the run. A case
    whose record is None cannot be measured here. A record may name more providers that are `wrong` than its own.
    """
    failed = []
    for case in within(seconds, cases, describe):
        try:
            record = measure(case)
        except Exception as error:  # a case may fail in any way
            if failure is None:
                raise
            record = failure(case, reason(error))
        if record is None:
            continue
        show(record)
        if directory is not None:
            records.append(directory, record)
        bad = [*record.get("wrong", ())]
        if record["ours"] not in [*record["times"], *bad]:
            bad.append(record["ours"])
        if bad:
            reasons = [f"{name}: " * (name != record["ours"]) + record["skipped"][name] for name in bad]
            failed.append(f"{describe(case)}: {'; '.join(reasons)}")
    if failed:
        raise InputError(f"{len(failed)} of {len(cases)} cases gave no answer that can be timed: " + "; ".join(failed))


def reason(error, warned=()):
    """An exception, and the warnings before it, in one line."""
    texts = [f"{type(error).__name__}: {error}", *(str(w.message) for w in warned)]
    return " / ".join(dict.fromkeys(text.strip().partition("\n")[0] for text in texts))


def attempt(calls, check):
    """Run check(name, call()) for each {name: call}; returns ({name: call} that raised nothing, {name: reason}).

    A reason includes warnings, because torch warns of the cause before it raises.
    """
    right, skipped = {}, {}
    for name, call in calls.items():
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                check(name, call())
                right[name] = call
            except Exception as error:  # a provider may fail in any way
                skipped[name] = reason(error, warned)
    return right, skipped


def compare(features, reference, dtype, least=None):
    """1 - the least cosine between features and reference, ndarrays (B, E); WrongAnswer if a cosine is too small.

    least  the smallest cosine that is right; None: that of the dtype
    """
    if features.shape != reference.shape or not np.isfinite(features).all():
        raise WrongAnswer(f"it is wrong: features {features.shape} are misshaped or not finite")
    a, b = (l2_normalize(x.astype(np.float64)) for x in (features, reference))
    cosine = float((a * b).sum(axis=-1).min())
    least = LEAST_COSINE[dtype] if least is None else least
    if not cosine >= least:
        raise WrongAnswer(f"it is wrong: a cosine with float32's is {cosine:.5f}, not {least}")
    return 1 - cosine
