"""How long a call takes: medians of runs that take turns, on the device's own clock.

The compared calls take turns, so that a processor that gets warm slows all of them equally. Needs no torch: the timing
of GPUs is in `gpu_timing`.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

ROUNDS, QUICK_ROUNDS, LEAST_ROUNDS = 30, 5, 3
SECONDS = 3.0  # time for the rounds of one case
PAUSE = 0.1  # seconds, before a run that is alone on the CPU


class Clock(NamedTuple):
    mark: Callable  # () -> a moment
    elapsed: Callable  # (moment, moment) -> microseconds between them, after `wait`
    wait: Callable  # () waits until the device has finished all its work
    alone: Callable  # (run) prepares the device, so that the next run is alone on it
    warm_up: int = 0  # rounds that are thrown away


def _wake(run):
    time.sleep(PAUSE)  # until the threads of other libraries stop spinning
    run()


CPU = Clock(time.perf_counter, lambda start, end: (end - start) * 1e6, lambda: None, _wake)


def medians(runs, clock, rounds=ROUNDS, *, alone=False, seconds=SECONDS):
    """{name: run} -> ({name: median microseconds of one run}, rounds), see `samples`."""
    taken, rounds = samples(runs, clock, rounds, alone=alone, seconds=seconds)
    return {name: statistics.median(times) for name, times in taken.items()}, rounds


def samples(runs, clock, rounds=ROUNDS, *, alone=False, seconds=SECONDS):
    """{name: run} -> ({name: microseconds of each run}, rounds); every run has one turn in each round.

    The device works through the rounds without a pause. With `alone` it is idle before each run: then the time is that
    of a single call, launches included. There are fewer rounds if they would take longer than `seconds`. The first
    rounds do not count on a clock that has a `warm_up`.
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
    for _ in range(clock.warm_up + rounds):
        for name, run in runs.items():
            if alone:
                clock.alone(run)
            start = clock.mark()
            run()
            moments[name].append((start, clock.mark()))
    clock.wait()
    return {name: [clock.elapsed(*pair) for pair in pairs[clock.warm_up :]] for name, pairs in moments.items()}, rounds


def limit(flops, size, ceilings):
    """(least microseconds for the work, the ceiling that limits it): `flops`, and `size` bytes read and written."""
    times = {"copy": size / ceilings["copy"] / 1e3, "product": flops / ceilings["product"] / 1e6}
    bound = max(times, key=times.get)
    return times[bound], bound
