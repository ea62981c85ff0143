"""Loads, stores and copies of the emulator: bounds, lateness, and the layouts of ldmatrix and stmatrix."""

import numpy as np
import pytest
from ptx_texts import run

from miniclip.kernels import emulator

# %r1 the thread, %rd1 the place of its 32 bits in the first tensor, %r3 in shared memory
PLACES = """
    mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %rd0, %rd2;
    mov.b32 %r2, global_smem; shl.b32 %r3, %r1, 2; add.s32 %r3, %r2, %r3;
"""


def test_shared_memory_and_registers_begin_as_nan():
    out = np.zeros(32, np.float32)
    run(f"{PLACES} ld.shared.b32 %r0, [%r3 + 64]; st.global.b32 [%rd1], %r0", out)
    assert np.isnan(out).all()
    run(f"{PLACES} st.global.b32 [%rd1], %r17", out)
    assert np.isnan(out).all()


def test_a_load_beyond_its_tensor_is_an_error_that_names_thread_and_instruction():
    x = np.arange(40, dtype=np.float32)[:31]
    with pytest.raises(emulator.EmulatorError) as error:
        run(f"{PLACES} ld.global.b32 %r0, [%rd1]", x)
    for part in ("thread 31", "ld.global.b32 %r0, [%rd1]", "program (0, 0, 0)", "(31,)"):
        assert part in str(error.value)
    run(f"{PLACES} setp.lt.u32 %p0, %r1, 31; @%p0 ld.global.b32 %r0, [%rd1]", x)  # masked: what Triton does


def test_another_tensors_memory_is_out_of_bounds_too():
    both = np.arange(64, dtype=np.float32)
    with pytest.raises(emulator.EmulatorError, match="thread 0 is out of bounds: 4 bytes at byte 128 of tensor 0"):
        run(f"{PLACES} ld.global.b32 %r0, [%rd1 + 128]", both[:32], both[32:])
    with pytest.raises(emulator.EmulatorError, match="which is in no tensor"):
        run(f"{PLACES} ld.global.b32 %r0, [%rd2]", both)


@pytest.mark.parametrize("line", ["ld.shared.b32 %r0, [%r3 + 232448]", "st.shared.b32 [%r3 + -4], %r0"])
def test_beyond_shared_memory_is_an_error(line):
    with pytest.raises(emulator.EmulatorError, match="of shared memory, which has 232448"):
        run(f"{PLACES} {line}", np.zeros(1))


def test_vectors_begin_at_multiples_of_their_size():
    x = np.zeros(40, np.uint32)
    with pytest.raises(emulator.EmulatorError, match="no multiple of 8"):
        run("ld.global.v2.b32 {%r0, %r1}, [%rd0 + 4]", x)


def test_views_with_strides_have_the_bounds_of_what_they_span():
    x = np.arange(64, dtype=np.float32).reshape(8, 8)
    view, out = x[1:7, 2:5], np.zeros(32, np.float32)
    run("ld.global.b32 %r0, [%rd0 + 168]; st.global.b32 [%rd10], %r0", view, out)  # 42 = 5 · 8 + 2: view[5, 2]
    assert out[0] == view[5, 2]
    with pytest.raises(emulator.EmulatorError, match="thread 0"):
        run("ld.global.b32 %r0, [%rd0 + 172]", view, out)


COPY = f"{PLACES} cp.async.ca.shared.global [%r3], [%rd1], 4; cp.async.commit_group; {{wait}}"


@pytest.mark.parametrize(
    ("wait", "late", "arrived"),
    [
        ("cp.async.wait_group 0;", True, True),
        ("cp.async.wait_group 1;", True, False),
        ("", True, False),
        ("", False, True),
    ],
)
def test_what_is_copied_arrives_when_it_is_waited_for(wait, late, arrived):
    x = np.arange(32, dtype=np.float32)
    out = np.zeros(32, np.float32)
    line = COPY.format(wait=wait) + "add.s64 %rd3, %rd10, %rd2; ld.shared.b32 %r0, [%r3]; st.global.b32 [%rd3], %r0"
    run(line, x, out, late=late)
    assert np.array_equal(out, x) if arrived else np.isnan(out).all()


