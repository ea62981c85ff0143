"""One multiprocessor that issues the machine code of its programs, warp by warp, and says when each is finished.

Four quarters issue one instruction a cycle each, of any warp that is ready: the one that has been ready for longest. A
warp is ready when its stall is over and the scoreboards that its next instruction waits for are clear (`sass`), and if
the unit that executes it is free (`costs`). Memory is a queue: a load waits until the bytes before it are through.

What is left out: bank conflicts, the first level cache except for weights, and the queues between the units.
"""

import heapq
from collections import Counter, deque

from miniclip.kernels.cycles.costs import (
    BARRIER_LATENCY,
    CLOCK,
    DRAM_LATENCY,
    HEAVY,
    L2_BANDWIDTH,
    L2_LATENCY,
    LAUNCH_LATENCY,
    LIGHT,
    LSU,
    PROCESSORS,
    QUARTERS,
    READ_LATENCY,
    SHARED_BANDWIDTH,
    SHARED_LATENCY,
    TENSOR,
    UNITS,
    WGMMA_LATENCY,
)

NEVER = float("inf")


class _Program:
    """A program that runs: what its warps share."""

    def __init__(self, warps):
        self.warps = self.left = warps
        self.at_barrier = []
        self.tiles = []  # when each tile that the copy engine was asked for is there
        self.for_tile = []  # warps that wait for a tile which nobody has asked for yet
        self.stored = 0  # bytes stored to shared memory since the copy engine last stored from there


class _Warp:
    """A warp: where it is, and when what it waits for is there."""

    __slots__ = (
        "causes",
        "copies",
        "first",
        "group",
        "n",
        "products",
        "program",
        "quarter",
        "scoreboards",
        "tiles",
        "trace",
    )

    def __init__(self, program, trace, quarter, first):
        self.program, self.trace, self.quarter, self.first = program, trace, quarter, first
        self.n = 0
        self.scoreboards, self.causes = [0.0] * 6, [""] * 6
        self.group, self.copies = 0.0, []  # of asynchronous copies: the open one, and when each closed one is there
        self.products = []  # when each group of products is there
        self.tiles = 0  # waited for so far


