"""How long a kernel takes on a GPU, and what the GPU can do.

A kernel's calls are recorded as one CUDA graph, so that launches delay nothing. The calls go over several sets of
inputs, which together exceed the L2 cache twice: each call finds its inputs in memory, as a kernel does in a model.
"""

import math

import torch

from miniclip.bench.timing import ROUNDS, Clock, medians

CALLS = 10  # at least, in one sample of a kernel


def _event():
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


CUDA = Clock(
    mark=_event,
    elapsed=lambda start, end: start.elapsed_time(end) * 1e3,  # torch gives milliseconds
    wait=lambda: torch.cuda.synchronize(),
    alone=lambda run: torch.cuda.synchronize(),
)


def how_many_sets(inputs):
    """How many sets of inputs like these, {argument: value}, exceed this GPU's L2 cache twice; at least 2."""
    size = sum(x.numel() * x.element_size() for x in inputs.values() if isinstance(x, torch.Tensor))
    cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return max(2, math.ceil(2 * cache / size))


def kernel_medians(providers, sets, rounds=ROUNDS):
    """({name: microseconds of one call}, rounds, [names that could not be recorded]) for providers {name: call}.

    sets: [{argument: value}], the same for all. Each provider must have been called before, so that it is compiled.
    """
    calls = len(sets) * math.ceil(CALLS / len(sets))
    pool = torch.cuda.graph_pool_handle()  # one memory for all: the results are not used any more
    runs = {name: _recorded(call, sets, calls, pool) for name, call in providers.items()}
    times, rounds = medians({name: run for name, (run, _) in runs.items()}, CUDA, rounds)
    launched = [name for name, (_, graph) in runs.items() if graph is None]
    return {name: microseconds / calls for name, microseconds in times.items()}, rounds, launched


def _recorded(call, sets, calls, pool):
    """(run(), its graph) of `calls` calls with the sets in turn; (run(), None) if they cannot be recorded."""

    def run():
        results = [None] * len(sets)  # kept for a while: else all would be written to the same, cached, memory
        for i in range(calls):
            results[i % len(sets)] = call(**sets[i % len(sets)])

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


def ceilings(dtype):
    """Measure what this GPU can do: {"copy": GB/s, read and written, "product": TFLOP/s in a torch dtype}.

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
