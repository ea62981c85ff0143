"""The model of a multiprocessor, on machine code written by hand whose time is known."""

import re

import pytest

from miniclip.kernels.cycles import grid, processor, sass
from miniclip.kernels.cycles.costs import (
    CLOCK,
    H100,
    H200,
    L2_BANDWIDTH,
    PROCESSORS,
    QUARTERS,
    SPECIAL,
    SPECIAL_LATENCY,
    cost,
    costs,
)


def code(*lines):
    """`sass.Code` of lines like "FFMA R1, R2, R3, R4 | stall=4 write=0 wait=1,2"."""
    instructions = []
    for n, line in enumerate(lines):
        text, _, control = line.partition(" | ")
        given = dict(field.split("=") for field in control.split())
        waits = sum(1 << int(scoreboard) for scoreboard in given.get("wait", "").split(",") if scoreboard)
        word = int(given.get("stall", 1)) << 41 | 1 << 45 | waits << 52
        word |= int(given.get("write", 7)) << 46 | int(given.get("read", 7)) << 49
        instruction = sass.decode(f"{16 * n:x}", text, word)
        instructions.append(instruction._replace(target=int(given["to"]) if "to" in given else None))
    return sass.structure(instructions)


def trace(lines):
    machine = code(*lines)
    return list(zip(machine.instructions, costs(machine)))


def cycles(*lines, warps=1, programs=1, occupancy=1, gpu=H100):
    """How long a multiprocessor takes for programs that execute these lines one after the other."""
    return processor.Processor(gpu, dram=1).run([trace(lines)] * programs, warps, occupancy)[-1]


FREE = "FFMA R{0}, R2, R3, R4"


def test_independent_multiply_adds_are_issued_one_a_cycle():
    assert cycles(*[FREE.format(n) for n in range(10, 110)]) == pytest.approx(100, abs=5)


def test_a_chain_takes_the_latency_of_each():
    assert cycles(*["FFMA R1, R1, R2, R3 | stall=4"] * 100) == pytest.approx(400, abs=5)


def test_warps_of_a_quarter_hide_each_others_latency():
    """Warps go to the quarters in turn: the fifth shares the first one's, and up to four fill a latency of four."""
    chain = ["FFMA R1, R1, R2, R3 | stall=4"] * 100
    assert cycles(*chain, warps=8) == pytest.approx(400, abs=10)
    assert cycles(*chain, warps=16) == pytest.approx(400, abs=10)
    assert cycles(*chain, warps=32) == pytest.approx(800, abs=20)


def test_integer_products_take_half_of_the_unit_that_multiplies_floats():
    assert cycles(*["IMAD R{0}, R2, R3, R4"] * 100) == pytest.approx(200, abs=5)
    assert cycles(*["LOP3.LUT R1, R2, R3, RZ, 0xc0, !PT"] * 100) == pytest.approx(200, abs=5)


def test_special_functions_take_four_lanes_and_are_waited_for():
    assert cycles(*["MUFU.EX2 R1, R2"] * 100) == pytest.approx(100 * SPECIAL, rel=0.02)
    alone = cycles("MUFU.EX2 R1, R2 | write=0", "FADD R3, R1, R1 | wait=0", "EXIT")
    assert alone == pytest.approx(SPECIAL_LATENCY, abs=3)


def test_products_reach_the_rate_of_the_tensor_unit():
    """64 x 256 x 16 of four warps: 128 cycles each, and the last one's latency."""
    step = ["HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4], R24, gsb0", "WARPGROUP.DEPBAR.LE gsb0, 0x1"]
    assert cycles(*step * 50, warps=4) == pytest.approx(50 * 128, rel=0.05)


def test_products_that_are_waited_for_one_by_one_take_longer():
    step = "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24, gsb0"
    waiting = cycles(*[step, "WARPGROUP.DEPBAR.LE gsb0, 0x0"] * 50, warps=4)
    assert waiting > 1.8 * cycles(*[step, "WARPGROUP.DEPBAR.LE gsb0, 0x1"] * 50, warps=4)


@pytest.mark.parametrize(
    "text, expected",
    {
        "HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4], R24, gsb0": 128,
        "HGMMA.64x256x8.F32.TF32 R24, gdesc[UR4], R24, gsb0": 128,  # half the rate of 16 bits
        "QGMMA.64x256x32.F32.E4M3.E4M3 R24, gdesc[UR4], R24, gsb0": 128,  # twice
        "HGMMA.64x16x16.F32.BF16 R24, gdesc[UR4], RZ, !UPT, gsb0": 20,  # 80 rows of 32 bytes from shared memory
        "HGMMA.64x16x16.F32.BF16 R24, R88, gdesc[UR4], R24, gsb0": 8,  # 16 rows, the others are in registers
        "LDS.128 R4, [R2]": 4,
        "LDSM.16.M88.4 R20, [R6]": 4,
        "STSM.16.M88.2 [R6], R20": 2,
        "STG.E.128 desc[UR4][R2.64], R4": 4,
        "LDG.E.U16 R4, desc[UR4][R2.64]": 0.5,
    }.items(),
)
def test_how_long_an_instruction_keeps_its_unit_busy(text, expected):
    machine = code(text)
    assert cost(machine.instructions[0], machine, 0).cycles == expected


