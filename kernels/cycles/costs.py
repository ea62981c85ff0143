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


H100, H200 = Gpu("H100", 3.0e12), Gpu("H200", 4.3e12)  # both measured: kernels/README.md
PROCESSORS = 132  # multiprocessors (H100 SXM and H200 data sheets)
CLOCK = 1.755e9  # Hz, under load
QUARTERS = 4  # each with its own warps, scheduler and arithmetic; they share memory (Hopper whitepaper, figure 7)

# Cycles that a warp's instruction keeps a unit busy: 32 threads / threads a cycle (CUDA C++ guide, "throughput of
# native arithmetic instructions", for 9.0).
HALF_RATE = 2  # 16 lanes in each quarter: each half of the FMA unit, and the ALU
SPECIAL = 8  # exp2, 1/x, sqrt and conversions: 4 lanes
UNIFORM = 2  # est
SHARED_BANDWIDTH = 128  # bytes a cycle of shared memory, for all quarters
TENSOR_RATE = 512  # multiply-adds of 16 bit numbers a cycle and quarter: 989 TFLOP/s at 1.83 GHz (H100 data sheet)
MMA_SHARE = 0.62  # of it, for mma.sync ("Benchmarking and dissecting the NVIDIA Hopper GPU", Luo et al., 2024, table 8)

# Cycles until a result can be used, of what has a scoreboard.
DRAM_LATENCY, L2_LATENCY = 750, 300  # under load, est; unloaded 480 and 200-260 (Luo et al., table 4)
L1_LATENCY = 38  # (Luo et al., table 4)
SHARED_LATENCY = 30  # 29 (Luo et al., table 4) to 33 for LDSM
SPECIAL_LATENCY = 22  # est
MMA_LATENCY = 33  # mma.sync 16x8x16 (Luo et al., table 7)
WGMMA_LATENCY = 40  # after its last cycle in the unit, est
READ_LATENCY = 12  # until operands are read, est
BARRIER_LATENCY = 14  # after the last warp has come, est
OTHER_LATENCY = 20  # S2R, R2UR, votes ..., est
LAUNCH_LATENCY = 30  # from a program's end to the next one's first instruction, est
L2_BANDWIDTH = 5120 / PROCESSORS  # bytes a cycle when all multiprocessors read (A100 whitepaper; Hopper's not less)


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


FMA = ("FFMA", "FMUL", "FADD", "HFMA2", "HADD2", "HMUL2", "FFMA2", "FMUL2", "FADD2")
UNCOUNTED = (
    "BRA",
    "EXIT",
    "NOP",
    "BSSY",
    "BSYNC",
    "WARPSYNC",
    "FENCE",
    "MEMBAR",
    "WARPGROUP",
    "ERRBAR",
    "CCTL",
    "DEPBAR",
)


def cost(instruction, code, n):
    """The `Cost` of the n-th instruction of `code`."""
    name, opcode = instruction.name, instruction.opcode
    if name in ("HGMMA", "QGMMA", "IGMMA"):
        return _wgmma(instruction)
    if name == "HMMA" or name == "IMMA":
        return Cost("tensor", TENSOR, _mma_cycles(opcode), MMA_LATENCY)
    if opcode.startswith("WARPGROUP.DEPBAR"):
        return Cost("wait for products", size=int(instruction.operands[-1], 16))
    if name == "LDG" or name == "LD":
        return Cost("load", LSU, _bytes(opcode) / SHARED_BANDWIDTH, 0, _bytes(opcode))
    if name == "LDGSTS":
        return Cost("copy", LSU, _bytes(opcode) / SHARED_BANDWIDTH, 0, _bytes(opcode))
    if name in ("LDGDEPBAR", "UTMACMDFLUSH"):
        return Cost("commit" if name == "LDGDEPBAR" else "commit stores")
    if name == "DEPBAR" and instruction.operands[0] == "SB0":
        return Cost("wait for copies", size=int(instruction.operands[-1], 16))
    if name in ("STG", "ST", "RED", "ATOMG", "ATOM"):
        return Cost("store", LSU, _bytes(opcode) / SHARED_BANDWIDTH, OTHER_LATENCY, _bytes(opcode))
    if name in ("LDS", "LDSM"):
        return Cost("shared", LSU, _bytes(opcode) / SHARED_BANDWIDTH, SHARED_LATENCY)
    if name in ("STS", "STSM"):
        return Cost("store shared", LSU, _bytes(opcode) / SHARED_BANDWIDTH, SHARED_LATENCY, _bytes(opcode))
    if name == "SHFL":
        return Cost("shared", LSU, 1, SHARED_LATENCY)
    if name == "UTMASTG":
        return Cost("tile store", latency=OTHER_LATENCY)
    if sass.is_wait(instruction):
        return Cost("wait for tile", latency=OTHER_LATENCY)
    if name == "SYNCS" and "ARRIVE" in opcode:
        return Cost("expect", latency=OTHER_LATENCY, size=_expected(code, n))
    if name == "BAR":
        return Cost("barrier")
    if name in FMA:
        return Cost("fma", LIGHT, HALF_RATE)
    if name == "IMAD":
        return Cost("work", HEAVY, HALF_RATE)
    if name in ("MUFU", "I2F", "F2I", "F2F", "POPC", "FLO"):
        return Cost("special", MUFU, SPECIAL, SPECIAL_LATENCY)
    if name in UNCOUNTED:
        return Cost("work")
    if name.startswith("U") or name in ("R2UR", "S2UR", "VOTEU"):
        return Cost("work", UNIFORM_UNIT, UNIFORM, OTHER_LATENCY)
    if name in ("S2R", "CS2R", "LDC", "ELECT", "SYNCS"):
        return Cost("work", latency=OTHER_LATENCY)
    return Cost("work", ALU, HALF_RATE, OTHER_LATENCY)


def _bytes(opcode):
    return LANES * sass.width(opcode)


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