def test_a_copy_that_reads_fewer_bytes_is_filled_with_zeros():
    x, out = np.arange(4, dtype=np.float32) + 1, np.zeros(4, np.float32)
    lines = "mov.b32 %r1, {bytes}; cp.async.cg.shared.global [global_smem], [%rd0], 16, %r1; cp.async.wait_all;"
    lines += "ld.shared.v4.b32 {{%r2, %r3, %r4, %r5}}, [global_smem]; st.global.v4.b32 [%rd10], {{%r2, %r3, %r4, %r5}}"
    for read in (0, 8, 16):
        run(lines.format(bytes=read), x, out)
        assert out.tolist() == [*x[: read // 4], *[0] * (4 - read // 4)]


# Four matrices of 8 x 8: lane i gives the address of row i % 8 of matrix i // 8.
FILL = "ld.global.v4.b32 {%r10, %r11, %r12, %r13}, [%rd1]; st.shared.v4.b32 [%r3], {%r10, %r11, %r12, %r13};"
ROWS = PLACES.replace("%r1, 4;", "%r1, 16;").replace("%r1, 2;", "%r1, 4;") + FILL


@pytest.mark.parametrize("trans", ["", ".trans"])
def test_ldmatrix(trans):
    """Lane i gets of each matrix the numbers 2 (i % 4) and the next of row i // 4; of column i // 4, transposed."""
    x, out = np.arange(256, dtype=np.uint16).reshape(4, 8, 8), np.zeros((32, 4, 2), np.uint16)
    run(
        f"{ROWS} ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r4, %r5, %r6, %r7}}, [%r3];"
        "add.s64 %rd3, %rd10, %rd2; st.global.v4.b32 [%rd3], {%r4, %r5, %r6, %r7}",
        x.reshape(32, 8), out,
    )  # fmt: skip
    lane, j, h = np.ogrid[:32, :4, :2]
    row, column = lane // 4, 2 * (lane % 4) + h
    assert np.array_equal(out, x[j, column, row] if trans else x[j, row, column])


@pytest.mark.parametrize("trans", ["", ".trans"])
def test_stmatrix_is_the_reverse_of_ldmatrix(trans):
    x, out = np.arange(256, dtype=np.uint16).reshape(32, 8), np.zeros((32, 8), np.uint16)
    run(
        f"{ROWS} ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r4, %r5, %r6, %r7}}, [%r3];"
        "mov.b32 %r10, 0; st.shared.v4.b32 [%r3], {%r10, %r10, %r10, %r10};"
        f"stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%r3], {{%r4, %r5, %r6, %r7}};"
        "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r3];"
        "add.s64 %rd3, %rd10, %rd2; st.global.v4.b32 [%rd3], {%r4, %r5, %r6, %r7}",
        x, out,
    )  # fmt: skip
    assert np.array_equal(out, x)


# ------------------------------------------------------------------------------------------------- the copy engine

LOAD = """
    mov.u32 %r1, %tid.x; setp.eq.u32 %p0, %r1, 0; mov.b32 %r2, global_smem; add.s32 %r3, %r2, 4096;
    @%p0 mbarrier.init.shared::cta.b64 [%r3], 1;
    @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], {expected};
    mov.b64 %rd5, kernel_param_1; cvta.param.u64 %rd6, %rd5; mov.b32 %r4, {x}; mov.b32 %r5, {y}; mov.b32 %r6, 0;
    @%p0 cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r2], [%rd6, {{%r4, %r5}}], [%r3];
"""
WAIT = """{ .reg .pred complete; waitLoop: mbarrier.try_wait.parity.shared::cta.b64 complete, [%r3], %r6;
    @!complete bra.uni waitLoop; }"""
TO_OUT = """
    shl.b32 %r7, %r1, 4; add.s32 %r7, %r2, %r7; mul.wide.u32 %rd2, %r1, 16; add.s64 %rd3, %rd0, %rd2;
    ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r7]; st.global.v4.b32 [%rd3], {%r10, %r11, %r12, %r13}"""


def boxed(x, start, rows, width, swizzle, **options):
    """What the engine brings of x at (row, column) `start`, in shared memory, (rows, width)."""
    out = np.zeros((rows, width), x.dtype)
    lines = LOAD.format(expected=out.nbytes, x=start[1], y=start[0]) + WAIT + TO_OUT
    run(lines, out, (x, (rows, width), swizzle), threads=out.nbytes // 16, **options)
    return out


@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
@pytest.mark.parametrize("start", [(0, 0), (3, 8), (30, 40), (-2, -3)])
def test_a_box_is_loaded_with_zeros_beyond_the_ends(start, swizzle):
    sea = np.full(128 + 37 * 48, 7, np.uint16)  # what is before the tensor is not zeros
    x = sea[128:].reshape(37, 48)
    x[:] = np.arange(1, 37 * 48 + 1).reshape(37, 48)
    rows, width = 16, max(swizzle, 64) // 2
    padded = np.zeros((128, 256), np.uint16)
    padded[64 : 64 + 37, 64 : 64 + 48] = x
    expected = padded[64 + start[0] :, 64 + start[1] :][:rows, :width]
    pieces = boxed(x, start, rows, width, swizzle).reshape(-1, 8)  # of 16 bytes
    # Where the pieces of the address a are: a's bits 4-6 are flipped by its bits 7-9.
    at = np.arange(len(pieces)) * 16
    bits = {0: 0, 32: 1, 64: 3, 128: 7}[swizzle]
    assert np.array_equal(pieces[(at ^ ((at // 128 & bits) * 16)) // 16].reshape(rows, width), expected)


def test_a_box_that_nobody_waits_for_is_nan():
    x, out = np.ones((16, 32), np.float16), np.zeros((16, 32), np.float16)
    lines = LOAD.format(expected=1024, x=0, y=0) + TO_OUT
    run(lines, out, (x, (16, 32), 0), threads=64)
    assert np.isnan(out).all()
    run(lines, out, (x, (16, 32), 0), threads=64, late=False)
    assert (out == 1).all()
    first = LOAD.format(expected=1024, x=0, y=0)
    again = first.strip().splitlines()[-1]  # the order to load, once more
    run(first + WAIT + again + TO_OUT, out, (x, (16, 32), 0), threads=64)
    assert np.isnan(out).all()


def test_waiting_for_more_bytes_than_come_is_an_error():
    x, out = np.ones((16, 32), np.float16), np.zeros((16, 32), np.float16)
    with pytest.raises(emulator.EmulatorError, match="forever for a barrier: 0 arrivals and 16 bytes are missing"):
        run(LOAD.format(expected=1040, x=0, y=0) + WAIT, out, (x, (16, 32), 0), threads=64)


STORE = """
    mov.u32 %r1, %tid.x; setp.eq.u32 %p0, %r1, 0; mov.b32 %r2, global_smem; shl.b32 %r3, %r1, 4; add.s32 %r3, %r2, %r3;
    mov.b32 %r10, 0x40004000; st.shared.v4.b32 [%r3], {%r10, %r10, %r10, %r10};
    fence.proxy.async.shared::cta; bar.sync 0; mov.b64 %rd5, kernel_param_1; mov.b32 %r4, 24; mov.b32 %r5, 30;
    @%p0 cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd5, {%r4, %r5}], [%r2]; cp.async.bulk.commit_group;
"""


def test_a_box_is_stored_up_to_the_ends():
    x = np.zeros((37, 48), np.float16)
    run(STORE + "cp.async.bulk.wait_group.read 0", x, (x, (16, 32), 0), threads=64)
    expected = np.zeros_like(x)
    expected[30:, 24:] = 2
    assert np.array_equal(x, expected)


def test_a_store_reads_shared_memory_until_it_is_waited_for():
    again = "mov.b32 %r10, 0; st.shared.v4.b32 [%r3], {%r10, %r10, %r10, %r10}; cp.async.bulk.wait_group.read 0"
    x = np.ones((37, 48), np.float16)
    run(STORE + again, x, (x, (16, 32), 0), threads=64)
    assert (x[30:, 24:] == 0).all()
    with pytest.raises(emulator.EmulatorError, match="nothing has waited for"):
        run(STORE, x, (x, (16, 32), 0), threads=64)
