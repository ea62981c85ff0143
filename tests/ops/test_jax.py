"""JAX: towers compile once per shape, work in JAX's transformations, and have the same gradients as in torch."""

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch

import miniclip
from miniclip import CLIP, params
from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.align.model import ALIGN
from miniclip.families.multilingual.config import MultilingualConfig
from miniclip.families.open_clip.config import OpenCLIPConfig, OpenCLIPTextConfig, OpenCLIPVisionConfig
from miniclip.families.siglip.config import SigLIPConfig, SigLIPTextConfig, SigLIPVisionConfig
from miniclip.loss import contrastive_loss
from miniclip.ops import select, torch_ops
from miniclip.towers.text import end_of_text

jax = pytest.importorskip("jax")
jax_ops = select("jax")

STAGES = ((1, 16, 3, 1, 1), (2, 24, 5, 2, 6), (1, 32, 3, 2, 6))
ALIGN_TEXT = BertConfig(context_length=40, vocab_size=50, width=24, layers=2, heads=2, mlp_width=40)
ALT_TEXT = dataclasses.replace(ALIGN_TEXT, first_position=1, head="norm", hidden_width=20, pooler=False)
SIZES = {"width": 16, "layers": 2, "heads": 2, "mlp_width": 24}
CONFIGS = {
    "ViT": CLIPConfig(VisionConfig(24, 8, 32, 2, 2, 48), TextConfig(40, 50, 24, 2, 3, 40, "gelu"), embed_dim=16),
    "ResNet": CLIPConfig(ResNetConfig(64, 8, (1, 2, 1, 1), heads=4), None, embed_dim=16),
    "CLIPA": OpenCLIPConfig(
        OpenCLIPVisionConfig(24, 8, 32, 2, 2, 48, pool="avg", pool_queries=3, pool_heads=2),
        OpenCLIPTextConfig(40, 50, 24, 2, 3, 40, causal=False),
        embed_dim=16,
    ),
    "SigLIP": SigLIPConfig(SigLIPVisionConfig(24, 8, **SIZES), SigLIPTextConfig(7, 50, **SIZES), embed_dim=16),
    "AltCLIP": MultilingualConfig(None, ALT_TEXT, embed_dim=16),
    "mean of tokens": MultilingualConfig(None, dataclasses.replace(ALIGN_TEXT, pool="mean"), embed_dim=16),
    "ALIGN": ALIGNConfig(EfficientNetConfig(33, 40, 0.5, 1.0, stages=STAGES), ALIGN_TEXT, embed_dim=16),
}
TOWERS = [
    ("ViT", "visual"),
    ("ViT", "text"),
    ("ResNet", "visual"),
    ("CLIPA", "visual"),
    ("CLIPA", "text"),
    ("ALIGN", "visual"),
    ("ALIGN", "text"),
    ("AltCLIP", "text"),
    ("mean of tokens", "text"),
    ("SigLIP", "visual"),
    ("SigLIP", "text"),
]
each_tower = pytest.mark.parametrize(("name", "part"), TOWERS)


