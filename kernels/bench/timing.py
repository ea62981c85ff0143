"""How long a call takes: medians of runs that take turns, on the device's own clock.

Whatever is compared runs in turns, so that a GPU that grows warm slows all alike. A kernel's calls are recorded as one
CUDA graph, which no launch delays, over several sets of inputs that together exceed the L2 cache twice, so that
each call finds its inputs in memory, as kernels do between which others run.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

ROUNDS, QUICK_ROUNDS, LEAST_ROUNDS = 30, 5, 3
SECONDS = 3.0  # that the rounds of one case may take
PAUSE = 0.1  # seconds
CALLS = 10  # at least, in one sample of a kernel


class Clock(NamedTuple):
    mark: Callable  # () -> a moment
    elapsed: Callable  # (moment, moment) -> microseconds between them, after `wait`
    wait: Callable  # () until all that was asked of the device is done
    alone: Callable  # (run), so that the run that follows has the device to itself


def _event():
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _wake(run):
    time.sleep(PAUSE)  # until the threads of other libraries no longer spin for work
    run()


CPU = Clock(time.perf_counter, lambda start, end: (end - start) * 1e6, lambda: None, _wake)
CUDA = Clock(
    mark=_event,
    elapsed=lambda start, end: start.elapsed_time(end) * 1e3,  # which torch gives in milliseconds
    wait=lambda: torch.cuda.synchronize(),
    alone=lambda run: torch.cuda.synchronize(),
)


def medians(runs, clock, rounds=ROUNDS, *, alone=False):
    """{name: run()} -> ({name: microseconds of one run, the median}, rounds), all of them once a round.

    The device works through the rounds without a pause, or with `alone` is idle before each run: then the time is
    what somebody waits who asks for nothing else, launches included. Rounds become fewer where they take long.
    """
    clock.wait()
    start = clock.mark()
    for run in runs.values():
        run()
    end = clock.mark()
    clock.wait()
    affordable = SECONDS * 1e6 / max(clock.elapsed(start, end), 1)
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


# ----------------------------------------------------------------------------------- kernels on a GPU


def how_many_sets(inputs):
    """Sets of inputs like these, {argument: value}, that exceed this GPU's L2 cache twice; at least 2."""
    size = sum(x.numel() * x.element_size() for x in inputs.values() if isinstance(x, torch.Tensor))
    cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return max(2, math.ceil(2 * cache / size))


def kernel_medians(providers, sets, rounds=ROUNDS):
    """{name: call} -> ({name: microseconds of one call}, rounds, [names of those that could not be recorded]).

    sets: [{argument: value}], the same for all; each provider has been called before, and is compiled.
    """
    calls = len(sets) * math.ceil(CALLS / len(sets))
    pool = torch.cuda.graph_pool_handle()  # one memory for all: nobody looks at the results any more
    runs = {name: _recorded(call, sets, calls, pool) for name, call in providers.items()}
    times, rounds = medians({name: run for name, (run, _) in runs.items()}, CUDA, rounds)
    launched = [name for name, (_, graph) in runs.items() if graph is None]
    return {name: microseconds / calls for name, microseconds in times.items()}, rounds, launched


def _recorded(call, sets, calls, pool):
    """-> (run(), its graph), of so many calls with the sets in turn; where they cannot be recorded, (run(), None)."""

    def run():
        results = [None] * len(sets)  # kept for a while, so that they do not all go to the same, cached, memory
        for i in range(calls):
            results[i % len(sets)] = call(**sets[i % len(sets)])

    graph = torch.cuda.CUDAGraph()
    try:
        # A capture that fails leaves its stream as the current one: the outer context takes that back.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
        ):
            run()
    except Exception:  # whatever a provider does that a graph cannot hold
        torch.cuda.synchronize()
        return run, None
    return graph.replay, graph


# ------------------------------------------------------------------------------------------- ceilings


def ceilings(dtype):
    """What this GPU can do, as measured now: {"copy": GB/s, read and written, "product": TFLOP/s in a torch dtype}.

    float32 products are three of tf32, as our kernels compute them.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    free, _ = torch.cuda.mem_get_info()
    source = torch.randn(min(1 << 30, free // 4) // 4, device="cuda")
    target = torch.empty_like(source)
    a, b = torch.randn(2, 8192, 8192, dtype=dtype, device="cuda")
    product = torch.empty_like(a)
    runs = {"copy": lambda: target.copy_(source), "product": lambda: torch.mm(a, b, out=product)}
    for run in runs.values():
        run()
    times, _ = medians(runs, CUDA)
    torch.set_float32_matmul_precision(precision)
    products = 3 if dtype == torch.float32 else 1
    return {
        "copy": 2 * source.numel() * source.element_size() / times["copy"] / 1e3,
        "product": 2 * 8192**3 / products / times["product"] / 1e6,
    }


def limit(flops, size, ceilings):
    """(microseconds that the work takes at least, which ceiling is the limit): FLOPs, and bytes read and written."""
    times = {"copy": size / ceilings["copy"] / 1e3, "product": flops / ceilings["product"] / 1e6}
    bound = max(times, key=times.get)
    return times[bound], bound
