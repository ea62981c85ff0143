"""Linear layers in 8 bit: as exact as torch's on the same e4m3 numbers, and models near those in float32."""

import numpy as np
import pytest
import torch
from budget import DEVICE, dtypes, normal, seeds, within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

import miniclip
from miniclip import params
from miniclip.config import CLIPConfig, TextConfig
from miniclip.kernels import activation, device, float8, serving, triton_ops
from miniclip.model import CLIP

pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and float8.why_not() is not None, reason="this GPU has no e4m3: compute capability below 8.9"
)


@settings(max_examples=10)
@given(
    seed=seeds,
    M=st.integers(1, 70),
    N=st.integers(1, 70),
    K=st.integers(1, 140),
    dtype=dtypes,
    name=st.sampled_from([None, *activation.NAMES]),
    bias=st.booleans(),
    version=st.sampled_from([2, 3]),
)
def test_linear(seed, M, N, K, dtype, name, bias, version):
    if version == 3:
        N, K = 16 * -(-N // 16), 16 * -(-K // 16)  # rows of whole 16 bytes, which the copy engine takes
    x, b = normal(seed, M, K, dtype=dtype), normal(seed + 1, N, dtype=dtype) if bias else None
    weight = float8.quantise_weight(normal(seed + 2, N, K, dtype=dtype, scale=0.1))
    exact = float8.plain(x.double(), weight, None if b is None else b.double(), name)
    config = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 1}
    ours = float8.linear(x, weight, b, name, version=version, config=config)
    within_budget(ours, exact, float8.plain(x, weight, b, name))


def test_rows_are_quantised_as_torch_does_it():
    """Bit for bit: zeros, the largest number of e4m3 and the next one, tiny and huge rows, ties, subnormals."""
    x = normal(0, 40, 50) * torch.exp2(torch.randint(-12, 12, (40, 1), generator=torch.manual_seed(0)).float()).to(
        DEVICE
    )
    x[0], x[1], x[2, 0], x[3], x[4, 0] = 0, 448, 449, 1e-35, 1e35
    x[5] = torch.exp2(-torch.arange(50.0) / 2)
    x[6] = torch.arange(50.0) * 8.5
    for dtype in (torch.float32, torch.float16):
        y = x.clamp(-6e4, 6e4).to(dtype) if dtype == torch.float16 else x
        (values, scale), (expected, expected_scale) = float8.quantise_rows(y), float8.quantise(y)
        assert torch.equal(scale, expected_scale) and torch.equal(values.float(), expected.float())
        assert scale.log2().frac().abs().max() == 0  # powers of two
    error = (values.float() * scale[:, None] - y.float()).abs()
    assert (error <= y.float().abs() / 16 + scale[:, None] * 2**-10).all()


def test_one_scale_a_row_keeps_what_one_scale_a_tensor_loses():
    x = normal(0, 4, 64)
    x[0] *= 1e6
    weight = float8.quantise_weight(normal(1, 16, 64))
    exact = float8.plain(x.double(), weight)
    errors = [(float8.linear(x, weight, version=v) - exact).abs()[1:].max() for v in (1, 2, 3)]
    assert errors[1] == errors[2] < 1e-4 * exact[1:].abs().max() < 0.1 * errors[0]


def test_a_row_does_not_depend_on_the_others():
    x, weight = normal(0, 9, 32), float8.quantise_weight(normal(1, 16, 32))
    alone = torch.cat([float8.linear(row[None], weight) for row in x])
    assert torch.equal(float8.linear(x, weight), alone)
    assert float8.linear(x[:0], weight).shape == (0, 16)


@pytest.mark.parametrize("name", [None, "gelu", "gelu_tanh"])
def test_the_backend_takes_a_quantised_weight(name):
    x, weight, bias = normal(0, 2, 3, 32), float8.quantise_weight(normal(1, 16, 32)), normal(2, 16)
    ours = triton_ops.linear(x, weight, bias, activation=name)
    within_budget(ours, float8.plain(x.double(), weight, bias.double(), name), float8.plain(x, weight, bias, name))


