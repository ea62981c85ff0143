"""A fake clock, and a fake GPU that advances it, for the tests of benchmarks. No test measures a speed."""

import contextlib
import itertools
import os
import time
import types

import pytest
import torch

from miniclip.bench import timing
from miniclip.kernels.bench import cases, gpu_timing

on_the_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are only interpreted without a GPU")

CEILINGS = {"copy": 4300.0, "product": 790.0}
FACTS = {
    "device": "NVIDIA H200",
    "versions": {"miniclip": "0.1.0", "torch": "2.13.0", "driver": None},
    "date": "2026-01-31",
}
ARGUMENTS = {"rounds": 2, "ladder": False, "ceilings": {"float32": CEILINGS}, "facts": FACTS, "device": "cpu"}


class Machine:
    """A clock that only moves when something runs, and a list of the runs."""

    def __init__(self):
        self.now, self.ran = 0.0, []
        self.clock = timing.Clock(lambda: self.now, lambda a, b: b - a, lambda: None, lambda run: self.ran.append("|"))

    def takes(self, name, *microseconds):
        durations = itertools.cycle(microseconds)

        def run():
            self.ran.append(name)
            self.now += next(durations)

        return run


@pytest.fixture
def gpu(monkeypatch):
    machine = fake(monkeypatch)
    # Or a kernel that advances no clock would be called for ever.
    monkeypatch.setattr(gpu_timing, "SAMPLE", 0)
    return machine


def fake(monkeypatch, ticks=0):
    """A fake of the parts of torch.cuda that benchmarks use: a Machine.

    Its graphs advance the clock by the recorded time. Each look at the clock advances it by `ticks` microseconds.
    """
    machine = Machine()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            machine.now += ticks
            self.moment = machine.now

        def elapsed_time(self, end):
            return (end.moment - self.moment) / 1e3  # milliseconds

    class Graph:
        def replay(self):
            machine.now += max(self.microseconds, 1)

    @contextlib.contextmanager
    def graph(it, pool, capture_error_mode):
        start, it.microseconds = machine.now, None
        machine.recording = True
        try:
            yield
        finally:
            machine.recording = False
        it.microseconds = machine.now - start

    machine.recording = False
    properties = types.SimpleNamespace(L2_cache_size=1000, multi_processor_count=132)
    fakes = {
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": graph,
        "graph_pool_handle": lambda: (0, 1),
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda: None,
        "current_device": lambda: 0,
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda: (80 << 30, 80 << 30),
        "get_device_properties": lambda device: properties,
        "get_device_name": lambda: "NVIDIA H200",
        **({"is_available": lambda: True, "get_device_capability": lambda device=None: (9, 0)} if ticks else {}),
        **({"device_count": lambda: 1} if ticks else {}),
    }
    for name, replacement in fakes.items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    return machine


def few(name, **shape):
    return cases.Case(name, shape, "float32")


def breaks():
    """A function that measures in another process: cases are the ways in which a case can break it."""

    def measure(case):
        if case == "hangs":
            time.sleep(600)
        if case == "dies":
            os._exit(3)
        if case == "raises":
            raise RuntimeError("out of memory\nand more")
        if case == "loses the GPU":
            torch.cuda.is_initialized, torch.cuda.synchronize = (lambda: True), measure
        assert case == "fine", "an illegal memory access"
        return {"process": os.getpid()}

    return measure


def never_begins():
    raise RuntimeError("no GPU is free")
