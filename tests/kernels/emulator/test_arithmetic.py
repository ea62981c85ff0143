"""Instructions that compute in registers, one by one: PTX as text, against what the PTX ISA says that they give."""

import struct

import numpy as np
import pytest
from ptx_texts import computed, float_bits, run

from miniclip.kernels import emulator

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("instruction", "sources", "expected"),
    [
        ("add.s32 %r0, %r1, %r2", (2**31 - 1, 1), 2**31),  # wraps
        ("sub.s32 %r0, %r1, %r2", (1, 2), 2**32 - 1),
        ("mul.lo.s32 %r0, %r1, %r2", (2**31 + 3, 2), 6),
        ("mul.hi.s32 %r0, %r1, %r2", (-7 % 2**32, 1041204193), (-7 * 1041204193 >> 32) % 2**32),
        ("mul.hi.u32 %r0, %r1, %r2", (2**32 - 7, 1041204193), (2**32 - 7) * 1041204193 >> 32),
        ("mad.lo.s32 %r0, %r1, 12, %r2", (5, 7), 67),
        ("div.s32 %r0, %r1, %r2", (-7 % 2**32, 2), -3 % 2**32),  # towards zero
        ("rem.s32 %r0, %r1, %r2", (-7 % 2**32, 2), -1 % 2**32),  # the sign of the dividend
        ("div.u32 %r0, %r1, %r2", (2**32 - 7, 2), (2**32 - 7) // 2),
        ("shl.b32 %r0, %r1, %r2", (3, 31), 2**31),
        ("shl.b32 %r0, %r1, %r2", (3, 32), 0),  # C does not say; PTX does
        ("shr.u32 %r0, %r1, %r2", (2**31, 40), 0),
        ("shr.s32 %r0, %r1, %r2", (2**31, 40), 2**32 - 1),
        ("shr.s32 %r0, %r1, 4", (-64 % 2**32, 0), -4 % 2**32),
        ("min.s32 %r0, %r1, %r2", (-1 % 2**32, 1), 2**32 - 1),
        ("min.u32 %r0, %r1, %r2", (-1 % 2**32, 1), 1),
        ("neg.s32 %r0, %r1", (5, 0), -5 % 2**32),
        ("not.b32 %r0, %r1", (5, 0), ~5 % 2**32),
        ("xor.b32 %r0, %r1, %r2", (5, 3), 6),
        ("bfe.u32 %r0, %r1, 5, 2", (0b1100000, 0), 3),
        ("bfe.s32 %r0, %r1, 6, 1", (1 << 6, 0), 2**32 - 1),
        ("bfe.s32 %r0, %r1, 30, 8", (1 << 31, 0), -2 % 2**32),  # beyond the end: the sign's copies
        ("bfe.u32 %r0, %r1, 30, 8", (1 << 31, 0), 2),
        ("prmt.b32 %r0, %r1, %r2, 0x5410", (0x33221100, 0x77665544), 0x55441100),
        ("prmt.b32 %r0, %r1, %r2, 0x7632", (0x33221100, 0x77665544), 0x77663322),
        ("prmt.b32 %r0, %r1, %r2, 0xc480", (0x80, 0x7F), 0x007FFF80),  # 8 + i: the sign of byte i
        ("popc.b32 %r0, %r1", (0xF0F, 0), 8),
    ],
)
def test_integers(instruction, sources, expected):
    assert computed(instruction, *sources) == expected


@pytest.mark.parametrize(
    ("instruction", "sources", "expected"),
    [
        ("add.f32 %r0, %r1, %r2", (1.0, 2.0**-25), 1.0),
        ("fma.rn.f32 %r0, %r1, %r1, %r2", (1 + 2.0**-12, -1 - 2.0**-11), 2.0**-24),  # the product is not rounded
        ("max.f32 %r0, %r1, %r2", (NAN, 2.0), 2.0),
        ("max.NaN.f32 %r0, %r1, %r2", (NAN, 2.0), NAN),
        ("min.f32 %r0, %r1, %r2", (-INF, 2.0), -INF),
        ("mul.f32 %r0, %r1, %r2", (2.0**-100, 2.0**-40), 2.0**-140),
        ("mul.ftz.f32 %r0, %r1, %r2", (2.0**-100, 2.0**-40), 0.0),
        ("ex2.approx.f32 %r0, %r1", (-140.0, 0.0), 2.0**-140),
        ("ex2.approx.ftz.f32 %r0, %r1", (-140.0, 0.0), 0.0),
        ("ex2.approx.ftz.f32 %r0, %r1", (-INF, 0.0), 0.0),
        ("rcp.approx.ftz.f32 %r0, %r1", (4.0, 0.0), 0.25),
        ("rsqrt.approx.ftz.f32 %r0, %r1", (4.0, 0.0), 0.5),
        ("sqrt.approx.ftz.f32 %r0, %r1", (4.0, 0.0), 2.0),
        ("div.full.f32 %r0, %r1, %r2", (1.0, 0.0), INF),
        ("abs.f32 %r0, %r1", (-3.0, 0.0), 3.0),
        ("neg.f32 %r0, %r1", (-3.0, 0.0), 3.0),
        ("cvt.rmi.f32.f32 %r0, %r1", (-2.5, 0.0), -3.0),
        ("cvt.rni.f32.f32 %r0, %r1", (2.5, 0.0), 2.0),
        ("cvt.rna.tf32.f32 %r0, %r1", (1 + 2.0**-11, 0.0), 1 + 2.0**-10),  # ties away from zero
        ("cvt.rna.tf32.f32 %r0, %r1", (1 + 2.0**-12, 0.0), 1.0),
    ],
)
def test_floats(instruction, sources, expected):
    found = struct.unpack("f", struct.pack("I", computed(instruction, *map(float_bits, sources))))[0]
    assert found == expected or (np.isnan(found) and np.isnan(expected))


