"""The Triton kernels, every version: as close as torch's own in the same dtype.

Without a GPU they run in Triton's interpreter, in float32 and float16 (bfloat16 products are wrong there); with one
they run on it. Their laws are in test_ops.py, which holds every backend to them; what they touch is in
test_memory.py.
"""

import functools
import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from budget import COMPILED, DEVICE, DTYPES, check, dtypes, few, normal, seeds, within_budget
from hypothesis import given
from hypothesis import strategies as st

import miniclip
from miniclip import image
from miniclip.kernels import activation, device, ladder, layer_norm, linear, patch_embed, similarity, triton_ops
from miniclip.kernels.attention import attention
from miniclip.kernels.table import FILES, KERNELS
from miniclip.ops import torch_ops

# -------------------------------------------------------------------------------------------- every kernel of the table

EVERY = [(name, shape) for name, kernel in KERNELS.items() for shape in kernel.small]
TWO_DTYPES = [torch.float32, DTYPES[-1]]  # on a GPU each is compiled, which takes its time


@pytest.mark.parametrize("dtype", TWO_DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize(("name", "shape"), EVERY, ids=[ladder.describe(*case) for case in EVERY])
def test_every_version_of_every_kernel(name, shape, dtype):
    kernel, seeds = KERNELS[name], itertools.count()
    if not kernel.runs_on(device.capability()):
        pytest.skip(f"{name} needs compute capability {kernel.capability / 10}")
    inputs = kernel.inputs(lambda *shape: normal(next(seeds), *shape, dtype=dtype), **shape)
    wide = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    exact, torchs = as_tuple(kernel.plain(**wide)), as_tuple(kernel.plain(**inputs))
    for call in kernel.versions.values():
        for ours, e, t in zip(as_tuple(call(**inputs)), exact, torchs):
            within_budget(ours, e, t)


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def test_the_table_has_every_file_with_kernels():
    """A file with kernels that is not in the table, nor in use by one that is, would be neither tested nor compiled."""
    texts = {path.stem: path.read_text() for path in Path(ladder.__file__).parent.glob("*.py")}
    with_kernels = {name for name, text in texts.items() if "@triton.jit" in text} - {"first_steps"}
    table = {file.__name__.rpartition(".")[2] for file in FILES}
    owners = set()
    for name in with_kernels - table:  # versions of a kernel in a file of their own: attention_carry
        owners.add(owner := max((other for other in table if name.startswith(other)), key=len))
        assert re.search(rf"^from miniclip\.kernels.*\b{name}\b", texts[owner], re.MULTILINE), name
    assert table <= with_kernels | owners


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.rpartition(".")[2])
def test_the_versions_in_a_files_header_are_those_that_are_accepted(file):
    count = max(kernel.ours.versions for kernel in file.KERNELS.values())
    listed = re.findall(r"^    (\d)  \S", file.__doc__, re.MULTILINE)
    assert listed == [str(i) for i in range(1, count + 1)] or (count == 1 and not listed)