# --------------------------------------------------------------------------------------------------------- whole models


def test_the_built_in_model_in_8_bit():
    """Its features are near to float32's, and its labels the same."""
    model, preprocess = miniclip.load("shapes", backend="triton")
    images = preprocess(["weights/example.png"])
    tokens = model.tokenize(["a red heart", "a blue circle above a green star"])
    other, report = serving.float8(model, images, tokens)
    assert report["visual"]["cosine"] >= 0.999 and report["text"]["cosine"] >= 0.999
    leaves = params.flatten(other.params)
    quantised = [name for name, leaf in leaves.items() if isinstance(leaf, float8.Weight)]
    kept = [name for part in report.values() for name in part["kept"]]
    assert len(quantised) + len(kept) == sum(name.endswith(serving.QUANTISED) for name in leaves)
    assert other(images, tokens)[0].argmax() == model(images, tokens)[0].argmax()


@pytest.fixture(scope="module")
def model():
    """A text tower of two blocks, with random weights."""
    config = CLIPConfig(None, TextConfig(16, 100, width=32, layers=2, heads=2, mlp_width=64), embed_dim=24)
    rng = np.random.default_rng(0)
    return CLIP(
        config, params.tree_map(lambda s: rng.normal(size=s).astype(np.float32) * 0.2, config.shapes()), triton_ops
    )


def test_layers_that_cost_too_much_are_kept(model, monkeypatch):
    """Here all cost little but one, whose quantised weight is made wrong."""
    quantise = float8.quantise_weight
    wrong = model.params["text"]["blocks"][1]["mlp"]["fc"]["weight"]
    monkeypatch.setattr(float8, "quantise_weight", lambda w: quantise(-w if w is wrong else w))
    tokens = np.array([[5, 6, 99], [7, 99, 0]])
    other, report = serving.float8(model, tokens=tokens, cosine=0.98)
    assert report["text"]["kept"] == ["text.blocks.1.mlp.fc.weight"]
    assert report["text"]["all"] < 0.98 <= report["text"]["cosine"]
    assert other.params["text"]["blocks"][1]["mlp"]["fc"]["weight"] is wrong
    exact, ours = (m.encode_text(tokens, normalize=True) for m in (model, other))
    assert (exact * ours).sum(-1).min().item() == pytest.approx(report["text"]["cosine"], abs=1e-6)
    assert torch.allclose(serving.encode_text(other, tokens), other.encode_text(tokens), atol=0.05)  # packed, too


def test_what_cannot_be_quantised_is_refused(model, monkeypatch):
    tokens = np.array([[5, 99]])
    with pytest.raises(miniclip.InputError, match="pass images, tokens, or both"):
        serving.float8(model)
    with pytest.raises(miniclip.InputError, match=r"needs samples .*, not 0 for the text tower"):
        serving.float8(model, tokens=tokens[:0])
    with pytest.raises(miniclip.InputError, match="on backend='triton', not CLIP"):
        serving.float8(miniclip.load("shapes", backend="numpy")[0], tokens=tokens)
    weight = float8.quantise_weight(normal(0, 16, 32))
    with pytest.raises(miniclip.InputError, match=r"x is \(2, 31\), expected \(2, 32\)"):
        float8.linear(normal(1, 2, 31), weight)
    monkeypatch.setattr(device, "capability", lambda: 86)
    for call in (lambda: float8.linear(normal(1, 2, 32), weight), lambda: serving.float8(model, tokens=tokens)):
        with pytest.raises(miniclip.InputError, match=r"it has compute capability 8\.6, float8 needs 8\.9"):
            call()
    monkeypatch.setattr(device, "capability", lambda: "gfx942")
    with pytest.raises(miniclip.InputError, match="nobody has tried e4m3 on AMD's gfx942"):
        float8.linear(normal(1, 2, 32), weight)
