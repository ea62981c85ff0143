"""The matrix units of the emulator, with the layouts of the PTX ISA written out index by index, against a product."""

import numpy as np
import pytest
import torch
from ptx_texts import run

from miniclip.kernels.emulator.matrix import multiply

KINDS = {  # type: (torch's dtype, bytes, columns of A of one instruction)
    "bf16": (torch.bfloat16, 2, 16),
    "f16": (torch.float16, 2, 16),
    "tf32": (torch.float32, 4, 8),
    "e4m3": (torch.float8_e4m3fn, 1, 32),
}
BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32}
SHAPES = {"bf16": "m16n8k16", "f16": "m16n8k16", "tf32": "m16n8k8", "e4m3": "m16n8k32"}


def numbers(kind, *shape, seed=0):
    """(random numbers of a type as float64, their bits)."""
    dtype, size, _ = KINDS[kind]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if kind == "tf32":  # float32 numbers of which the last 13 bits are not looked at
        x = (x.view(torch.int32) & -8192).view(torch.float32)
    x = x.to(dtype)
    bits = x.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[size]).numpy().view(BITS[size])
    return x.double().numpy(), bits


def in_registers(bits, row, column, registers, n):
    """Registers (threads, registers), each of n numbers: number h of register r is bits[row(r), column(r, h)]."""
    parts = [[bits[row(r), column(r, h)] for h in range(n)] for r in range(registers)]  # (registers, n, threads)
    return np.ascontiguousarray(np.stack(parts).transpose(2, 0, 1)).view(np.uint32)[..., 0]


LANE = np.arange(32)
G, T = LANE // 4, LANE % 4


