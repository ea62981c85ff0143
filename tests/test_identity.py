"""Which model it is: the same for the same weights, another one for others."""

import copy
import dataclasses
import math

import numpy as np
import pytest
from backends import QUICK

import miniclip
from miniclip import identity
from miniclip.checkpoints.convert import WRITERS
from miniclip.config import CLIPConfig, PictureSettings, TextConfig, VisionConfig
from miniclip.errors import InputError
from miniclip.model import CLIP
from miniclip.params import tree_map


@pytest.fixture(scope="module")
def plain():
    return miniclip.load("shapes")[0]


@pytest.mark.parametrize("backend", QUICK)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_the_backend_and_the_dtype_make_no_difference(plain, backend, dtype):
    model = miniclip.load("shapes", backend=backend)[0]
    if dtype not in model.ops.DTYPES:
        pytest.skip(f"{backend} has no {dtype}")
    model = miniclip.load("shapes", backend=backend, dtype=dtype)[0]
    assert identity.same(identity.of(plain), identity.of(model))


@pytest.mark.parametrize("to", ["hf", "open_clip", "openai"])
def test_the_format_makes_no_difference(plain, to, tmp_path):
    """OpenAI's has 64 channels a head and its own vocabulary: a model that fits it, in the others too."""
    sizes = {"width": 64, "layers": 1, "heads": 1, "mlp_width": 256}
    visual, text = VisionConfig(32, 16, **sizes), TextConfig(77, 49408, **sizes)
    config = CLIPConfig(visual, text, 32)
    rng = np.random.default_rng(0)
    params = tree_map(lambda shape: rng.standard_normal(shape).astype(np.float32), config.shapes())
    params["logit_scale"] = np.float32(2)
    models = [CLIP(config, params, plain.ops)] + ([] if to == "openai" else [plain])
    for i, model in enumerate(models):
        path = tmp_path / f"{i}"
        WRITERS[to](path, model.config, model.params, tokenizer=model.tokenizer)
        assert identity.same(identity.of(model), identity.of(miniclip.load(path)[0]))


def test_other_weights_are_another_model(plain):
    params = copy.deepcopy(plain.params)
    params["text"]["blocks"][1]["mlp"]["fc"]["bias"][7] += 1e-6
    assert not identity.same(identity.of(plain), identity.of(type(plain)(plain.config, params, plain.ops)))


@pytest.mark.parametrize(
    ("tower", "changes"),
    [
        ("visual", {"activation": "gelu"}),
        ("visual", {"heads": 8}),
        ("text", {"heads": 8}),
        ("text", {"eps": 1e-6}),
    ],
)
def test_the_same_weights_that_are_used_otherwise_are_another_model(plain, tower, changes):
    config = dataclasses.replace(getattr(plain.config, tower), **changes)
    config = dataclasses.replace(plain.config, **{tower: config})
    other = type(plain)(config, plain.params, plain.ops)
    assert not identity.same(identity.of(plain), identity.of(other))


def test_what_formats_write_differently_makes_no_difference(plain):
    """How positions are interpolated, how pictures are prepared, and by which rule a text ends."""
    visual = dataclasses.replace(
        plain.config.visual, antialias=True, pictures=huggingface_pictures(plain.config.visual)
    )
    text = dataclasses.replace(plain.config.text, eot_token_id=None)
    config = dataclasses.replace(plain.config, visual=visual, text=text)
    assert identity.of(plain) == identity.of(type(plain)(config, plain.params, plain.ops))


def huggingface_pictures(visual):
    return PictureSettings("shortest", visual.image_size, visual.image_size, "bicubic", 1 / 255, ())


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_one_tower_alone_is_the_same_model(plain, tower):
    """An index that was built with one tower is searched with both."""
    alone = miniclip.load("shapes", tower=tower)[0]
    assert [*identity.of(alone)] == [tower]
    for pair in ((plain, alone), (alone, plain), (alone, alone)):
        assert identity.same(*map(identity.of, pair))
    params = copy.deepcopy(alone.params)
    params[tower]["blocks"][1]["mlp"]["fc"]["bias"][7] += 1e-6
    assert not identity.same(identity.of(plain), identity.of(type(alone)(alone.config, params, alone.ops)))


def test_two_towers_cannot_be_compared():
    visual, text = (miniclip.load("shapes", tower=tower)[0] for tower in ("visual", "text"))
    with pytest.raises(InputError, match="with visual cannot be compared with one with text: load both towers"):
        identity.same(identity.of(visual), identity.of(text))


@pytest.mark.parametrize("backend", QUICK)
def test_only_samples_leave_the_device(backend, monkeypatch):
    model, _ = miniclip.load("shapes", backend=backend)
    moved, to_numpy = [], model.ops.to_numpy
    monkeypatch.setattr(model.ops, "to_numpy", lambda x: moved.append(math.prod(x.shape)) or to_numpy(x))
    identity.of(model)
    assert max(moved) == identity.SAMPLE


def test_two_kinds_of_16_bits_cannot_be_compared():
    half, brain = (miniclip.load("shapes", backend="torch", dtype=dtype)[0] for dtype in ("float16", "bfloat16"))
    with pytest.raises(InputError, match="load it in float32"):
        identity.same(identity.of(half), identity.of(brain))


def test_rounding_to_bfloat16_is_torchs():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    x = np.concatenate([x, np.float32([0, 1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8])])  # ties
    expected = torch.from_numpy(x).to(torch.bfloat16).view(torch.uint16).numpy()
    assert np.array_equal(identity._rounded(x, "bfloat16"), expected)