class Processor:
    """One multiprocessor. `run` is its only method that is called from outside; the others each do one thing."""

    def __init__(self, gpu, dram):
        self.bandwidth = gpu.bandwidth / PROCESSORS / CLOCK  # bytes a cycle
        self.dram = dram
        self.memory = self.l2 = 0.0  # when these are free
        self.moved = self.loads = 0
        self.units = [[0.0] * len(UNITS) for _ in range(QUARTERS)]
        self.busy = Counter()
        self.stalls = Counter()
        self.ready = [[] for _ in range(QUARTERS)]  # heaps of (when, order, warp)
        self.free = [0.0] * QUARTERS  # when each quarter can issue
        self.order = self.launched = 0
        self.issued = 0

    def run(self, traces, warps, occupancy):
        """When each program is finished: `traces` are those of all programs, in order."""
        self.finished, self.warps = [], warps
        self.queue = deque(traces)
        for _ in range(min(occupancy, len(traces))):
            self.launch(0.0)
        ready, free = self.ready, self.free
        while True:
            times = [max(free[q], ready[q][0][0]) if ready[q] else NEVER for q in range(QUARTERS)]
            now = min(times)
            if now == NEVER:
                return self.finished
            self.step(times.index(now), now)

    def launch(self, now):
        """Start the next program: a warp for each quarter in turn."""
        trace = self.queue.popleft()
        program = _Program(self.warps)
        for k in range(self.warps):
            warp = _Warp(program, trace, self.launched % QUARTERS, first=k == 0)
            self.launched += 1
            self.prepare(warp, now, now)

    def step(self, quarter, now):
        """Issue one instruction in a quarter, of the warp that has been ready for longest, if its unit is free."""
        since, order, warp = heapq.heappop(self.ready[quarter])
        instruction, cost = warp.trace[warp.n]
        if (unit := cost.unit) is not None:
            units = self.units[0 if unit == LSU else quarter]
            if cost.kind == "fma" and units[HEAVY] < units[LIGHT]:
                unit = HEAVY
            if units[unit] > now and cost.kind != "products":  # those queue up in the tensor unit
                self.stalls["unit busy"] += units[unit] - since
                heapq.heappush(self.ready[quarter], (units[unit], order, warp))
                return
            units[unit] = max(now, units[unit]) + cost.cycles
            self.busy[unit] += cost.cycles
        self.stalls["not chosen"] += now - since
        self.free[quarter] = now + 1
        self.issued += 1
        warp.n += 1
        done, cause = self.effect(warp, cost, now)
        if instruction.write is not None and done > warp.scoreboards[instruction.write]:
            warp.scoreboards[instruction.write], warp.causes[instruction.write] = done, cause
        if instruction.read is not None and now + READ_LATENCY > warp.scoreboards[instruction.read]:
            warp.scoreboards[instruction.read], warp.causes[instruction.read] = now + READ_LATENCY, "operands"
        if warp.n == len(warp.trace):
            self.leave(warp.program, now)
        elif cost.kind != "barrier":
            self.prepare(warp, now, now + max(1, instruction.stall))

    def effect(self, warp, cost, now):
        """What an instruction does beside taking time -> when its result is there, and the name of waiting for it."""
        kind = cost.kind
        if kind in ("work", "fma"):
            return now + cost.latency, "other"
        if kind in ("shared", "special", "tensor"):
            return now + cost.latency, kind
        if kind == "load":
            return self.fetch(cost.size, now), "memory"
        if kind == "copy":
            warp.group = max(warp.group, self.fetch(cost.size, now))
        elif kind == "commit":
            warp.copies.append(warp.group)
            warp.group = 0.0
        elif kind == "wait for copies":
            del warp.copies[: len(warp.copies) - cost.size]
        elif kind == "products":
            if cost.size:
                warp.products.append(self.units[warp.quarter][TENSOR] + WGMMA_LATENCY)
        elif kind == "wait for products":
            del warp.products[: len(warp.products) - cost.size]
        elif kind == "store":
            self.move(cost.size, now)
        elif kind == "store shared":
            warp.program.stored += cost.size
        elif kind == "barrier":
            self.meet(warp, now)
        elif kind == "wait for tile":
            warp.tiles += 1
            return max(now + cost.latency, warp.program.tiles[warp.tiles - 1]), "memory"
        elif warp.first:  # one thread of a program gives orders to the copy engine
            self.order_copy(warp, cost, now)
        return now + cost.latency, "other"

    def order_copy(self, warp, cost, now):
        program = warp.program
        if cost.kind == "expect" and cost.size:
            program.tiles.append(self.fetch(cost.size, now))
            for waiting in program.for_tile:
                self.prepare(waiting, now, now)
            program.for_tile = []
        elif cost.kind == "tile store":
            self.move(program.stored, now)
            warp.group = max(warp.group, now + program.stored / SHARED_BANDWIDTH + SHARED_LATENCY)
            program.stored = 0
        elif cost.kind == "commit stores":
            warp.copies.append(warp.group)
            warp.group = 0.0

    def move(self, size, now):
        """Bytes on their way to or from memory -> when the last one is through."""
        self.moved += size
        self.l2 = max(self.l2, now) + size / L2_BANDWIDTH
        self.memory = max(self.memory, now) + size * self.dram / self.bandwidth
        return max(self.l2, self.memory)

    def fetch(self, size, now):
        """Load bytes -> when they are there. `dram` of all loads take memory's latency, the others the cache's."""
        self.loads += 1
        missed = int(self.loads * self.dram) > int((self.loads - 1) * self.dram)
        through = self.move(size, now)
        return through + DRAM_LATENCY if missed else self.l2 + L2_LATENCY

    def prepare(self, warp, now, ready):
        """Find when a warp's next instruction can be issued, and what it waits for until then."""
        instruction, cost = warp.trace[warp.n]
        cause = "fixed latency"
        for scoreboard in instruction.wait:
            if warp.scoreboards[scoreboard] > ready:
                ready, cause = warp.scoreboards[scoreboard], warp.causes[scoreboard]
        if cost.kind == "wait for products":
            pending = warp.products[: len(warp.products) - cost.size] if len(warp.products) > cost.size else ()
            if pending and pending[-1] > ready:
                ready, cause = pending[-1], "tensor"
        elif cost.kind == "wait for copies":
            pending = warp.copies[: len(warp.copies) - cost.size] if len(warp.copies) > cost.size else ()
            if pending and max(pending) > ready:
                ready, cause = max(pending), "memory"
        elif cost.kind == "wait for tile" and warp.tiles == len(warp.program.tiles):
            warp.program.for_tile.append(warp)
            return
        self.stalls[cause] += ready - now
        self.order += 1
        heapq.heappush(self.ready[warp.quarter], (ready, self.order, warp))

    def meet(self, warp, now):
        """A warp comes to a barrier; the last one releases all."""
        warp.program.at_barrier.append((warp, now))
        self.release(warp.program, now)

    def release(self, program, now):
        if len(program.at_barrier) == program.left > 0:
            arrived, program.at_barrier = program.at_barrier, []
            for warp, since in arrived:
                self.stalls["barrier"] += now - since
                self.prepare(warp, now, now + BARRIER_LATENCY)

    def leave(self, program, now):
        """A warp is through; with the last one of a program, the next program starts."""
        program.left -= 1
        self.release(program, now)
        if program.left == 0:
            self.finished.append(now)
            if self.queue:
                self.launch(now + LAUNCH_LATENCY)
