"""The Triton kernels touch nothing that is not theirs, and find what lies far away."""

import ctypes
import functools
import math
import mmap
import signal
import subprocess
import sys

import pytest
import torch
from budget import DEVICE, check, normal

from miniclip.kernels import activation, first_steps, layer_norm, linear, patch_embed, similarity
from miniclip.kernels.attention import attention
from miniclip.ops import torch_ops


def launches(new):
    """{name: a call of a kernel} on tensors that `new(seed, *shape)` makes; sizes that fill no tile."""
    q, k, v = new(0, 2, 21, 3, 2, 24).unbind(2)
    x, y, weight, bias = new(1, 5, 37), new(15, 5, 37), new(2, 19, 37), new(3, 19)
    norm = [new(4, 37), new(5, 37)]
    patches = [new(6, 2, 3, 9, 13), new(7, 11, 3, 4, 4), new(8, 11), new(9, 7, 11)]
    return {
        **{f"attention {i}": functools.partial(attention, q, k, v, causal=True, version=i) for i in (1, 2, 3, 4)},
        **{f"layer norm {i}": lambda i=i: layer_norm.layer_norm(x, *norm, eps=1e-5, version=i) for i in (1, 2)},
        "sum and layer norm": lambda: layer_norm.add_layer_norm(x, x, *norm, eps=1e-5)[0],
        **{f"activation {i}": lambda i=i: activation.bias_activation(x, norm[0], "gelu", version=i) for i in (1, 2)},
        **{
            f"residual {i}": lambda i=i: activation.bias_activation(x, norm[0], "relu", residual=y, version=i)
            for i in (1, 2)
        },
        **{f"linear {i}": functools.partial(linear.linear, x, weight, bias, version=i) for i in (1, 2)},
        "linear 3": functools.partial(linear.linear, new(10, 5, 40), new(11, 24, 40), new(12, 24), version=3),
        **{f"patches {i}": functools.partial(patch_embed.patch_embed, *patches, version=i) for i in (1, 2)},
        **{
            f"similarity {i}": functools.partial(similarity.similarity, x, new(13, 3, 37), new(14, 1)[0], version=i)
            for i in (1, 2)
        },
        "first steps: add": functools.partial(first_steps.add, new(16, 133), new(17, 133)),
        "first steps: quick_gelu": functools.partial(first_steps.quick_gelu, new(18, 133)),
        "first steps: softmax": functools.partial(first_steps.softmax, x),
        "first steps: layer norm": functools.partial(first_steps.layer_norm, x, *norm, eps=1e-5),
        "first steps: flash attention": functools.partial(
            first_steps.flash_attention, new(19, 30, 16), new(20, 30, 16), new(21, 30, 16)
        ),
    }


def test_results_are_written_whole_and_nothing_beside_them(monkeypatch):
    """What a kernel writes to lies in a sea of NaN: none is left where the result is, and all of it around."""
    seas = []

    def empty(*shape, dtype, device):
        shape = shape[0] if not isinstance(shape[0], int) else shape
        sea = torch.full((math.prod(shape) + 128,), math.nan, dtype=dtype, device=device)
        seas.append(sea)
        return sea[64:-64].view(shape)

    def among_nans(seed, *shape):
        lake = torch.full((math.prod(shape) + 128,), math.nan, device=DEVICE)
        lake[64:-64] = normal(seed, *shape).flatten()
        return lake[64:-64].view(shape)

    calls, results = launches(among_nans), {}
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "empty_like", lambda x: empty(*x.shape, dtype=x.dtype, device=x.device))
    for name, call in calls.items():
        seas.clear()
        results[name] = call()
        assert seas and results[name].isfinite().all(), name
        for sea in seas:
            assert sea[:64].isnan().all() and sea[-64:].isnan().all() and sea[64:-64].isfinite().all(), name
    monkeypatch.undo()
    for name, call in calls.items():
        assert torch.equal(call(), results[name]), name


@pytest.mark.skipif(DEVICE == "cuda", reason="the interpreter's memory is the CPU's, which can be guarded")
def test_no_byte_beyond_a_tensor_is_touched():
    """Every tensor ends, and then begins, at a page that kills whoever touches it: in a process of its own."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    *names, last = done.stdout.splitlines()
    assert done.returncode == -signal.SIGSEGV, done.stderr[-2000:]  # of the last, which goes one number too far
    assert (len(names), last) == (2 * len(launches(normal)), "one too far")


def guarded(at_end):
    """A function (seed, *shape) -> a tensor whose last byte, or first, lies beside a page that must not be touched."""
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


def touch_no_guard():
    """Runs every launch on guarded tensors, printing its name first, and then one that must not survive."""
    for at_end in (True, False):
        new = guarded(at_end)
        calls = launches(new)
        torch.empty = lambda *shape, new=new, **kinds: new(0, *(shape if isinstance(shape[0], int) else shape[0]))
        torch.empty_like = lambda x, new=new: new(0, *x.shape)
        for name, call in calls.items():
            print(name, flush=True)
            call()
    print("one too far", flush=True)
    x, weight = normal(0, 1, 6), guarded(True)(0, 5)
    layer_norm._row[(1,)](x, weight, x[0], torch.zeros(1, 6), 6, 6, 1e-5, BLOCK_D=8)


def test_tensors_of_more_than_two_billion_numbers():
    """Strides fit 32 bits, offsets do not. Nearly all of the memory is never touched, and so never there."""
    far = 2**30 + 64
    sparse = torch.empty(2 * far + 4096, dtype=torch.float16, device=DEVICE)

    def apart(*shape):
        """Three entries, `far` numbers apart."""
        steps = torch.empty(shape, device="meta").stride()
        x = sparse.as_strided((3, *shape), (far, *steps))
        x.copy_(normal(0, 3, *shape, dtype=torch.float16))
        return x

    q, k, v = apart(5, 3, 2, 16).unbind(2)
    for version in (1, 2, 3, 4):
        ours = functools.partial(attention, version=version)
        check(ours, torch_ops.attention, [x.clone() for x in (q, k, v)])
        assert torch.equal(ours(q, k, v), ours(*(x.clone() for x in (q, k, v))))
    x = apart(40)
    one, zero = torch.ones_like(x[0]), torch.zeros_like(x[0])
    for version in (1, 2):
        norm = functools.partial(layer_norm.layer_norm, weight=one, bias=zero, eps=1e-5, version=version)
        assert torch.equal(norm(x), norm(x.clone()))
        score = functools.partial(similarity.similarity, text_features=x.clone(), logit_scale=one[0], version=version)
        assert torch.equal(score(x), score(x.clone()))
    for order in ((1, 0, 2, 3), (1, 2, 0, 3)):  # tokens that lie far apart, heads that do
        qkv = [x.permute(order) for x in (q, k, v)]
        assert torch.equal(attention(*qkv), attention(*(x.clone() for x in qkv)))
    images, parameters = apart(3, 8, 8), [normal(1, 9, 3, 4, 4), normal(2, 9), normal(3, 5, 9)]
    for version in (1, 2):
        embed = functools.partial(patch_embed.patch_embed, version=version)
        parameters = [x.half() for x in parameters]
        assert torch.equal(embed(images, *parameters), embed(images.clone(), *parameters))


if __name__ == "__main__":
    touch_no_guard()
