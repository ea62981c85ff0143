"""The Triton kernels touch no memory outside their tensors, and find numbers that are far apart."""

import ctypes
import functools
import itertools
import math
import mmap
import os
import signal
import subprocess
import sys

import pytest
import torch
from budget import COMPILED, DEVICE, check, normal
from checkout import ROOT

from miniclip.kernels import device, first_steps, ladder, laws, layer_norm, patch_embed, similarity
from miniclip.kernels.attention import attention
from miniclip.kernels.table import KERNELS
from miniclip.ops import torch_ops


def launches(new):
    """{name: a call of a kernel} on tensors that `new(seed, *shape)` makes; sizes that fill no tile."""
    seeds = itertools.count()
    calls = {}
    for name, kernel in KERNELS.items():
        for shape in kernel.small if kernel.runs_on(device.capability()) else ():
            inputs = kernel.inputs(lambda *shape: new(next(seeds), *shape), **shape)
            for version, call in kernel.versions.items():
                calls[f"{ladder.describe(name, shape)}, {version}"] = functools.partial(call, **inputs)
    x, *norm = new(100, 5, 37), new(101, 37), new(102, 37)
    return {
        **calls,
        "first steps: add": functools.partial(first_steps.add, new(103, 133), new(104, 133)),
        "first steps: quick_gelu": functools.partial(first_steps.quick_gelu, new(105, 133)),
        "first steps: softmax": functools.partial(first_steps.softmax, x),
        "first steps: layer norm": functools.partial(first_steps.layer_norm, x, *norm, eps=1e-5),
        "first steps: flash attention": functools.partial(
            first_steps.flash_attention, new(106, 30, 16), new(107, 30, 16), new(108, 30, 16)
        ),
    }


def test_results_are_written_whole_and_nothing_beside_them():
    """Results are allocated in a sea of NaN: afterwards no NaN is left in them, and nothing has changed around them."""
    calls, results = launches(lambda seed, *shape: laws.lake(normal(seed, *shape))), {}
    for name, call in calls.items():
        with laws.sea() as seas:
            results[name] = as_tuple(call())
        assert seas and all(result.isfinite().all() for result in results[name]), name
        assert laws.calm(seas) and all(x.isfinite().all() for _, x in seas), name
    for name, call in calls.items():
        assert all(map(torch.equal, as_tuple(call()), results[name])), name


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.skipif(COMPILED, reason="the interpreter's memory is the CPU's, which can be guarded")
def test_no_byte_beyond_a_tensor_is_touched():
    """Every tensor ends, and then begins, at a page that kills the process if it is touched: a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}  # where this file finds what tests share
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment)
    *names, last = done.stdout.splitlines()
    assert done.returncode == -signal.SIGSEGV, done.stderr[-2000:]  # of the last, which goes one number too far
    assert (len(names), last) == (2 * len(launches(normal)), "one too far")


def guarded(at_end):
    """A function (seed, *shape) -> a tensor whose last byte, or first, is next to a page that must not be touched."""
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)

    def new(seed, *shape):
        numbers = math.prod(shape)
        inner = -(-4 * numbers // page) * page
        region = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(region))
        for edge in (start, start + page + inner):
            assert libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
        x = torch.frombuffer(region, dtype=torch.float32, count=numbers, offset=page + at_end * (inner - 4 * numbers))
        return x.copy_(normal(seed, *shape).flatten()).view(shape)

    return new


plain_empty = torch.empty


def guarded_empty(new, *shape, dtype, device):
    """torch.empty, guarded if there are numbers, of float32: integers and e4m3 are of other sizes."""
    shape = shape if isinstance(shape[0], int) else shape[0]
    guard = dtype == torch.float32 and math.prod(shape)
    return new(0, *shape) if guard else plain_empty(shape, dtype=dtype, device=device)


def touch_no_guard():
    """Run every launch on guarded tensors, printing its name first; then one that must kill the process."""
    for at_end in (True, False):
        new = guarded(at_end)
        calls = launches(new)
        torch.empty = functools.partial(guarded_empty, new)
        torch.empty_like = lambda x, new=new: new(0, *x.shape)
        for name, call in calls.items():
            print(name, flush=True)
            call()
    print("one too far", flush=True)
    x, weight = normal(0, 1, 6), guarded(True)(0, 5)
    layer_norm._row_kernel[(1,)](x, weight, x[0], torch.zeros(1, 6), 6, 6, 1e-5, BLOCK_D=8)


def test_tensors_of_more_than_two_billion_numbers():
    """Strides fit 32 bits, offsets do not. Nearly all of the memory is never touched, and so never allocated."""
    far = 2**30 + 64
    sparse = torch.empty(2 * far + 4096, dtype=torch.float16, device=DEVICE)

    def apart(*shape):
        """Three entries, `far` numbers apart."""
        steps = torch.empty(shape, device="meta").stride()
        x = sparse.as_strided((3, *shape), (far, *steps))
        x.copy_(normal(0, 3, *shape, dtype=torch.float16))
        return x

    q, k, v = apart(5, 3, 2, 16).unbind(2)
    for version in (1, 2, 3, 4, 5, 6):
        ours = functools.partial(attention, version=version)
        check(ours, torch_ops.attention, [x.clone() for x in (q, k, v)])
        assert torch.equal(ours(q, k, v), ours(*(x.clone() for x in (q, k, v))))
    x = apart(40)
    one, zero = torch.ones_like(x[0]), torch.zeros_like(x[0])
    for version in (1, 2, 3):
        norm = functools.partial(layer_norm.layer_norm, weight=one, bias=zero, eps=1e-5, version=version)
        assert torch.equal(norm(x), norm(x.clone()))
        score = functools.partial(similarity.similarity, text_features=x.clone(), logit_scale=one[0], version=version)
        assert torch.equal(score(x), score(x.clone()))
    for order in ((1, 0, 2, 3), (1, 2, 0, 3)):  # tokens that are far apart, heads that are
        qkv = [x.permute(order) for x in (q, k, v)]
        assert torch.equal(attention(*qkv), attention(*(x.clone() for x in qkv)))
    images, parameters = apart(3, 8, 8), [normal(1, 9, 3, 4, 4), normal(2, 9), normal(3, 5, 9)]
    for version in (1, 2, 3):
        embed = functools.partial(patch_embed.patch_embed, version=version)
        parameters = [x.half() for x in parameters]
        assert torch.equal(embed(images, *parameters), embed(images.clone(), *parameters))


if __name__ == "__main__":
    touch_no_guard()
