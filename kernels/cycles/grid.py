"""The time of a whole launch: which programs there are, and how many cycles a multiprocessor takes for them."""

import math
from pathlib import Path
from typing import NamedTuple

from miniclip.errors import InputError
from miniclip.kernels.cycles import threads
from miniclip.kernels.cycles.costs import (
    CLOCK,
    H100,
    L1_LATENCY,
    L2_BANDWIDTH,
    LSU,
    PROCESSORS,
    QUARTERS,
    UNITS,
    costs,
)
from miniclip.kernels.cycles.processor import Processor

SAMPLE = 30  # programs whose way is followed: tiles of a head repeat after 1, 2, 3, 5 or 6
BETWEEN = 8  # programs at least that the pace is measured with
LONG = 6000  # steps of a program that is like all others: it loops over tiles by itself


class Result(NamedTuple):
    """What came out.

    cycles        of a multiprocessor, for each program
    microseconds  for the whole grid
    issued        instructions of a program, all its warps
    traffic       bytes that a program's loads and stores move
    used          {unit, "issue" or "memory": share of the time that it was busy}
    stalls        {cause: share of the time that a warp spent waiting for it}
    """

    cycles: float
    microseconds: float
    issued: float
    traffic: float
    used: dict
    stalls: dict

    @property
    def bound(self):
        """What was busy for most of the time."""
        return max(self.used, key=self.used.get)


def estimate(kernel, gpu=H100, least=None):
    """`Result` of a launch.

    kernel  an `offline.Compiled`, with its grid and arguments
    least   bytes that the launch must move between memory and chip; None: all that its loads and stores move. What
            programs load beyond it is in the cache, since another one has loaded it.

    Raises InputError for another compute capability than 9.0, and if the way of a program depends on what it loads.
    """
    if kernel.capability != 90:
        raise InputError(
            f"the model is of compute capability 9.0, this kernel is compiled for {kernel.capability / 10}"
        )
    return of_programs(
        programs(kernel), kernel.warps, kernel.programs_per_processor, math.prod(kernel.grid), gpu, least
    )


def of_programs(traces, warps, occupancy, grid, gpu=H100, least=None):
    """`Result` of a grid of programs that go like `traces`, in turn; each is a list of (Instruction, Cost)."""
    traffic = sum(moved(trace, warps) for trace in traces) / len(traces)
    dram = 1 if least is None or not traffic else min(1, least / grid / traffic)
    load = grid / PROCESSORS  # programs for a multiprocessor
    if load <= occupancy:  # all run at once, and the longest one decides
        traces = [max(traces, key=len)]
    period = _period([len(trace) for trace in traces])
    between = max(3 * occupancy, BETWEEN)
    enough = 2 * occupancy + -(-between // period) * period  # the first, the last, and some between
    count = max(1, min(math.ceil(load) if load <= occupancy else int(load), enough))
    processor = Processor(gpu, dram)
    finished = processor.run([traces[k % len(traces)] for k in range(count)], warps, occupancy)
    end = finished[-1]
    # The pace while programs follow each other: without the first ones, that wait for memory, and without the last ones
    middle = finished[occupancy - 1 : -occupancy] if count > 2 * occupancy else [0, *finished]
    pace = (middle[-1] - middle[0]) / (len(middle) - 1)
    # Programs end before their stores are through, so that a few of them may seem faster than memory
    time = max(end + max(0, load - count) * pace, load * traffic * dram / processor.bandwidth)
    end = max(end, processor.memory)
    used = {name: processor.busy[unit] / end / (1 if unit == LSU else QUARTERS) for unit, name in enumerate(UNITS)}
    used["issue"] = processor.issued / end / QUARTERS
    used["memory"] = processor.moved * dram / processor.bandwidth / end
    used["cache"] = processor.moved / L2_BANDWIDTH / end
    waited = sum(processor.stalls.values())
    return Result(
        cycles=time / max(1, load),
        microseconds=time / CLOCK * 1e6,
        issued=processor.issued / count,
        traffic=traffic,
        used=used,
        stalls={cause: cycles / waited for cause, cycles in processor.stalls.most_common() if cycles},
    )


def _period(values):
    """After how many of them values repeat."""
    return next(n for n in range(1, len(values) + 1) if values[n:] == values[: len(values) - n])


def programs(kernel):
    """The traces of the first programs of a launch, or of the first and the last if they are long."""
    ptx = Path(kernel.files[".ptx"]).read_text(encoding="utf-8")
    code, arguments = kernel.code, threads.constants(ptx, kernel.arguments, kernel.grid)
    x, y, z = kernel.grid

    def follow(numbers):
        return threads.follow(code, kernel.warps, arguments, [(n % x, n // x % y, n // x // y) for n in numbers])

    ways = follow([0])
    ways += follow(range(1, min(x * y * z, SAMPLE)) if len(ways[0]) < LONG else [x * y * z - 1])
    # Weights, which every program loads, are in the first level cache
    addresses = [{step.address for step in way if step.address} for way in ways]
    shared = set.intersection(*addresses) if len(ways) > 2 else set()
    table, prepared = costs(code), {}

    def item(step):
        key = step.n, step.size, step.address in shared, step.threads > 0
        if key not in prepared:
            prepared[key] = (
                code.instructions[step.n],
                _particular(table[step.n], step, step.address in shared, kernel.warps),
            )
        return prepared[key]

    return [[item(step) for step in way] for way in ways]


def _particular(cost, step, near, warps):
    """The `Cost` of an instruction in one step: with the bytes that its threads move."""
    if cost.kind == "load" and near:
        return cost._replace(kind="shared", latency=L1_LATENCY)
    if cost.kind in ("load", "copy", "store"):
        return cost._replace(size=step.size / warps)
    if cost.kind in ("expect", "tile store") and not step.threads:
        return cost._replace(kind="work")
    return cost


def moved(trace, warps):
    """The bytes that a program moves between its multiprocessor and the cache."""
    total = stored = 0
    for _, cost in trace:
        if cost.kind in ("load", "copy", "store"):
            total += cost.size * warps
        elif cost.kind == "expect":
            total += cost.size
        elif cost.kind == "store shared":
            stored += cost.size * warps
        elif cost.kind == "tile store":
            total, stored = total + stored, 0
    return total