def test_tanh_is_as_coarse_as_the_hardwares():
    x = np.linspace(0.01, 4, 999, dtype=np.float32)
    found = np.array([computed("tanh.approx.f32 %r0, %r1", float_bits(v), 0) for v in x[::100]], np.uint32)
    error = np.abs(found.view(np.float32) / np.tanh(x[::100].astype(np.float64)) - 1)
    assert 2.0**-14 < error.max() <= 2.0**-11


@pytest.mark.parametrize(
    ("comparison", "numbers", "nan"),
    [
        ("lt", [1, 0, 0], 0), ("le", [1, 1, 0], 0), ("gt", [0, 0, 1], 0), ("ge", [0, 1, 1], 0), ("eq", [0, 1, 0], 0),
        ("ne", [1, 0, 1], 0),  # NaN is not equal, and not "not equal"
        ("ltu", [1, 0, 0], 1), ("equ", [0, 1, 0], 1), ("neu", [1, 0, 1], 1),
        ("num", [1, 1, 1], 0), ("nan", [0, 0, 0], 1),
    ],
)  # fmt: skip
def test_comparing_floats(comparison, numbers, nan):
    """1, 2 and 3 with 2, and NaN with 2."""
    line = f"setp.{comparison}.f32 %p0, %r1, %r2; selp.b32 %r0, 1, 0, %p0"
    assert [computed(line, float_bits(x), float_bits(2.0)) for x in (1.0, 2.0, 3.0, NAN)] == [*numbers, nan]


def test_signed_and_unsigned_comparisons_differ():
    assert computed("setp.lt.s32 %p0, %r1, %r2; selp.b32 %r0, 1, 0, %p0", 2**32 - 1, 1) == 1
    assert computed("setp.lt.u32 %p0, %r1, %r2; selp.b32 %r0, 1, 0, %p0", 2**32 - 1, 1) == 0


# What rounds to bfloat16 and to float16: ties go to even, and NaN stays NaN.
@pytest.mark.parametrize(
    ("instruction", "x", "bits"),
    [
        ("cvt.rn.bf16.f32", 1 + 2.0**-8, 0x3F80),
        ("cvt.rn.bf16.f32", 1 + 3 * 2.0**-8, 0x3F82),
        ("cvt.rn.bf16.f32", 1 + 2.0**-8 + 2.0**-20, 0x3F81),
        ("cvt.rn.bf16.f32", NAN, 0x7FFF),
        ("cvt.rn.bf16.f32", 3.4e38, 0x7F80),
        ("cvt.rn.f16.f32", 1 + 2.0**-11, 0x3C00),
        ("cvt.rn.f16.f32", 1 + 3 * 2.0**-11, 0x3C02),
        ("cvt.rn.f16.f32", 70000.0, 0x7C00),
        ("cvt.rn.f16.f32", 2.0**-24, 0x0001),
    ],
)
def test_rounding_to_16_bits(instruction, x, bits):
    assert computed(f"{instruction} %rs0, %r1; cvt.u32.u16 %r0, %rs0", float_bits(x), 0) == bits


def test_two_numbers_of_16_bits_in_a_register():
    """The first source is the high half."""
    assert computed("cvt.rn.bf16x2.f32 %r0, %r1, %r2", float_bits(1.0), float_bits(2.0)) == 0x3F804000
    assert computed("cvt.rn.f16x2.f32 %r0, %r1, %r2", float_bits(1.0), float_bits(2.0)) == 0x3C004000
    assert computed("fma.rn.bf16x2 %r0, %r1, %r2, %r1", 0x3F804000, 0x40404040) == 0x40804100  # 1·3 + 1, 2·3 + 2
    assert computed("mov.b32 {%rs0, %rs1}, %r1; mov.b32 %r0, {%rs1, %rs0}", 0x12345678, 0) == 0x56781234


