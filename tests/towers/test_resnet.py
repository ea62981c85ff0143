"""The ResNet tower against OpenAI's ModifiedResNet on the same weights, stage by stage, so that a failure names one.

The official model has a BatchNorm after every convolution, with statistics other than 0 and 1; ours has them folded.
"""

import math
import types

import numpy as np
import pytest
import torch
from backends import HERE
from torch.nn.init import normal_, uniform_

from miniclip import CLIP, params
from miniclip.checkpoints.infer import infer_config
from miniclip.config import CLIPConfig, ResNetConfig, TextConfig
from miniclip.families import batch_norm, names
from miniclip.families.clip import openai
from miniclip.families.clip.presets import PRESETS
from miniclip.ops import numpy_ops, select
from miniclip.towers import resnet

TEXT = TextConfig(context_length=7, vocab_size=20, width=64, layers=1, heads=1, mlp_width=256)
# Blocks of each stage, channels after the stem, picture, embedding: the depths are those of the five official models.
STRUCTURES = {
    "RN50": ((3, 4, 6, 3), 8, 64, 24),
    "RN101": ((3, 4, 23, 3), 10, 64, 16),
    "RN50x4": ((4, 6, 10, 6), 12, 96, 10),
    "RN50x16": ((6, 8, 18, 8), 8, (96, 64), 16),
    "RN50x64": ((3, 15, 36, 10), 16, (32, 96), 12),
}


@pytest.fixture(scope="module")
def module(official_model):
    """OpenAI's clip/model.py."""
    return official_model.module


def build(module, config, embed_dim):
    """OpenAI's CLIP in evaluation mode, with random parameters and statistics that keep values at about their size."""
    side = math.isqrt(math.prod(config.grid) - 1) + 1  # it only takes squares: the positions are cut below
    official = module.CLIP(
        embed_dim, 32 * side, config.layers, config.width, None, TEXT.context_length, TEXT.vocab_size, TEXT.width,
        TEXT.heads, TEXT.layers,
    ).eval()  # fmt: skip
    pool = official.visual.attnpool
    pool.positional_embedding = torch.nn.Parameter(pool.positional_embedding[: math.prod(config.grid) + 1].clone())
    pool.num_heads = config.heads
    torch.manual_seed(0)
    for name, part in official.visual.named_modules():
        if isinstance(part, torch.nn.Conv2d):
            normal_(part.weight, std=(2 / part.weight[0].numel()) ** 0.5)
        elif isinstance(part, torch.nn.BatchNorm2d):
            many = name.endswith("bn3") and "layer" in name  # the last in a block, which scales the block's update
            branch = 1.2 * sum(config.layers) ** -0.5 if many else 1
            uniform_(part.weight, 0.5 * branch, 1.5 * branch)
            uniform_(part.running_var, 0.5, 2)
            normal_(part.bias, std=0.2)
            normal_(part.running_mean, std=0.2)
        elif isinstance(part, torch.nn.Linear):
            normal_(part.weight, std=0.3 * part.in_features**-0.5)
            normal_(part.bias, std=0.2)
    normal_(pool.positional_embedding, std=0.5)
    return official


def fold(official):
    """The parameters of an official model, folded and flat, under our names."""
    tensors = {name: x.numpy() for name, x in official.state_dict().items()}
    return names.rename(batch_norm.fold(tensors, openai.BATCH_NORMS, openai.EPS), openai.OPENAI_RESNET)


