"""How long a kernel takes on a GPU, and what the GPU can do.

A kernel's calls are recorded as one CUDA graph, so that launches delay nothing. The calls go over several sets of
inputs, which together exceed the L2 cache twice: each call finds its inputs in memory, as a kernel does in a model.
"""

import math
from functools import partial

import torch

from miniclip.bench.timing import LEAST_ROUNDS, ROUNDS, Clock, medians

CALLS = 10  # at least, in one sample of a kernel
SAMPLE = 1000  # microseconds that the calls of a sample take, at least: a graph's own start takes 5 to 8 of them


def _event():
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


CUDA = Clock(
    mark=_event,
    elapsed=lambda start, end: start.elapsed_time(end) * 1e3,  # torch gives milliseconds
    wait=lambda: torch.cuda.synchronize(),
    alone=lambda run: torch.cuda.synchronize(),
    warm_up=3,  # an idle GPU runs at a low clock, and raises it only when it has work
)


def how_many_sets(inputs):
    """How many sets of inputs like these, {argument: value}, exceed this GPU's L2 cache twice; at least 2."""
    size = sum(x.numel() * x.element_size() for x in inputs.values() if isinstance(x, torch.Tensor))
    cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return max(2, math.ceil(2 * cache / size))


def kernel_medians(providers, rounds=ROUNDS):
    """({name: microseconds of one call}, rounds, [names that could not be recorded]).

    providers: {name: [a call without arguments for each set of inputs]}. Each must have been called before, so that it
    is compiled.
    """
    pool = torch.cuda.graph_pool_handle()  # one memory for all: the results are not used any more
    runs = {name: _sample(calls, pool) for name, calls in providers.items()}
    times, rounds = medians({name: run for name, (run, _, _) in runs.items()}, CUDA, rounds)
    launched = [name for name, (_, graph, _) in runs.items() if graph is None]
    return {name: microseconds / runs[name][2] for name, microseconds in times.items()}, rounds, launched


def _sample(calls, pool):
    """(run(), its graph or None, number of calls) so that all sets have equally many calls, and together SAMPLE."""
    count = len(calls) * math.ceil(CALLS / len(calls))
    run, graph = _recorded(calls, count, pool)
    times, _ = medians({"": run}, CUDA, LEAST_ROUNDS)
    if times[""] < SAMPLE:
        count *= math.ceil(1.1 * SAMPLE / max(times[""], 1))  # a little more: the clock may still rise
        run, graph = _recorded(calls, count, pool)
    return run, graph, count


def _recorded(calls, count, pool):
    """(run(), its graph) of `count` calls, all of `calls` in turn; (run(), None) if they cannot be recorded."""

    def run():
        results = [None] * len(calls)  # kept for a while: else all would be written to the same, cached, memory
        for i in range(count):
            results[i % len(calls)] = calls[i % len(calls)]()

    graph = torch.cuda.CUDAGraph()
    try:
        # A capture that fails leaves its stream as the current one: the outer context restores ours.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
        ):
            run()
    except Exception:  # a provider may do anything that a graph cannot hold
        torch.cuda.synchronize()
        return run, None
    return graph.replay, graph


# ------------------------------------------------------------------------------------------- ceilings

COPIES = ("copy", "copy by a kernel")  # the names of `copies`


def copies(size, count, device):
    """Providers for `kernel_medians` that read and write `size` bytes together and do nothing else, with `count` sets.

    The faster one is the least time for a kernel that moves so many bytes in such a graph: as cold as the kernel's
    inputs are, and with the same gaps between calls.
    """
    numbers = max(1, size // 8)  # of 4 bytes, once to read and once to write
    pairs = [torch.randint(1 << 30, (2, numbers), dtype=torch.int32, device=device) for _ in range(count)]
    calls = [partial(target.copy_, source) for source, target in pairs]
    kernels = [partial(torch.neg, source, out=target) for source, target in pairs]
    for call in (calls[0], kernels[0]):
        call()
    return dict(zip(COPIES, (calls, kernels)))


def ceilings(dtype):
    """Measure what this GPU can do: {"copy": GB/s, read and written, "product": TFLOP/s in a torch dtype}.

    The copy is of a gigabyte: `copies` is the ceiling of a kernel that moves less. float32 products are three of tf32,
    as our kernels compute them.
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
