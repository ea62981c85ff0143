"""Whole models on the tape: gradients of every parameter equal torch's in float64; chunks of a batch change nothing."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from miniclip import params
from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.align.model import ALIGN
from miniclip.families.open_clip.config import OpenCLIPConfig, OpenCLIPTextConfig, OpenCLIPVisionConfig
from miniclip.families.open_clip.model import OpenCLIP
from miniclip.families.siglip.config import SigLIPConfig, SigLIPTextConfig, SigLIPVisionConfig
from miniclip.families.siglip.model import SigLIP
from miniclip.loss import contrastive_loss, sigmoid_loss
from miniclip.model import CLIP
from miniclip.ops import numpy_grad, numpy_ops, torch_ops
from miniclip.ops.tape import Variable
from miniclip.runtime import chunks, cpu

TEXT = TextConfig(context_length=9, vocab_size=40, width=12, layers=2, heads=3, mlp_width=20)
VIT = VisionConfig(image_size=(14, 20), patch_size=6, width=16, layers=2, heads=2, mlp_width=24, activation="gelu")
RESNET = ResNetConfig(image_size=(32, 64), width=4, layers=(1, 2, 1, 1), heads=4)
STAGES = (1, 8, 3, 1, 1), (2, 12, 3, 2, 6), (1, 20, 5, 2, 6)
EFFICIENTNET = EfficientNetConfig(
    image_size=33, resized=33, width_coefficient=0.5, depth_coefficient=1.0, depth_divisor=2, stages=STAGES
)
BERT = BertConfig(context_length=9, vocab_size=40, width=16, layers=2, heads=2, mlp_width=24, pad_token_id=0)
SIZES = {"width": 12, "layers": 2, "heads": 3, "mlp_width": 20}
SIGLIP = SigLIPConfig(SigLIPVisionConfig((14, 20), 6, **SIZES), SigLIPTextConfig(9, 40, **SIZES), embed_dim=12)
MODELS = {
    "ViT": (CLIP, CLIPConfig(VIT, TEXT, embed_dim=8)),
    "ResNet": (CLIP, CLIPConfig(RESNET, TEXT, embed_dim=10)),
    "ALIGN": (ALIGN, ALIGNConfig(EFFICIENTNET, BERT, embed_dim=EFFICIENTNET.width)),
    "SigLIP": (SigLIP, SIGLIP),
}
OWN = {"pre_norm": False, "pool": "avg"}
COCA = OpenCLIPConfig(
    OpenCLIPVisionConfig(**{**vars(VIT), "pool_queries": 3, "pool_heads": 2}),
    OpenCLIPTextConfig(**{**vars(TEXT), "pad_id": 0}),
    embed_dim=8,
)
CLIPA = OpenCLIPConfig(
    OpenCLIPVisionConfig(**{**vars(VIT), "norm_after_pool": True, **OWN}),
    OpenCLIPTextConfig(**{**vars(TEXT), "causal": False, "pool": "last", "projection": "bias"}),
    embed_dim=8,
)
MODELS |= {"CoCa": (OpenCLIP, COCA), "CLIPA": (OpenCLIP, CLIPA)}
ENDS = np.array([8, 2, 5, 5, 3])  # the last positions of the texts
B = len(ENDS)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """(kind, configuration, parameters in float64, pictures, tokens of texts of different lengths)."""
    kind, config = MODELS[request.param]
    rng = np.random.default_rng(0)

    def draw(name, shape):
        if shape == ():
            return np.asarray(0.3)
        one = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
        return one + rng.standard_normal(shape) * (1 if one else np.prod(shape[1:])) ** -0.5

    flat = {name: draw(name, shape) for name, shape in params.flatten(config.shapes()).items()}
    size = config.visual.image_size if isinstance(config.visual.image_size, tuple) else (config.visual.image_size,) * 2
    images, tokens = rng.standard_normal((B, 3, *size)), rng.integers(1, 39, (B, 9))
    tokens[np.arange(B), ENDS] = 39
    tokens[np.arange(9) > ENDS[:, None]] = 0
    return kind, config, params.unflatten(flat), images, tokens


def loss_of(model, ops, tree, images, tokens):
    kind, config, *_ = model
    logits = kind(config, tree, ops)(images, tokens)[0]
    return sigmoid_loss(logits, ops=ops) if kind is SigLIP else contrastive_loss(logits, ops=ops, label_smoothing=0.1)


def ours(model, learned=lambda name: True):
    """(loss, {name: Variable or constant}) after backward."""
    tree = params.unflatten({name: Variable(x) if learned(name) else x for name, x in params.flatten(model[2]).items()})
    loss = loss_of(model, numpy_grad, tree, *model[3:])
    loss.backward()
    return loss, params.flatten(tree)


@pytest.fixture(scope="module")
def theirs(model):
    """(loss, {name: gradient}) of torch's autograd; None: no gradient."""
    tree = params.tree_map(lambda x: torch.tensor(x, requires_grad=True), model[2])
    loss = loss_of(model, torch_ops, tree, *model[3:])
    loss.backward()
    flat = params.flatten(tree)
    return loss.item(), {name: None if x.grad is None else x.grad.numpy() for name, x in flat.items()}