@pytest.mark.skipif(COMPILED, reason="on a GPU it would print times, of larger shapes")
@pytest.mark.parametrize("file", ["layer_norm", "similarity"])
def test_running_a_kernels_file_prints_the_error_of_each_version(file):
    """It finds the interpreter by itself, though TRITON_INTERPRET must be set before triton is imported."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", f"miniclip.kernels.{file}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and not done.stderr, done.stderr
    (file,) = (module for module in FILES if module.__name__ == f"miniclip.kernels.{file}")
    head, *blocks = done.stdout.rstrip().split("\n\n")
    assert "float64" in head
    titles = [
        f"{ladder.describe(name, shape)} {dtype}"
        for name, kernel in file.KERNELS.items()
        for shape in kernel.small
        for dtype in ("float32", "float16")
    ]
    assert [block.splitlines()[0] for block in blocks] == titles
    for block in blocks:
        title, *rows = block.splitlines()
        names, errors = zip(*(row.split(" error ") for row in rows))
        kernel = file.KERNELS[title.split()[0]]
        assert [name.strip() for name in names] == ["torch", *kernel.versions]
        assert all(0 < float(error) < (1e-5 if title.endswith("float32") else 1e-2) for error in errors), block


def test_what_a_kernel_cannot_take_is_refused_by_name():
    """Kernels read any address they are given, also other tensors' memory."""
    x, D = normal(0, 2, 5, 8), normal(1, 8)
    heads, picture = normal(2, 2, 5, 1, 8), normal(3, 2, 3, 8, 8)
    patches = normal(4, 8, 3, 4, 4), D, normal(5, 5, 8)
    for match, call in {
        "heads are 129 wide, the attention kernel takes up to 128": lambda: attention(*[normal(0, 1, 2, 1, 129)] * 3),
        r"k is \(2, 5, 1, 7\), expected \(2, 5, 1, 8\)": lambda: attention(heads, heads[..., 1:], heads),
        r"v is \(2, 4, 1, 8\)": lambda: attention(heads, heads, heads[:, 1:]),
        r"lengths is \(1,\), expected \(2,\)": lambda: attention(*[heads] * 3, lengths=torch.ones(1).int()),
        r"weight is \(7,\), expected \(8,\)": lambda: layer_norm.layer_norm(x, D[1:], D, eps=0),
        r"update is \(5, 8\), expected \(2, 5, 8\)": lambda: layer_norm.add_layer_norm(x, x[0], D, D, eps=0),
        r"bias is \(7,\), expected \(8,\)": lambda: activation.bias_activation(x, D[1:], "gelu"),
        "no activation 'tanh'; choose one of quick_gelu, gelu, relu": lambda: activation.bias_activation(x, D, "tanh"),
        r"residual is \(5, 8\), expected \(2, 5, 8\)": lambda: activation.bias_activation(x, D, None, residual=x[0]),
        "attention has versions 1 to 6, not 7": lambda: attention(*[heads] * 3, version=7),
        "all tensors alike, not float16, float32": lambda: attention(heads, heads.half(), heads),
        "all tensors alike, not float32, int32": lambda: attention(heads, heads.int(), heads),
        r"images are of torch.int64: pass torch.uint8": lambda: patch_embed.patch_embed(picture.long(), *patches),
        "all tensors alike, not float32, uint8": lambda: layer_norm.layer_norm(x.byte(), D, D, eps=0),
        "kernels take float32, float16 or bfloat16, all tensors alike, not float64": lambda: similarity.similarity(
            x[0].double(), x[0].double(), D[0].double()
        ),
        "computes no gradients": lambda: layer_norm.layer_norm(x, D.clone().requires_grad_(), D, eps=0),
        "no activation 'tanh'": lambda: linear.linear(x, x[0], None, "tanh"),
        r"x is \(2, 5, 8\), expected \(2, 5, 4\)": lambda: linear.linear(x, x[0, :, :4]),
        r"positions is \(4, 8\), expected \(5, 8\)": lambda: patch_embed.patch_embed(
            picture, *patches[:2], patches[2][1:]
        ),
        r"text_features is \(5, 4\), expected \(5, 8\)": lambda: similarity.similarity(x[0], x[1, :, :4], D[0]),
        r"logit_scale is \(8,\), expected \(\)": lambda: similarity.similarity(x[0], x[1], D),
        r"logit_scale is of float, expected a tensor \(\)": lambda: similarity.similarity(x[0], x[1], 0.0),
        r"weight is of NoneType, expected a tensor \(8,\)": lambda: layer_norm.layer_norm(x, None, D, eps=0),
        "all tensors alike, not float32, int64": lambda: layer_norm.layer_norm(x.long(), D, D, eps=0),
    }.items():
        with pytest.raises(miniclip.InputError, match=match):
            call()


# ----------------------------------------------------------------------------------------------------------- layer norm