COPY = ("LDG.E.128 R4, desc[UR4][R2.64] | write=0", "STG.E.128 desc[UR4][R2.64], R4 | wait=0", "EXIT")


@pytest.mark.parametrize("gpu", (H100, H200))
def test_a_copy_reaches_the_bandwidth_of_memory(gpu):
    programs = 100_000
    result = grid.of_programs([trace(COPY)], warps=4, occupancy=16, grid=programs, gpu=gpu)
    assert result.microseconds == pytest.approx(programs * 4 * 1024 / gpu.bandwidth * 1e6, rel=0.05)
    assert result.bound == "memory"


def test_what_other_programs_have_loaded_comes_from_the_cache():
    programs = 100_000
    result = grid.of_programs([trace(COPY)], 4, 16, programs, H100, least=0.25 * programs * 4 * 1024)
    floor = programs * 4 * 1024 / (L2_BANDWIDTH * PROCESSORS * CLOCK)
    assert result.microseconds == pytest.approx(floor * 1e6, rel=0.15)
    assert result.bound == "cache"


def test_a_copy_in_two_stages_hides_memory_and_one_that_waits_at_once_does_not():
    load = ["LDGSTS.E.BYPASS.128 [R4], desc[UR4][R2.64]", "LDGDEPBAR"]
    at_once = cycles(*[*load, "DEPBAR.LE SB0, 0x0"] * 20)
    ahead = cycles(*load, *[*load, "DEPBAR.LE SB0, 0x1"] * 20)
    assert ahead < 0.6 * at_once


def test_a_barrier_waits_for_the_last_warp():
    """Eight warps, two a quarter: those that come first wait, and nobody is lost."""
    work = [FREE.format(n) for n in range(10, 60)]
    result = processor.Processor(H100, dram=1)
    result.run([trace([*work, "BAR.SYNC.DEFER_BLOCKING 0x0", *work])], 8, 1)
    assert result.stalls["barrier"] > 0
    assert result.issued == 8 * 101


TILE = (
    "MOV R2, 0x8000",
    "SYNCS.ARRIVE.TRANS64 RZ, [UR4], R2",
    "UTMALDG.2D [UR8], [UR12]",
    "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R5 | write=0",
    "@!P0 BRA x | wait=0",
)


def test_a_tile_of_the_copy_engine_is_waited_for_and_moves_the_bytes_that_its_barrier_expects():
    """32 KB, once for the program and not for each warp. The tries are waiting: they are not issued again and again."""
    result = processor.Processor(H100, dram=1)
    end = result.run([trace(TILE)], 4, 1)[-1]
    assert result.moved == 0x8000
    assert result.issued == 4 * len(TILE)
    assert end > 0x8000 / result.bandwidth
    assert result.stalls.most_common(1)[0][0] == "memory"


def test_a_loop_around_a_try_wait_is_no_loop():
    machine = code(
        "MOV R1, RZ",
        "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R5",  # 1
        "@!P0 BRA x | to=1",
        "IADD3 R1, R1, 0x1, RZ",  # 3
        "ISETP.LT.AND P1, PT, R1, 0x8, PT",
        "@P1 BRA x | to=1",
        "EXIT",
    )
    assert machine.spins == (sass.Loop(1, 2),)
    assert machine.loops == (sass.Loop(1, 5),)


def test_a_program_alone_takes_its_own_time_and_a_grid_that_of_its_longest():
    short, long = trace([FREE.format(1)] * 100), trace([FREE.format(1)] * 300)
    result = grid.of_programs([short, long], warps=4, occupancy=1, grid=PROCESSORS)
    assert result.cycles == pytest.approx(300, abs=10)
    mixed = grid.of_programs([short, long], warps=4, occupancy=1, grid=100 * PROCESSORS)
    assert mixed.cycles == pytest.approx(230, rel=0.05)  # 200, and the start of each


def test_shares_and_what_bounds():
    mixture = [FREE.format(1), FREE.format(2), "IADD3 R3, R4, R5, RZ"] * 300
    result = grid.of_programs([trace(mixture)], warps=8, occupancy=2, grid=10_000)
    assert result.bound == "issue"
    assert 0.9 < result.used["issue"] <= 1
    assert result.issued == 8 * 900
    assert sum(result.stalls.values()) == pytest.approx(1)
    assert QUARTERS * result.cycles * result.used["issue"] == pytest.approx(8 * 900, rel=0.1)


def test_the_machine_code_of_a_test_is_what_nvdisasm_would_print():
    """`code` writes fields that `sass.decode` reads: the layout is tested on a real cubin in test_machine_code.py."""
    (instruction,) = code("@!P0 LDG.E R4, desc[UR4][R2.64] | stall=5 write=3 read=2 wait=0,5").instructions
    assert (instruction.guard, instruction.name, instruction.stall) == ("!P0", "LDG", 5)
    assert (instruction.write, instruction.read, instruction.wait) == (3, 2, (0, 5))
    assert re.match(r"LDG\.E", instruction.opcode)