def same(a, b, error):
    scale = max(np.abs(x).max() for x in b.values() if x is not None)
    for name, x in b.items():
        if x is None:
            assert a[name] is None, name
        else:
            largest = max(np.abs(x).max(), 1e-6 * scale)  # some are 0 but for rounding: biases of keys
            np.testing.assert_allclose(a[name], x, rtol=0, atol=error * largest, err_msg=name)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_every_parameters_gradient_is_torchs(model, theirs, cores, monkeypatch):
    monkeypatch.setattr(cpu, "blas_threads", lambda: cores)
    loss, flat = ours(model)
    assert float(loss) == pytest.approx(theirs[0], rel=1e-12)
    same({name: x.gradient for name, x in flat.items()}, theirs[1], 1e-9)


def test_the_loss_is_the_references(model):
    assert float(ours(model)[0]) == pytest.approx(float(loss_of(model, numpy_ops, *model[2:])), rel=1e-13)


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_chunks_change_nothing(model, tower, monkeypatch):
    kind, config, tree, images, tokens = model
    monkeypatch.setattr(cpu, "blas_threads", lambda: 2)
    ends = np.full(B, 8) if config is CLIPA or kind is SigLIP else ENDS  # their tokens see all others
    part, batch = getattr(config, tower), (images,) if tower == "visual" else (tokens, ends)
    encode = part.tower.encode_image if tower == "visual" else part.tower.encode_text
    encode = functools.partial(encode, numpy_grad, config=part)
    whole, chunked = (params.tree_map(Variable, tree[tower]) for _ in "ab")
    dy = np.random.default_rng(1).standard_normal((B, config.embed_dim))
    encode(*batch, **whole).backward(dy)  # called by itself, a tower is one chunk
    numpy_grad.capture(encode, chunked)(*batch).backward(dy)
    same(*({name: x.gradient for name, x in params.flatten(t).items()} for t in (chunked, whole)), 1e-10)


def test_frozen_parameters_are_constants_and_change_no_other_gradient(model, theirs):
    def learned(name):
        return name.startswith("text.")

    _, flat = ours(model, learned)
    assert all(isinstance(x, Variable) == learned(name) for name, x in flat.items())
    want = {name: x for name, x in theirs[1].items() if learned(name)}
    same({name: flat[name].gradient for name in want}, want, 1e-9)


def test_gradients_of_two_batches_add_up(model):
    tree = params.tree_map(Variable, model[2])
    loss_of(model, numpy_grad, tree, *model[3:]).backward()
    once = {name: None if x.gradient is None else x.gradient.copy() for name, x in params.flatten(tree).items()}
    loss_of(model, numpy_grad, tree, *model[3:]).backward()
    twice = {name: None if x is None else 2 * x for name, x in once.items()}
    same({name: x.gradient for name, x in params.flatten(tree).items()}, twice, 1e-10)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_looking_inside_changes_no_gradient(model, tower):
    """With a trace all tokens go through the last block, and one is gathered after it; the stages are Variables."""
    kind, config, tree, images, tokens = model
    found, stages = [], {}
    for trace in (None, stages.__setitem__):
        mine = params.tree_map(Variable, tree)
        encode = getattr(kind(config, mine, numpy_grad), f"encode_{tower}")
        (encode(images if tower == "image" else tokens, trace=trace)).sum().backward()
        found.append({name: x.gradient for name, x in params.flatten(mine).items()})
    same(*found, 1e-10)
    assert stages and all(isinstance(x, Variable) for x in stages.values())


def test_types_of_tokens_have_torchs_gradient():
    config = dataclasses.replace(MODELS["ALIGN"][1], visual=None)
    rng = np.random.default_rng(0)
    flat = {name: rng.standard_normal(shape) for name, shape in params.flatten(config.shapes()).items()}
    tokens, types = rng.integers(1, 39, (B, 9)), rng.integers(0, 2, (B, 9))
    tokens[np.arange(9) > ENDS[:, None]] = 0
    variables = {name: Variable(x) for name, x in flat.items()}
    ALIGN(config, params.unflatten(variables), numpy_grad).encode_text(tokens, token_types=types).sum().backward()
    tensors = {name: torch.tensor(x, requires_grad=True) for name, x in flat.items()}
    ALIGN(config, params.unflatten(tensors), torch_ops).encode_text(tokens, token_types=types).sum().backward()
    want = {name: None if x.grad is None else x.grad.numpy() for name, x in tensors.items()}
    same({name: x.gradient for name, x in variables.items()}, want, 1e-9)
    assert [name for name, x in want.items() if x is None] == ["text.pooler.weight", "text.pooler.bias"]


def test_pixels_have_a_gradient_if_they_are_variables(model, monkeypatch):
    """They are one chunk: several threads must not add to one gradient."""
    kind, config, tree, images, _ = model
    pixels, tensor = Variable(images), torch.tensor(images, requires_grad=True)
    monkeypatch.setattr(chunks, "pieces", lambda *batch, **how: pytest.fail("pixels were cut into chunks"))
    kind(config, params.tree_map(Variable, tree), numpy_grad).encode_image(pixels).sum().backward()
    kind(config, tree, torch_ops).encode_image(tensor).sum().backward()
    same({"pixels": pixels.gradient}, {"pixels": tensor.grad.numpy()}, 1e-9)


def test_constants_alone_are_the_reference(model):
    kind, config, tree, images, tokens = model
    logits = kind(config, tree, numpy_grad)(images, tokens)[0]
    assert isinstance(logits, np.ndarray)
    np.testing.assert_allclose(logits, kind(config, tree, numpy_ops)(images, tokens)[0], rtol=1e-12)