def config_of(structure):
    layers, width, image_size, embed_dim = structure
    return CLIPConfig(ResNetConfig(image_size, width, layers, heads=width * 32 // 64), TEXT, embed_dim)


def ours(config, flat, backend="numpy", dtype="float32"):
    return CLIP(config, params.unflatten(flat), select(backend), dtype=dtype)


def pictures(config, count=2, dtype=np.float32):
    size = [n * 32 for n in config.visual.grid]
    return np.random.default_rng(1).standard_normal((count, 3, *size)).astype(dtype)


@pytest.fixture(scope="module", params=STRUCTURES)
def pair(request, module):
    """(our configuration, OpenAI's model)."""
    config = config_of(STRUCTURES[request.param])
    return config, build(module, config.visual, config.embed_dim)


def official_stages(module, official, images):
    """{our name of a stage: its value} of the official image tower, in order."""
    stages = {}

    def keep(name):
        return lambda part, inputs, output: stages.__setitem__(name, output.clone())  # some change in place

    def attention(query, need_weights, **options):
        stages["attention_pool.tokens"] = query.transpose(0, 1)  # (B, T, D)
        options |= {"query": query, "need_weights": True, "average_attn_weights": False}
        x, weights = torch.nn.functional.multi_head_attention_forward(**options)
        stages["attention_pool.attention_weights"] = weights[:, :, :1]  # (B, H, 1, T)
        return x, None

    tower = official.visual
    hooks = [tower.avgpool.register_forward_hook(keep("stem"))]
    for s, layer in enumerate((tower.layer1, tower.layer2, tower.layer3, tower.layer4)):
        hooks += [block.register_forward_hook(keep(f"stages.{s}.{b}")) for b, block in enumerate(layer)]
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "F", types.SimpleNamespace(multi_head_attention_forward=attention))
        stages["features"] = official.encode_image(torch.from_numpy(images))
    for hook in hooks:
        hook.remove()
    return stages


def compare(model, module, official, images, relative_error, error):
    """Check that stages have the same order, and errors below `error` times the stage's largest value."""
    theirs, stages = official_stages(module, official, images), {}
    features = model.encode_image(images, trace=lambda name, x: stages.update({name: model.ops.to_numpy(x)}))
    assert list(stages) == list(theirs)
    for stage, value in theirs.items():
        assert value.std() > 1e-3 and stages[stage].shape == tuple(value.shape)
        found = relative_error(stages[stage], value.numpy())
        assert found < error, f"{stage} is off by {found:.1e} of its largest value"
    np.testing.assert_array_equal(model.ops.to_numpy(features), stages["features"])
    unseen = model.ops.to_numpy(model.encode_image(images))
    assert relative_error(unseen, stages["features"]) < error / 10  # JAX compiles the whole, and rounds less


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_tower_equals_openais_stage_by_stage(pair, module, backend, relative_error):
    config, official = pair
    model = ours(config, fold(official), backend)
    compare(model, module, official.float(), pictures(config), relative_error, 1e-5)


@pytest.mark.parametrize("backend", [name for name in HERE if name not in ("numpy", "torch")])  # slow: one is enough
def test_one_tower_equals_openais_stage_by_stage_on_every_backend(module, backend, relative_error):
    config = config_of(STRUCTURES["RN50"])
    official = build(module, config.visual, config.embed_dim)
    model = ours(config, fold(official), backend)
    compare(model, module, official, pictures(config), relative_error, 1e-5)


def test_folding_changes_nothing_but_the_order_of_rounding(module, relative_error):
    config = config_of(STRUCTURES["RN50x16"])
    official = build(module, config.visual, config.embed_dim).double()
    model = ours(config, fold(official), dtype="float64")
    compare(model, module, official, pictures(config, dtype=np.float64), relative_error, 1e-12)


def test_a_whole_rn50_equals_openais(module, relative_error):
    config = CLIPConfig(PRESETS["RN50"].visual, TEXT, 1024)
    official = build(module, config.visual, config.embed_dim)
    images = pictures(config)
    with torch.no_grad():
        theirs = official.encode_image(torch.from_numpy(images)).numpy()
    assert relative_error(ours(config, fold(official)).encode_image(images), theirs) < 1e-5


# ------------------------------------------------------------------------------------- its parameters


def test_every_official_parameter_is_hit_exactly_once(pair):
    config, official = pair
    flat = fold(official)
    assert {name: x.shape for name, x in flat.items()} == params.flatten(config.shapes())
    numbers = {name: x.numpy() for name, x in official.state_dict().items()}
    folded = batch_norm.fold(numbers, openai.BATCH_NORMS, openai.EPS)
    restored = names.restore(flat, openai.OPENAI_RESNET)
    assert restored.keys() == folded.keys()
    assert all(np.array_equal(restored[name], x) for name, x in folded.items())


def test_openais_model_loads_what_was_unfolded_and_computes_the_same(pair, module, relative_error):
    config, official = pair
    images = pictures(config)
    with torch.no_grad():
        before = official.float().encode_image(torch.from_numpy(images)).numpy()
    unfolded = batch_norm.unfold(names.restore(fold(official), openai.OPENAI_RESNET), openai.BATCH_NORMS, openai.EPS)
    other = build(module, config.visual, config.embed_dim)
    other.load_state_dict({name: torch.from_numpy(x) for name, x in unfolded.items()})
    with torch.no_grad():
        after = other.encode_image(torch.from_numpy(images)).numpy()
    assert relative_error(after, before) < 1e-5


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("RN")])
def test_presets_build_the_official_models(module, name):
    """Every name and shape is that of OpenAI's class, built without memory."""
    config = PRESETS[name]
    visual, text = config.visual, config.text
    with torch.device("meta"):
        official = module.CLIP(
            config.embed_dim, visual.image_size, visual.layers, visual.width, None, text.context_length,
            text.vocab_size, text.width, text.heads, text.layers,
        )  # fmt: skip
    assert official.visual.attnpool.num_heads == visual.heads
    theirs = {name: tuple(x.shape) for name, x in official.named_parameters()}
    flat = params.flatten(config.shapes())
    empty = names.restore({name: np.empty(shape, np.uint8) for name, shape in flat.items()}, openai.OPENAI_RESNET)
    empty = batch_norm.unfold(empty, openai.BATCH_NORMS, openai.EPS)
    assert {name: x.shape for name, x in empty.items() if name in theirs} == theirs
    assert empty.keys() - theirs.keys() == {name for name, _ in official.named_buffers()}
    assert infer_config(flat) == config