@few
@given(
    seed=seeds,
    rows=st.integers(1, 9),
    D=st.integers(1, 70) | st.sampled_from([512, 768, 1000, 1024, 4097]),
    dtype=dtypes,
    mean=st.sampled_from([0, 100]),
    version=st.sampled_from([1, 2, 3]),
    warps=st.sampled_from([None, 1, 2, 4]),
)
def test_layer_norm(seed, rows, D, dtype, mean, version, warps):
    config = warps and {"programs": 1, "num_warps": warps}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "processors", lambda x: 2)  # so that a program has several rows
        layer_norm_is_right(seed, rows, D, dtype, mean, version, config)


def layer_norm_is_right(seed, rows, D, dtype, mean, version, config):
    x = normal(seed, 2, rows, D, dtype=dtype) + mean
    weight, bias = normal(seed + 1, D, dtype=dtype), normal(seed + 2, D, dtype=dtype)
    ours = functools.partial(layer_norm.layer_norm, eps=1e-5, version=version, config=config)
    check(ours, torch_ops.layer_norm, [x, weight, bias], eps=1e-5)
    check(ours, torch_ops.layer_norm, [x[:, 0], weight, bias], eps=1e-5)  # rows that lie apart

    update = normal(seed + 3, 2, rows, D, dtype=dtype)
    total, ours = layer_norm.add_layer_norm(x, update, weight, bias, eps=1e-5, config=config)
    assert torch.equal(total, x + update)
    wide = (a.double() for a in (total, weight, bias))
    within_budget(ours, torch_ops.layer_norm(*wide, eps=1e-5), torch_ops.layer_norm(total, weight, bias, eps=1e-5))


# --------------------------------------------------------------------------------------------- activations and products


@few
@given(
    seed=seeds,
    M=st.integers(1, 9),
    N=st.integers(1, 70) | st.sampled_from([511, 513, 1200]),
    dtype=dtypes,
    name=st.sampled_from([None, *activation.NAMES]),
    bias=st.booleans(),
    residual=st.sampled_from([None, "alike", "transposed"]),
    scale=st.sampled_from([1e-3, 1, 100]),
    version=st.sampled_from([1, 2, 3]),
    in_place=st.booleans(),
)
def test_bias_residual_and_activation(seed, M, N, dtype, name, bias, residual, scale, version, in_place):
    x = normal(seed, 2, M, N, dtype=dtype, scale=scale)
    b = normal(seed + 1, N, dtype=dtype) if bias else torch.zeros(N, dtype=dtype, device=DEVICE)
    r = normal(seed + 2, 2, M, N, dtype=dtype) if residual else torch.zeros_like(x)
    r = r.transpose(0, 2).contiguous().transpose(0, 2) if residual == "transposed" else r

    def theirs(x, b, r):
        return x + b + r if name is None else torch_ops.ACTIVATIONS[name](x + b + r)

    exact, torchs = theirs(x.double(), b.double(), r.double()), theirs(x, b, r)
    before = x.clone()
    options = {"residual": r if residual else None, "in_place": in_place, "version": version}
    ours = activation.bias_activation(x, b if bias else None, name, **options)
    within_budget(ours, exact, torchs)
    assert torch.equal(x, ours if in_place else before)


def test_gelu_is_approximated_as_closely_as_the_kernel_says():
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    for form, allowed in (("tanh", 2.8e-4), ("exp2", 1e-6 + F.gelu(x).abs() / 4096)):
        ours = x * torch.sigmoid(x * activation._normal_logit.fn(x * x, form))
        assert ((ours - F.gelu(x)).abs() <= allowed).all(), form
        large = torch.tensor([-65504.0, 65504.0, math.inf])
        assert (large * activation._normal_logit.fn(large * large, form)).sigmoid().tolist() == [0, 1, 1], form


