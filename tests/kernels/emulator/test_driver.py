"""The emulator as Triton's GPU: what a launch records, what is restored afterwards, and the fault that it must see.

These tests run where kernels are compiled: in a process of their own, which test_emulated.py starts.
"""

import itertools
import re

import faulty_attention
import pytest
import torch
import triton
from budget import EMULATED, normal

from miniclip.errors import InputError
from miniclip.kernels import activation, device, emulator, ladder, offline, oracle, triton_ops
from miniclip.kernels.attention import attention
from miniclip.kernels.emulator.__main__ import shapes
from miniclip.kernels.table import KERNELS
from miniclip.ops import torch_ops

pytestmark = pytest.mark.skipif(not EMULATED, reason="test_emulated.py runs it in a process that compiles kernels")


@pytest.fixture
def no_driver(monkeypatch):
    """As outside of `emulating`."""
    monkeypatch.setattr(triton.runtime.driver, "_active", None)


def test_kernels_run_on_the_cpu_only_inside(no_driver):
    x = normal(0, 3, 5)
    assert not device.emulating()
    with emulator.emulating(90) as launches:
        assert device.emulating() and device.capability() == 90 and device.why_not() is None
        assert triton_ops.asarray(x.bfloat16()).dtype == torch.bfloat16
        out = activation.bias_activation(x, None, "relu")
    assert torch.equal(out, x.relu()) and len(launches) == 1
    assert not device.emulating() and triton.runtime.driver._active is None
    with pytest.raises(InputError, match="run on a GPU, not on cpu"):
        activation.bias_activation(x, None, "relu")


def test_the_driver_is_restored_after_an_error_and_after_a_block_in_a_block(no_driver):
    x = normal(0, 3, 5)
    with pytest.raises(ZeroDivisionError), emulator.emulating(90):
        raise ZeroDivisionError
    assert triton.runtime.driver._active is None
    with emulator.emulating(90) as outer:
        with emulator.emulating(80, late=False) as inner:
            activation.bias_activation(x, None, "relu")
            assert device.capability() == 80
        activation.bias_activation(x, None, "relu")
        activation.bias_activation(x, None, "relu")
    assert (len(outer), len(inner)) == (2, 1)
    with emulator.emulating(90) as again:  # what was compiled in an earlier block belongs to this one
        activation.bias_activation(x, None, "relu")
    assert (len(outer), len(again)) == (2, 1) and again[0].kernel is outer[0].kernel


def test_compiling_offline_is_not_emulating():
    x = torch.empty(3, 5, device="meta")
    with offline.compiling(90) as kernels:
        activation.bias_activation(x, None, "relu")
    assert len(kernels) == 1
    with emulator.emulating(90) as launches:
        activation.bias_activation(normal(0, 3, 5), None, "relu")
    assert len(launches) == 1 and launches[0].files[".ptx"]


def test_a_capability_that_is_not_emulated_is_refused():
    with pytest.raises(InputError, match="capabilities 80, 86, 89, 90, not 100"), emulator.emulating(100):
        pass


def test_a_launch_says_what_was_run():
    q, k, v = normal(0, 1, 300, 3, 1, 64, dtype=torch.float16).unbind(2)
    with emulator.emulating(90) as launches:
        attention(q, k, v)
    (launch,) = launches
    assert launch.name and launch.programs == launch.grid[0] > 1
    assert launch.counts["wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16"] > 0
    # A loop's branch back is taken once for each step but the last; it is the branch to an earlier instruction.
    instructions, labels = launch.kernel.instructions, launch.kernel.labels
    back = [i for i in launch.taken if labels[instructions[i].operands[0]] <= i]
    assert back and all(instructions[i].opcode.startswith("bra") for i in launch.taken)
    for i in back:
        taken, left = launch.taken[i]
        assert taken > 0 and 0 <= left <= launch.programs


def test_a_trace_sees_every_instruction_and_its_registers():
    seen = []

    def trace(program, instruction):
        if instruction.opcode == "mov.u32" and instruction.operands[1] == "%tid.x":
            seen.append(program.register(instruction.operands[0]).tolist())

    with emulator.emulating(90, trace=trace) as launches:
        activation.bias_activation(normal(0, 3, 5), None, "relu")
    assert seen[0] == list(range(launches[0].kernel.threads))


def test_what_is_run_can_be_edited():
    """Without its waits attention is NaN; the next block, with the same compiled kernel, has them again."""
    q, k, v = normal(0, 1, 80, 3, 1, 64, dtype=torch.float16).unbind(2)
    with emulator.emulating(90, edit=lambda text: re.sub(r"wgmma\.wait_group\S*\s+\d+;", "", text)) as launches:
        assert attention(q, k, v, version=4).isnan().any()
    assert not any(opcode.startswith("wgmma.wait") for opcode in launches[0].counts)
    with emulator.emulating(90):
        assert not attention(q, k, v, version=4).isnan().any()


def worst(ours, q, k, v):
    exact = torch_ops.attention(q.double(), k.double(), v.double())
    return ((ours.double() - exact).abs().max() / exact.abs().max()).item()


def test_accumulators_that_are_read_too_early_are_seen():
    """The attention that was once shipped: right if results come at once, and on a GPU only by ptxas' repair."""
    qkv = normal(0, 1, 197, 3, 1, 64, dtype=torch.bfloat16).unbind(2)
    usual = worst(torch_ops.attention(*qkv), *qkv)
    with emulator.emulating(90, late=False):
        assert worst(faulty_attention.attention(*qkv), *qkv) < 2 * usual
    with emulator.emulating(80):  # mma.sync has nothing to wait for
        assert worst(faulty_attention.attention(*qkv), *qkv) < 2 * usual
    with emulator.emulating(90):
        assert faulty_attention.attention(*qkv).isnan().any()
        assert worst(attention(*qkv), *qkv) < 2 * usual  # today's


# What CLIP's shapes have and those of the tests have not: sums in many steps, in buffers that are used again.
SHAPES = [(name, shape) for name, kernel in KERNELS.items() for shape in shapes(kernel)[len(kernel.small) :]]


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=[ladder.describe(*case) for case in SHAPES])
def test_sums_in_many_steps(name, shape):
    kernel, seeds = KERNELS[name], itertools.count()
    inputs = kernel.inputs(lambda *sizes: normal(next(seeds), *sizes, dtype=torch.bfloat16), **shape)
    check, _ = oracle.checker(kernel, inputs, whole=True)
    for call in list(kernel.versions.values())[-3:]:  # the first are slow, and simple
        check(call(**inputs))


def test_truncating_matrix_units_are_worse_but_near():
    q, k, v = normal(0, 1, 77, 3, 1, 64).unbind(2)
    with emulator.emulating(90):
        exact = worst(attention(q, k, v), q, k, v)
    with emulator.emulating(90, truncate=True):
        assert exact < worst(attention(q, k, v), q, k, v) < 1e-6


def test_a_missing_mask_is_found():
    """A kernel that is given fewer rows than it was launched for."""
    x = normal(0, 5, 37)
    with pytest.raises(emulator.EmulatorError, match="out of bounds"):
        activation._tile_kernel[(1,)](x, None, None, torch.empty(4, 37), 5, 37, "relu", None, BLOCK_M=8, BLOCK_N=64)


def test_emulating_is_refused_where_triton_interprets(monkeypatch):
    monkeypatch.setattr(emulator.driver, "INTERPRETING", True)
    with pytest.raises(InputError, match="TRITON_INTERPRET=1 is set"), emulator.emulating(90):
        pass
