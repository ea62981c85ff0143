"""What an instruction costs on a multiprocessor of an H100 or H200: which unit it keeps busy, and for how long.

Constants say where they are from; those with "est" are guesses that give the published times of known kernels.
"""

import functools
from typing import NamedTuple

from miniclip.kernels.cycles import sass
from miniclip.kernels.cycles.integers import LANES


class Gpu(NamedTuple):
    """What differs between the GPUs with compute capability 9.0."""

    name: str
    bandwidth: float  # bytes a second of a copy


H100, H200 = Gpu("H100", 3.0e12), Gpu("H200", 4.3e12)  # copies, as measured on them
PROCESSORS = 132  # multiprocessors (H100 SXM and H200 data sheets)
CLOCK = 1.755e9  # Hz under load, est
QUARTERS = 4  # each with its own warps, scheduler and arithmetic; they share memory (Hopper whitepaper)

# Cycles that a warp's instruction keeps a unit busy: 32 threads / threads a cycle (CUDA C++ guide, "throughput of
# native arithmetic instructions", for 9.0).
HALF_RATE = 2  # 16 lanes in each quarter: each half of the FMA unit, and the ALU
SPECIAL = 8  # exp2, 1/x, sqrt and conversions: 4 lanes
UNIFORM = 2  # the unit of what all threads of a warp have in common, est
SHARED_BANDWIDTH = 128  # bytes a cycle of shared memory, for all quarters
TENSOR_RATE = 512  # multiply-adds of 16 bit numbers a cycle and quarter: 989 TFLOP/s at 1.83 GHz (H100 data sheet)
MMA_SHARE = 0.62  # of it, for mma.sync, est: about what Luo et al. measure

# Cycles until a result can be used, of what has a scoreboard: all est. Where "Benchmarking and dissecting the NVIDIA
# Hopper GPU architecture", Luo et al., 2024, measures them, they are near to it; memory's are longer, as under load.
DRAM_LATENCY, L2_LATENCY, L1_LATENCY = 750, 300, 38
SHARED_LATENCY = 30
SPECIAL_LATENCY = 22
MMA_LATENCY = 33  # mma.sync 16x8x16
WGMMA_LATENCY = 40  # after its last cycle in the unit
READ_LATENCY = 12  # until operands are read
BARRIER_LATENCY = 14  # after the last warp has come
OTHER_LATENCY = 20  # S2R, R2UR, votes ...
LAUNCH_LATENCY = 30  # from a program's end to the next one's first instruction
# Bytes a cycle of the second level cache when all multiprocessors read: the A100's 5120 (A100 whitepaper), since
# products with tiles of 128 x 256 at their published speed, 650 to 700 TFLOP/s, read 8 TB/s: almost that many.
L2_BANDWIDTH = 5120 / PROCESSORS

# Units of a quarter, and the one that all quarters share.
HEAVY, LIGHT, ALU, MUFU, UNIFORM_UNIT, TENSOR, LSU = range(7)
UNITS = ("FMA heavy", "FMA light", "ALU", "special", "uniform", "tensor", "load and store")


class Cost(NamedTuple):
    """What an instruction costs: `kind` says what else it does than to take time."""

    kind: str
    unit: int | None = None
    cycles: float = 0  # that the unit is busy
    latency: float = 0  # until its write scoreboard is clear
    size: int = 0  # bytes of a warp, groups that may be pending


def _each(names, cost):
    return dict.fromkeys(names.split(), cost)


