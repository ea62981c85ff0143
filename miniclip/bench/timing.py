"""How long a call takes: medians of runs that take turns, on the device's own clock.

Whatever is compared runs in turns, so that a processor that grows warm slows all alike. Needs no torch: what is
measured on a GPU, and how, stands in `gpu_timing`.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

ROUNDS, QUICK_ROUNDS, LEAST_ROUNDS = 30, 5, 3
SECONDS = 3.0  # that the rounds of one case may take
PAUSE = 0.1  # seconds


class Clock(NamedTuple):
    mark: Callable  # () -> a moment
    elapsed: Callable  # (moment, moment) -> microseconds between them, after `wait`
    wait: Callable  # () until all that was asked of the device is done
    alone: Callable  # (run), so that the run that follows has the device to itself


def _wake(run):
    time.sleep(PAUSE)  # until the threads of other libraries no longer spin for work
    run()


CPU = Clock(time.perf_counter, lambda start, end: (end - start) * 1e6, lambda: None, _wake)


def medians(runs, clock, rounds=ROUNDS, *, alone=False, seconds=SECONDS):
    """{name: run()} -> ({name: microseconds of one run, the median}, rounds), all of them once a round.

    The device works through the rounds without a pause, or with `alone` is idle before each run: then the time is
    what somebody waits who asks for nothing else, launches included. Rounds become fewer where they would take longer
    than `seconds`.
    """
    clock.wait()
    start = clock.mark()
    for run in runs.values():
        run()
    end = clock.mark()
    clock.wait()
    affordable = seconds * 1e6 / max(clock.elapsed(start, end), 1)
    rounds = min(rounds, max(LEAST_ROUNDS, round(affordable)))
    moments = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            if alone:
                clock.alone(run)
            start = clock.mark()
            run()
            moments[name].append((start, clock.mark()))
    clock.wait()
    return {name: statistics.median(clock.elapsed(*pair) for pair in pairs) for name, pairs in moments.items()}, rounds


def limit(flops, size, ceilings):
    """(microseconds that the work takes at least, which ceiling is the limit): FLOPs, and bytes read and written."""
    times = {"copy": size / ceilings["copy"] / 1e3, "product": flops / ceilings["product"] / 1e6}
    bound = max(times, key=times.get)
    return times[bound], bound