@pytest.mark.parametrize(
    ("instruction", "x", "expected"),
    [
        ("cvt.rzi.s32.f32 %r0, %r1", -2.7, -2 % 2**32),
        ("cvt.rzi.s32.f32 %r0, %r1", 1e20, 2**31 - 1),  # saturates
        ("cvt.rzi.u32.f32 %r0, %r1", -1.0, 0),
        ("cvt.rzi.s32.f32 %r0, %r1", NAN, 0),
        ("cvt.rni.s32.f32 %r0, %r1", 3.5, 4),
    ],
)
def test_floats_to_integers(instruction, x, expected):
    assert computed(instruction, float_bits(x), 0) == expected


def test_integers_of_other_widths():
    assert computed("cvt.s64.s32 %rd0, %r1; shr.u64 %rd0, %rd0, 32; cvt.u32.u64 %r0, %rd0", 2**31, 0) == 2**32 - 1
    assert computed("cvt.u64.u32 %rd0, %r1; shr.u64 %rd0, %rd0, 32; cvt.u32.u64 %r0, %rd0", 2**31, 0) == 0
    assert computed("mul.wide.s32 %rd0, %r1, %r2; shr.u64 %rd0, %rd0, 32; cvt.u32.u64 %r0, %rd0", 2**31, 2) == 2**32 - 1
    assert computed("cvt.rn.f32.s32 %r0, %r1", 2**24 + 1, 0) == float_bits(2.0**24)


E4M3 = {1.0: 0x38, 448.0: 0x7E, 1000.0: 0x7E, -0.0: 0x80, 2.0**-9: 0x01, 1.0625: 0x38, 1.1875: 0x3A, NAN: 0x7F}


@pytest.mark.parametrize("x", E4M3)
def test_e4m3(x):
    """448 is the largest, 2^-9 the smallest; ties go to even."""
    lines = "cvt.rn.satfinite.e4m3x2.f32 %rs0, %r1, %r2; cvt.u32.u16 %r0, %rs0"
    packed = computed(lines, float_bits(x), float_bits(2.0))
    assert packed == E4M3[x] << 8 | 0x40
    back = computed("mov.b32 {%rs0, %rs1}, %r1; cvt.rn.f16x2.e4m3x2 %r0, %rs0", packed, 0)
    high = np.array([back >> 16], np.uint16).view(np.float16)[0]
    assert high == min(x, 448.0) or x in (1.0625, 1.1875) or np.isnan(x)


def test_an_instruction_that_is_not_known_is_named():
    with pytest.raises(emulator.EmulatorError, match=r"'dp4a.u32.u32'.*kernels/emulator \(arithmetic.py"):
        computed("dp4a.u32.u32 %r0, %r1, %r2, %r1", 1, 2)


LANES = list(range(32))


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ("bfly.b32 %r0, %r1, 16, 31, -1", [i ^ 16 for i in LANES]),
        ("bfly.b32 %r0, %r1, 1, 31, -1", [i ^ 1 for i in LANES]),
        ("idx.b32 %r0, %r1, 5, 31, -1", [5] * 32),
        ("up.b32 %r0, %r1, 3, 0, -1", [max(i - 3, i if i < 3 else 0) for i in LANES]),
        ("down.b32 %r0, %r1, 3, 31, -1", [i + 3 if i < 29 else i for i in LANES]),
        ("down.b32 %r0, %r1, 1, 0x1807, -1", [i + 1 if i % 8 < 7 else i for i in LANES]),  # segments of eight
    ],
)
def test_shuffles(operands, expected):
    lines = f"mov.u32 %r1, %tid.x; shfl.sync.{operands}; shl.b32 %r2, %r1, 2; cvt.u64.u32 %rd2, %r2"
    out = np.zeros(64, np.uint32)
    run(f"{lines}; add.s64 %rd1, %rd0, %rd2; st.global.b32 [%rd1], %r0", out, threads=64)
    assert out.tolist() == expected + [32 + lane for lane in expected]


def test_a_branch_that_parts_the_threads():
    """Threads above 5 count to 3, the others leave; they meet again."""
    out = np.zeros(32, np.uint32)
    launch = run(
        """
        mov.u32 %r1, %tid.x; mov.b32 %r0, 100;
        setp.le.u32 %p0, %r1, 5; @%p0 bra $meet;
        mov.b32 %r0, 0;
        $again: add.s32 %r0, %r0, 1; setp.lt.s32 %p1, %r0, 3; @%p1 bra $again;
        setp.eq.u32 %p1, %r1, 31; @!%p1 bra $meet; add.s32 %r0, %r0, 5;
        $meet: bar.sync 0;
        mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %rd0, %rd2; st.global.b32 [%rd1], %r0
        """,
        out,
    )
    assert out.tolist() == [100] * 6 + [3] * 25 + [8]
    (parts, loop, last) = launch.taken.values()
    assert parts == [1, 1] and loop == [2, 1] and last == [1, 1]
    assert launch.counts["add.s32"] == 4 and launch.programs == 1