def random_params(config, seed=0):
    """Random parameters that keep values at about their size; norms' weights are random too."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        return (rng.standard_normal(shape) * math.prod(shape[1:] or (9,)) ** -0.5).astype(np.float32)

    return params.tree_map(draw, config.shapes())


def batch(config, part, count=3, seed=1):
    """The inputs of a tower: pictures, or tokens and the position where each text ends."""
    rng = np.random.default_rng(seed)
    if part == "visual":
        side = config.visual.image_size
        return [rng.standard_normal((count, 3, side, side)).astype(np.float32)]
    tokens = rng.integers(1, config.text.vocab_size, (count, 7))
    return [tokens, end_of_text(tokens)]


def tower(config, part, ops):
    """A tower as a function of arrays: (parameters, *batch) -> features."""
    config = getattr(config, part)
    encode = getattr(config.tower, {"visual": "encode_image", "text": "encode_text"}[part])
    return lambda tree, *inputs: encode(ops, *inputs, **tree, config=config)


class Counting:
    """The backend; counts how often Python runs the start of a tower."""

    def __init__(self):
        self.entered = 0

    def __getattr__(self, name):
        return getattr(jax_ops, name)

    def patch_embed(self, *args, **kwargs):
        self.entered += 1
        return jax_ops.patch_embed(*args, **kwargs)

    def embed(self, *args, **kwargs):
        self.entered += 1
        return jax_ops.embed(*args, **kwargs)


# ----------------------------------------------------------------------------------------- compiled


def test_pictures_are_compiled_for_once_a_shape():
    ops, config = Counting(), CONFIGS["ViT"]
    model = CLIP(config, random_params(config), ops)
    for count, entered in [(3, 1), (3, 1), (2, 2), (3, 2)]:
        model.encode_image(batch(config, "visual", count, seed=entered)[0])
        assert ops.entered == entered


def test_texts_are_compiled_for_once_for_every_sixteen_tokens():
    ops, config = Counting(), CONFIGS["ViT"]
    model = CLIP(config, random_params(config), ops)
    for length, entered in [(3, 1), (16, 1), (17, 2), (5, 2)]:
        tokens = np.ones((2, 40), int)
        tokens[:, length - 1] = 49
        model.encode_text(tokens)
        assert ops.entered == entered


def test_types_of_tokens_are_compiled_too():
    ops, config = Counting(), CONFIGS["ALIGN"]
    model = ALIGN(config, random_params(config), ops)
    tokens, _ = batch(config, "text")
    features = [model.encode_text(tokens, token_types=types) for types in (tokens % 2, tokens % 2, 0 * tokens)]
    assert ops.entered == 2  # one `embed` for tokens, one for types
    assert (features[0] == features[1]).all() and not np.allclose(features[0], features[2])
    np.testing.assert_allclose(features[2], model.encode_text(tokens), atol=1e-5)


def test_a_trace_sees_values():
    config, seen = CONFIGS["ViT"], {}
    model = CLIP(config, random_params(config), jax_ops)
    features = model.encode_image(*batch(config, "visual"), trace=lambda name, x: seen.update({name: np.asarray(x)}))
    assert "blocks.1.attention_weights" in seen
    np.testing.assert_array_equal(seen["features"], features)


# ------------------------------------------------------------------------------------ differentiated


@each_tower
def test_gradients_of_towers_are_torchs(name, part):
    config = CONFIGS[name]
    tree, (first, *rest) = {"params": random_params(config)[part]}, batch(config, part)
    if part == "visual":
        tree["images"] = first  # tokens have no gradient

    def weighted(ops, tree, weights, first=first):
        """A sum of the features with random weights."""
        features = tower(config, part, ops)(tree["params"], tree.get("images", first), *rest)
        return (features * weights).sum()

    def torchs(x):
        return torch.tensor(x, dtype=torch.float64, requires_grad=True)

    weights = np.random.default_rng(2).standard_normal((3, config.embed_dim)).astype(np.float32)
    ours = params.flatten(jax.jit(jax.grad(functools.partial(weighted, jax_ops)))(tree, weights))
    leaves = params.tree_map(torchs, tree)
    rest = [torch.from_numpy(x) for x in rest]
    weighted(torch_ops, leaves, torch.from_numpy(weights), torch.from_numpy(first)).backward()
    theirs = {name: x.grad for name, x in params.flatten(leaves).items()}
    largest = max(x.abs().max() for x in theirs.values() if x is not None)
    assert ours.keys() == theirs.keys()
    for name, x in theirs.items():
        if x is None:  # BERT's pooler: no feature depends on it
            assert name.startswith("params.pooler.") and not ours[name].any()
            continue
        allowed = 1e-4 * max(x.abs().max(), 1e-3 * largest)  # the gradient of a keys' bias is only rounding errors
        assert np.abs(ours[name] - x.numpy()).max() < allowed, name


@each_tower
def test_towers_are_mapped_and_compiled_from_outside(name, part, relative_error):
    config = CONFIGS[name]
    function, tree = tower(config, part, jax_ops), random_params(config)[part]
    groups = [batch(config, part, seed=seed) for seed in range(2)]
    stacked = [np.stack(inputs) for inputs in zip(*groups)]  # (2, B, ...)
    mapped = jax.jit(jax.vmap(functools.partial(function, tree)))(*stacked)
    for ours, inputs in zip(mapped, groups):
        expected = tower(config, part, torch_ops)(
            params.tree_map(torch.from_numpy, tree), *(torch.from_numpy(x) for x in inputs)
        )
        assert relative_error(ours, expected) < 1e-5


def test_a_model_is_differentiated_through_its_pictures(relative_error):
    (ours, _), (theirs, _) = (miniclip.load(backend=backend) for backend in ("jax", "torch"))
    images = np.random.default_rng(0).standard_normal((2, 3, 48, 48)).astype(np.float32)
    pixels = torch.tensor(images, requires_grad=True)
    theirs.encode_image(pixels).square().sum().backward()
    gradient = jax.grad(lambda images: (ours.encode_image(images) ** 2).sum())(images)
    assert relative_error(gradient, pixels.grad) < 1e-4


def test_a_model_may_be_made_of_what_is_differentiated():
    model, preprocess = miniclip.load(backend="jax")
    images, tokens = preprocess(["weights/example.png"] * 2), model.tokenize(["a red heart", "a blue circle"])

    def loss(tree):
        logits, _ = CLIP(model.config, tree, jax_ops)(images, tokens)
        return contrastive_loss(logits, ops=jax_ops)

    slopes = jax.grad(loss)(model.params)
    before, after = (loss({**model.params, "logit_scale": model.logit_scale + step}) for step in (-0.01, 0.01))
    assert (after - before) / 0.02 == pytest.approx(float(slopes["logit_scale"]), rel=0.01)


@pytest.mark.parametrize("name", ["ViT", "ALIGN"])
def test_a_step_down_the_gradient_lowers_the_contrastive_loss(name):
    config = CONFIGS[name]
    tree = random_params(config)
    (images,), texts = batch(config, "visual"), batch(config, "text")

    @jax.jit
    @jax.value_and_grad
    def loss(tree):
        features = tower(config, "visual", jax_ops)(tree["visual"], images)
        logits = jax_ops.similarity(features, tower(config, "text", jax_ops)(tree["text"], *texts), 1.0)
        return contrastive_loss(logits, ops=jax_ops)

    before, gradient = loss(tree)
    gradient = params.tree_map(np.asarray, gradient)
    squares = sum(np.square(x).sum() for x in params.flatten(gradient).values())
    assert 0 < squares < np.inf
    step = 1e-4 / squares  # to first order, the loss falls by 1e-4
    after, _ = loss(jax.tree.map(lambda x, slope: x - step * slope, tree, gradient))
    assert before - after == pytest.approx(1e-4, rel=0.5)


# ------------------------------------------------------------------------------------- arrays and types


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_at_most_twice_as_far_off_as_torchs(dtype, relative_error):
    models = {b: miniclip.load(backend=b, dtype=d) for b, d in [("jax", dtype), ("torch", dtype), ("numpy", "float64")]}
    exact, preprocess = models.pop("numpy")
    images, tokens = preprocess(["weights/example.png"]), exact.tokenize(["a red heart", "a blue circle"])
    for encode, inputs in [("encode_image", images), ("encode_text", tokens)]:
        features = {name: getattr(model, encode)(inputs) for name, (model, _) in models.items()}
        assert features["jax"].dtype == dtype
        errors = {
            name: relative_error(models[name][0].ops.to_numpy(x), getattr(exact, encode)(inputs))
            for name, x in features.items()
        }
        assert errors["jax"] < 2 * errors["torch"], encode
    ours, _ = models["jax"]
    assert {str(x.dtype) for x in params.flatten(ours.params).values() if x.ndim} == {dtype}
    logits, _ = ours(images, tokens)
    assert logits.dtype == ours.logit_scale.dtype == "float32" and logits.argmax() == 0


@pytest.mark.parametrize("dtype", [jax.numpy.bfloat16, np.float16, torch.float16, jax.numpy.dtype("bfloat16")])
def test_types_may_be_any_librarys(dtype):
    model, _ = miniclip.load(backend="jax", dtype=dtype)
    assert model.dtype in str(dtype) and model.params["text"]["embed"]["table"].dtype == model.dtype


def test_float64_is_refused():
    with pytest.raises(miniclip.InputError, match="jax backend does not compute in float64; choose one of float32, "):
        miniclip.load(backend="jax", dtype="float64")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), jax.devices("cpu")[0], None])
def test_devices_go_by_platform_or_are_jaxs_own(device):
    model, preprocess = miniclip.load(backend="jax", device=device)
    assert model.device in jax.devices(None if device is None else "cpu")
    assert model.encode_image(preprocess(["weights/example.png"])).device == model.device


@pytest.mark.parametrize("device", ["nowhere", "cpu:9", "meta"])
def test_unknown_devices_are_refused(device):
    with pytest.raises(miniclip.InputError, match=rf"jax backend cannot use the device '{device}': Unknown backend"):
        miniclip.load(backend="jax", device=device)


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_an_array_that_is_written_to_later_was_copied(dtype):
    memory = np.zeros(1000, np.float32)
    start = -memory.ctypes.data % 64 // 4  # JAX may share memory that is aligned to 64 bytes
    x = memory[start : start + 900]
    ours = jax_ops.asarray(x, dtype=dtype)
    x[:] = 1
    assert not ours.any()
    back = jax_ops.to_numpy(ours)
    back[:] = 1  # to_numpy copies too
    assert not ours.any()


def test_what_is_a_jax_array_already_is_not_copied():
    x = jax_ops.asarray(np.ones(3, np.float32))
    assert jax_ops.asarray(x, dtype="float32") is x


def test_an_id_that_is_not_in_the_table_shows():
    """NumPy raises. Compiled code cannot raise, but must not return another token's row."""
    rows = jax.jit(jax_ops.embed)(np.array([[1, 3]]), np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(rows, [[[1, 1], [np.nan, np.nan]]])