# --------------------------------------------------------------------------------------------- its laws


def random_tower(config, seed=0):
    rng = np.random.default_rng(seed)
    shapes = params.flatten(config.shapes()["visual"])
    scaled = {name: rng.standard_normal(s) * math.prod(s[1:] or (30,)) ** -0.5 for name, s in shapes.items()}
    return {"visual": params.unflatten({name: x.astype(np.float32) for name, x in scaled.items()})}


def test_the_mean_alone_asks_and_sees_every_cell(relative_error):
    """Without positions, attention pooling ignores the order of the cells of the last grid."""
    config = CLIPConfig(ResNetConfig(96, 8, (1, 1, 1, 1), heads=4), None, 16)
    pool = random_tower(config)["visual"]["attention_pool"]
    grid = np.random.default_rng(1).standard_normal((2, 256, 3, 3)).astype(np.float32)
    pool["position_embedding"] = np.zeros_like(pool["position_embedding"])
    plain, turned, other = (
        resnet.pool(numpy_ops, x, **pool, heads=4) for x in (grid, np.rot90(grid, axes=(2, 3)), grid * np.eye(3))
    )
    assert relative_error(turned, plain) < 1e-6
    assert relative_error(other.astype(np.float32), plain) > 1e-2


@pytest.mark.parametrize("backend", HERE)
def test_features_of_a_batch_are_those_of_its_members(backend, relative_error):
    config = CLIPConfig(ResNetConfig(64, 8, (1, 2, 1, 1), heads=2, channels=1), None, 16)
    model = CLIP(config, random_tower(config), select(backend))
    images = np.random.default_rng(2).standard_normal((3, 1, 64, 64)).astype(np.float32)
    together = model.ops.to_numpy(model.encode_image(images))
    alone = [model.ops.to_numpy(model.encode_image(images[i : i + 1])) for i in range(3)]
    assert relative_error(np.concatenate(alone), together) < 1e-5
    assert model.ops.to_numpy(model.encode_image(images[:0])).shape == (0, 16)