SIMPLE = {
    **_each("FFMA FMUL FADD HFMA2 HADD2 HMUL2", Cost("fma", LIGHT, HALF_RATE)),  # or HEAVY, whichever is free
    **_each("IMAD", Cost("work", HEAVY, HALF_RATE)),
    **_each("MUFU I2F F2I F2F POPC FLO", Cost("special", MUFU, SPECIAL, SPECIAL_LATENCY)),
    **_each("BRA EXIT NOP BSSY BSYNC WARPSYNC FENCE MEMBAR WARPGROUP ERRBAR CCTL DEPBAR", Cost("work")),
    **_each("S2R CS2R LDC ELECT SYNCS", Cost("work", latency=OTHER_LATENCY)),
    **_each("R2UR S2UR", Cost("work", UNIFORM_UNIT, UNIFORM, OTHER_LATENCY)),
    **_each("SHFL", Cost("shared", LSU, 1, SHARED_LATENCY)),
    **_each("BAR", Cost("barrier")),
    **_each("LDGDEPBAR", Cost("commit")),
    **_each("UTMACMDFLUSH", Cost("commit stores")),
    **_each("UTMASTG", Cost("tile store", latency=OTHER_LATENCY)),
}
MOVES = {  # {name: (kind, latency)} of loads and stores; spilled registers stay in the first level cache, est
    **_each("LDG LD", ("load", 0)),
    **_each("LDGSTS", ("copy", 0)),
    **_each("STG ST RED ATOMG ATOM", ("store", OTHER_LATENCY)),
    **_each("LDS LDSM LDL STL", ("shared", SHARED_LATENCY)),
    **_each("STS STSM", ("store shared", SHARED_LATENCY)),
}


def cost(instruction, code, n):
    """The `Cost` of the n-th instruction of `code`."""
    name, opcode = instruction.name, instruction.opcode
    if name in ("HGMMA", "QGMMA", "IGMMA"):
        return _wgmma(instruction)
    if name in ("HMMA", "IMMA"):
        return Cost("tensor", TENSOR, _mma_cycles(opcode), MMA_LATENCY)
    if name in MOVES:
        kind, latency = MOVES[name]
        size = LANES * sass.width(opcode)
        return Cost(kind, LSU, size / SHARED_BANDWIDTH, latency, size)
    if opcode.startswith("WARPGROUP.DEPBAR"):
        return Cost("wait for products", size=int(instruction.operands[-1], 16))
    if name == "DEPBAR" and instruction.operands[0] == "SB0":
        return Cost("wait for copies", size=int(instruction.operands[-1], 16))
    if sass.is_wait(instruction):
        return Cost("wait for tile", latency=OTHER_LATENCY)
    if name == "SYNCS" and "ARRIVE" in opcode:
        return Cost("expect", latency=OTHER_LATENCY, size=_expected(code, n))
    unit = UNIFORM_UNIT if name.startswith("U") or name == "VOTEU" else ALU  # all others
    return SIMPLE.get(name) or Cost("work", unit, HALF_RATE, OTHER_LATENCY)


def _shape(opcode):
    return [int(size) for size in opcode.split(".")[1].split("x")]


def _wgmma(instruction):
    """N / 2 cycles for 64 x N products, whose sums go over 32 bytes; reading A and B takes longer if N is small."""
    _, N, _ = _shape(instruction.opcode)
    operands = instruction.operands[1:]
    a_rows = 64 if operands[0].startswith("gdesc") else 0  # else A is in registers
    cycles = max(N / 2, 32 * (a_rows + N) / SHARED_BANDWIDTH)
    return Cost("products", TENSOR, cycles, size=int("gsb0" in operands))


def _mma_cycles(opcode):
    shape = opcode.split(".")[1]  # 16816: 16 x 8 x 16, 1688: 16 x 8 x 8, 16832: 16 x 8 x 32
    rate = {"HMMA": 1, "IMMA": 2}[opcode.split(".")[0]] * (0.5 if "TF32" in opcode else 1)
    return 16 * 8 * int(shape[3:]) / (TENSOR_RATE * MMA_SHARE * rate)


def _expected(code, n):
    """The bytes that a barrier waits for: the last constant that its register was given; 0: none."""
    register = code.instructions[n].operands[-1]
    for instruction in reversed(code.instructions[:n]):
        if instruction.operands and instruction.operands[0] == register:
            last = instruction.operands[-1]
            return int(last, 16) if last.startswith("0x") else 0
    return 0


@functools.cache
def costs(code):
    """The `Cost` of each instruction of a kernel."""
    return tuple(cost(instruction, code, n) for n, instruction in enumerate(code.instructions))