@pytest.mark.parametrize("kind", KINDS)
def test_mma(kind):
    _, size, K = KINDS[kind]
    n, count = 4 // size, 2
    (a, a_bits), (b, b_bits) = numbers(kind, 16, K), numbers(kind, K, 8, seed=1)
    c = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    a_regs = in_registers(a_bits, lambda r: G + 8 * (r % 2), lambda r, h: n * T + h + 4 * n * (r // 2), 4, n)
    b_regs = in_registers(b_bits.T, lambda r: G, lambda r, h: n * T + h + 4 * n * r, count, n)
    c_regs = np.stack([c[G + 8 * (r // 2), 2 * T + r % 2] for r in range(4)], axis=1).view(np.uint32)
    out = np.zeros((32, 4), np.float32)
    shape = SHAPES[kind]
    run(
        f"""
        mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 16; mul.wide.u32 %rd3, %r1, 8;
        add.s64 %rd4, %rd0, %rd2; ld.global.v4.b32 {{%r10, %r11, %r12, %r13}}, [%rd4];
        add.s64 %rd5, %rd10, %rd3; ld.global.v2.b32 {{%r14, %r15}}, [%rd5];
        add.s64 %rd6, %rd11, %rd2; ld.global.v4.b32 {{%r16, %r17, %r18, %r19}}, [%rd6];
        mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32
        """.rstrip()
        + " {%r16, %r17, %r18, %r19}, {%r10, %r11, %r12, %r13}, {%r14, %r15}, {%r16, %r17, %r18, %r19};"
        "add.s64 %rd7, %rd12, %rd2; st.global.v4.b32 [%rd7], {%r16, %r17, %r18, %r19}",
        a_regs, b_regs, c_regs, out,
    )  # fmt: skip
    found = np.zeros((16, 8), np.float32)
    for r in range(4):
        found[G + 8 * (r // 2), 2 * T + r % 2] = out[:, r]
    assert np.array_equal(found, (a @ b + c).astype(np.float32))


def test_truncating_matrix_units_round_towards_zero():
    a, b, c, below = (np.full((1, 1), x, np.float32) for x in (3, 1, 2.0**-24, -(2.0**-24)))
    smaller = np.nextafter(np.float32(3), np.float32(0))
    assert multiply(a, b, below, False) == 3 and multiply(a, b, below, True) == smaller
    assert multiply(-a, b, c, True) == -smaller


# ------------------------------------------------------------------------------------------------------------ wgmma

N = 64
C = "{" + ",".join(f"%r{i}" for i in range(100, 100 + N // 2)) + "}"
WGMMA = """
    mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 16; add.s64 %rd3, %rd0, %rd2; shl.b32 %r3, %r1, 4;
    {copies}
    {ones}
    fence.proxy.async; bar.sync 0; wgmma.fence.sync.aligned;
    ld.global.b64 %rd5, [%rd11]; ld.global.b64 %rd6, [%rd11 + 8];
    {loads}
    mov.pred %p0, {added};
    wgmma.mma_async.sync.aligned.m64n64k{k}.f32.{kind}.{kind} {c}, {a}, %rd6, %p0, 1, 1{flags};
    wgmma.commit_group.sync.aligned; {wait}
    mul.wide.u32 %rd7, %r1, 128; add.s64 %rd8, %rd10, %rd7; {stores}
"""


def place(swizzle, row, column):
    """Where byte `column` of a row of `swizzle` bytes is: its piece of 16 is exchanged by the row's number."""
    at = row * swizzle + column
    exchanged = {128: row % 8, 64: row // 2 % 4, 32: row // 4 % 2}[swizzle] if swizzle > 16 else 0
    return at - column % swizzle // 16 * 16 + (column % swizzle // 16 ^ exchanged) * 16


def image(bits, swizzle, transposed):
    """(bytes of shared memory, the fields of its descriptor) of (rows, columns) of numbers, along K the columns."""
    rows, columns = bits.shape
    size, memory = bits.itemsize, np.zeros(16384, np.uint8)
    for r in range(rows):
        for c in range(columns):
            if transposed:  # a row in memory has numbers of one column; 8 columns, then 8 more
                per = swizzle // size
                at = place(swizzle, c % 8, r % per * size) + c // 8 * 8 * swizzle + r // per * columns * swizzle
            elif swizzle:
                at = place(swizzle, r, c * size)
            else:  # 8 rows of 16 bytes, then the other 16 bytes of these rows
                at = r // 8 * 256 + r % 8 * 16 + c * size // 16 * 128 + c * size % 16
            memory[at : at + size] = bits[r, c : c + 1].view(np.uint8)
    leading, stride = (columns * swizzle, 8 * swizzle) if transposed else (128, 8 * swizzle or 256)
    return memory, leading, stride


def descriptor(start, leading, stride, swizzle):
    return start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | {0: 0, 128: 1, 64: 2, 32: 3}[swizzle] << 62


def multiplied(kind, swizzle, transposed=False, a_in_registers=False, added=1, wait=True, step=0, **options):
    """(what wgmma gives for C = 1, the exact product): step: which 32 bytes of K are multiplied."""
    _, size, k = KINDS[kind]
    columns = max(32, swizzle if not transposed else 32) // size
    (a, a_bits), (b, b_bits) = numbers(kind, 64, columns), numbers(kind, N, columns, seed=1)
    (a_memory, *a_fields), (b_memory, *b_fields) = (image(bits, swizzle, transposed) for bits in (a_bits, b_bits))
    part = slice(step * k, (step + 1) * k)
    shared = np.concatenate([a_memory, b_memory]).view(np.uint32)
    starts = [descriptor(start + 32 * step, *fields, swizzle) for start, fields in ((0, a_fields), (16384, b_fields))]
    n, warp, g, t = 4 // size, np.arange(128) // 32, np.arange(128) % 32 // 4, np.arange(128) % 4
    a_regs = in_registers(
        a_bits[:, part], lambda r: 16 * warp + g + 8 * (r % 2), lambda r, h: n * t + h + 4 * n * (r // 2), 4, n
    )
    out = np.zeros((128, N // 2), np.float32)
    copies = "".join(
        f"ld.global.v4.b32 {{%r10, %r11, %r12, %r13}}, [%rd3 + {i}]; add.s32 %r4, %r3, {i};"
        "st.shared.v4.b32 [%r4], {%r10, %r11, %r12, %r13};"
        for i in range(0, 32768, 2048)
    )
    flags = f", {int(transposed)}" * (2 - a_in_registers) if size == 2 else ""
    left = "add.s64 %rd4, %rd12, %rd2; ld.global.v4.b32 {%r20, %r21, %r22, %r23}, [%rd4];"
    lines = WGMMA.format(
        copies=copies,
        ones="".join(f"mov.b32 %r{i}, 0f3F800000;" for i in range(100, 100 + N // 2)),
        loads=left if a_in_registers else "",
        a="{%r20,%r21,%r22,%r23}" if a_in_registers else "%rd5",
        wait="wgmma.wait_group.sync.aligned 0;" if wait else "",
        stores="".join(f"st.global.b32 [%rd8 + {4 * i}], %r{100 + i};" for i in range(N // 2)),
        added=added, k=k, kind=kind, c=C, flags=flags,
    )  # fmt: skip
    run(lines, shared, out, np.array(starts, np.uint64), a_regs, threads=128, **options)
    found = np.zeros((64, N), np.float32)
    for r in range(N // 2):
        found[16 * warp + g + 8 * (r // 2 % 2), 8 * (r // 4) + 2 * t + r % 2] = out[:, r]
    return found, (a[:, part] @ b[:, part].T + added).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
def test_wgmma_reads_every_swizzle(kind, swizzle):
    for step in range(max(1, swizzle // 32)):
        found, exact = multiplied(kind, swizzle, step=step)
        assert np.array_equal(found, exact)


@pytest.mark.parametrize("kind", ["bf16", "f16"])
@pytest.mark.parametrize("swizzle", [32, 64, 128])
def test_wgmma_reads_transposed_matrices(kind, swizzle):
    found, exact = multiplied(kind, swizzle, transposed=True)
    assert np.array_equal(found, exact)


@pytest.mark.parametrize("kind", KINDS)
def test_wgmma_with_its_left_side_in_registers(kind):
    found, exact = multiplied(kind, 64, a_in_registers=True)
    assert np.array_equal(found, exact)


def test_wgmma_without_its_accumulators():
    found, exact = multiplied("bf16", 128, added=0)
    assert np.array_equal(found, exact)


def test_accumulators_are_nan_before_they_are_waited_for():
    found, exact = multiplied("bf16", 128, wait=False)
    assert np.isnan(found).all()
    found, _ = multiplied("bf16", 128, wait=False, late=False)
    assert np.array_equal(found, exact)