SPECIAL_FUNCTIONS = """
import re, torch
from miniclip.kernels import activation, linear, offline

for dtype in (torch.bfloat16, torch.float16, torch.float32):
    def new(*shape):
        return torch.empty(shape, dtype=dtype, device="meta")
    for name in ("quick_gelu", "gelu"):
        with offline.compiling(90) as kernels:
            activation.bias_activation(new(64, 512), None, name)
            linear.linear(new(256, 64), new(256, 64), None, name)
        for kernel in kernels:
            found = re.findall(r"(tanh|ex2|rcp|div)\\.(?:approx|full)", open(kernel.files[".ptx"]).read())
            print(str(dtype)[6:], *sorted(set(found)))
"""


def test_16_bit_results_are_computed_with_approximate_special_functions():
    """In the interpreter there are none, so their use is seen in what is compiled."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", SPECIAL_FUNCTIONS], capture_output=True, text=True, env=environment)
    found = dict.fromkeys(done.stdout.splitlines())
    assert list(found)[:2] == ["bfloat16 tanh", "float16 ex2 rcp"] and "float32 div ex2" in found, done.stderr
    assert all(line.startswith("float32") for line in list(found)[2:])


@few
@given(
    seed=seeds,
    M=st.integers(1, 140),
    N=st.integers(1, 140),
    K=st.integers(1, 140),
    dtype=dtypes,
    name=st.sampled_from([None, *activation.NAMES]),
    bias=st.booleans(),
    version=st.sampled_from([1, 2, 3, 4]),
    blocks=st.none() | st.tuples(*[st.sampled_from([16, 32, 64])] * 3),
)
def test_linear(seed, M, N, K, dtype, name, bias, version, blocks):
    if version == 4:
        N, K = 8 * -(-N // 8), 8 * -(-K // 8)  # rows of whole 16 bytes, which the copy engine takes
    x, weight, b = (
        normal(seed, M, K, dtype=dtype),
        normal(seed + 1, N, K, dtype=dtype),
        normal(seed + 2, N, dtype=dtype),
    )
    config = blocks and {"version": version, **dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks)), "num_warps": 4}
    ours = functools.partial(linear.linear, activation=name, version=version, config=config)
    check(ours, torch_ops.linear, [x, weight, b if bias else None], activation=name)


@pytest.mark.parametrize("M", [1, 65, 1025])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_with_the_tiles_that_ship(M, dtype):
    x, weight, bias = normal(0, 1, M, 64, dtype=dtype), normal(1, 320, 64, dtype=dtype), normal(2, 320, dtype=dtype)
    check(lambda *a: linear.linear(*a, "quick_gelu"), torch_ops.linear, [x, weight, bias], activation="quick_gelu")


@pytest.mark.parametrize("fused", [False, True])
def test_both_ways_to_a_linear_layer_are_right(fused, monkeypatch):
    monkeypatch.setattr(linear, "pays", lambda *key: fused)
    x, weight, bias = normal(0, 3, 5, 24), normal(1, 40, 24), normal(2, 40)
    ours = functools.partial(triton_ops.linear, activation="gelu")
    check(ours, torch_ops.linear, [x, weight, bias], activation="gelu")


# ------------------------------------------------------------------------------------------------ the ends of the model


@few
@given(
    seed=seeds,
    B=st.integers(1, 3),
    P=st.sampled_from([1, 2, 7, 8, 14, 16]),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    rest=st.integers(0, 3),
    D=st.integers(1, 70),
    dtype=dtypes,
    strided=st.booleans(),
    version=st.sampled_from([None, 1, 2, 3]),
)
def test_patch_embed(seed, B, P, grid, rest, D, dtype, strided, version):
    height, width = (g * P + min(rest, P - 1) for g in grid)
    images = normal(seed, B, 3, height, width, dtype=dtype)
    if strided:
        images = F.pad(images.permute(0, 2, 3, 1).contiguous(), (0, 1))[..., :3].permute(0, 3, 1, 2)
    weight, token = normal(seed + 1, D, 3, P, P, dtype=dtype), normal(seed + 2, D, dtype=dtype)
    positions = normal(seed + 3, math.prod(grid) + 1, D, dtype=dtype)
    ours = functools.partial(patch_embed.patch_embed, version=version)
    check(ours, torch_ops.patch_embed, [images, weight, token, positions])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("P", "version"), [(2, 1), (2, 3), (8, 2), (8, 3), (16, 3)])
def test_patch_embed_normalises_bytes_as_preprocessing_does(P, version, dtype):
    mean, std = image.MEAN, image.STD
    pixels = torch.randint(256, (3, 2 * P + 1, 3 * P, 3), generator=torch.Generator().manual_seed(0)).byte()
    images = torch.as_tensor(image.normalize(pixels.numpy()))  # (B, height, width, 3)
    pixels, images = (x.permute(0, 3, 1, 2).contiguous().to(DEVICE) for x in (pixels, images))
    parameters = [normal(1, 20, 3, P, P, dtype=dtype), normal(2, 20, dtype=dtype), normal(3, 7, 20, dtype=dtype)]
    ours = patch_embed.patch_embed(pixels, *parameters, mean=mean, std=std, version=version)
    images = images.to(dtype)
    exact = torch_ops.patch_embed(images.double(), *(x.double() for x in parameters))
    within_budget(ours, exact, torch_ops.patch_embed(images, *parameters))
    with pytest.raises(miniclip.InputError, match=r"pass torch.uint8 with mean and std of 3 channels, or floats alone"):
        patch_embed.patch_embed(pixels, *parameters)
    with pytest.raises(miniclip.InputError, match=r"images are of torch.b?float\d\d: pass torch.uint8"):
        patch_embed.patch_embed(images, *parameters, mean=mean, std=std)


@few
@given(
    seed=seeds,
    B=st.integers(1, 70),
    N=st.integers(1, 70),
    E=st.integers(1, 140),
    dtype=dtypes,
    scale=st.sampled_from([0.01, 1, 100]),
    version=st.sampled_from([1, 2, 3]),
)
def test_similarity(seed, B, N, E, dtype, scale, version):
    images, texts = normal(seed, B, E, dtype=dtype, scale=scale), normal(seed + 1, N, E, dtype=dtype)
    logit_scale = torch.tensor(2.5, dtype=dtype, device=DEVICE)
    check(functools.partial(similarity.similarity, version=version), torch_ops.similarity, [images, texts, logit_scale])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_similarity_of_the_smallest_and_the_largest_features(version):
    """Squares of 1e-37 and of 1e37 are no float32 numbers; a row of zeros has no direction, and 0 as its cosines."""
    images = normal(0, 5, 40) * torch.tensor([[1e-37], [1e-20], [1], [1e37], [0]], device=DEVICE)
    texts, logit_scale = normal(1, 3, 40, scale=1e37), torch.tensor(0.0, device=DEVICE)
    exact = images.double() / images.double().norm(dim=1, keepdim=True).clamp(min=1e-300)
    exact = exact @ (texts.double() / texts.double().norm(dim=1, keepdim=True)).T
    ours = similarity.similarity(images, texts, logit_scale, version=version)
    assert (ours.double() - exact).abs().max() < 1e-6


# --------------------------------------------------------------------------------------------------------- whole models


@pytest.mark.parametrize("dtype", ["float32", "float16"] + (["bfloat16"] if DEVICE == "cuda" else []))
def test_the_built_in_model_gives_what_the_reference_gives(dtype):
    reference, preprocess = miniclip.load("shapes", backend="numpy", dtype="float64")
    torchs, _ = miniclip.load("shapes", backend="torch", device=DEVICE, dtype=dtype)
    model, _ = miniclip.load("shapes", backend="triton", dtype=dtype)
    assert model.backend == "triton"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
    images = preprocess(["weights/example.png" if i is None else pixels[i] for i in (None, 1, 2)])
    tokens = reference.tokenize(["a red heart", "a blue circle above a green star", "x"])
    for ours, theirs, exact in zip(*(everything(m, images, tokens) for m in (model, torchs, reference))):
        within_budget(ours, torch.as_tensor(exact).to(DEVICE), theirs)


def everything(model, images, tokens):
    return model.encode_image(images), model.encode_text(tokens), model(images, tokens)[0]
