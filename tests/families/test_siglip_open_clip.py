"""OpenCLIP's SigLIP: we read the files that OpenCLIP and timm write, and they load the files that we write."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import importlib.util
import json

import numpy as np
import pytest
from backends import HERE
from official_pictures import noise, official_open_clip
from open_clip_models import SIGLIP, SIGLIPS, SMALL, arrays, check_written, few_blocks, has_timm, official, save
from siglip_vocabularies import gemma_directory, sentencepiece, spiece_directory  # noqa: F401

import miniclip
from miniclip import InputError, checkpoints
from miniclip.checkpoints import open_clip
from miniclip.checkpoints.convert import convert
from miniclip.formats import safetensors
from miniclip.tokenizers.cleaned import Cleaned

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None or not has_timm(), reason="pip install --no-deps open_clip_torch timm"
)
HALF = [0.5, 0.5, 0.5]
SQUASHED = {"mean": HALF, "std": HALF, "interpolation": "bicubic", "resize_mode": "squash"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{name: (directory that OpenCLIP wrote, its inputs and features)}."""
    found = save(tmp_path_factory.mktemp("siglip"), SIGLIPS)
    for directory, _ in found.values():  # OpenCLIP has these values in its table of weights
        source = json.loads((directory / open_clip.CONFIG).read_text())
        (directory / open_clip.CONFIG).write_text(json.dumps({**source, "preprocess_cfg": SQUASHED}))
    return found


@pytest.fixture(autouse=True)
def small_towers():
    with few_blocks():
        yield


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("name", SIGLIPS)
def test_features_and_logits_are_openclips(name, backend, saved, relative_error):
    directory, batch = saved[name]
    for path in (directory, directory / open_clip.WEIGHTS[1]):
        model = miniclip.load(path, backend, device="cpu")[0]
        assert relative_error(model.ops.to_numpy(model.encode_image(batch["images"])), batch["image"]) < 1e-5
        assert relative_error(model.ops.to_numpy(model.encode_text(batch["tokens"])), batch["text"]) < 1e-5
    tensors, _ = safetensors.read(directory / open_clip.WEIGHTS[0])
    cosines = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (batch["image"], batch["text"])]
    logits = np.exp(tensors["logit_scale"]) * cosines[0] @ cosines[1].T + tensors["logit_bias"]
    assert relative_error(model.ops.to_numpy(model(batch["images"], batch["tokens"])[0]), logits) < 1e-5


def test_pictures_are_openclips(saved):
    _, preprocess = miniclip.load(saved["siglip"][0], "numpy")
    for mode in ("RGB", "RGBA", "LA", "P"):
        picture = noise(mode, 40, 30)
        np.testing.assert_array_equal(
            preprocess(picture), official_open_clip(picture, 28, "squash", "bicubic", HALF, HALF, 0)
        )


def test_openclip_loads_what_we_write(saved, tmp_path, relative_error):
    check_written(saved, tmp_path, relative_error)
    for name in saved:
        source = json.loads((tmp_path / name / open_clip.CONFIG).read_text())
        assert SQUASHED.items() <= source["preprocess_cfg"].items()


def test_transformers_form_keeps_the_features(saved, tmp_path, relative_error):
    directory, batch = saved["siglip"]
    convert(directory, tmp_path / "hf", "hf")
    model = miniclip.load(tmp_path / "hf", "numpy")[0]
    assert relative_error(model.encode_text(batch["tokens"]), batch["text"]) < 1e-5
    convert(tmp_path / "hf", tmp_path / "back", "open_clip")
    assert checkpoints.load(tmp_path / "back")[0] == checkpoints.load(directory)[0]
    with pytest.raises(InputError, match=r"transformers cannot express that this model has text\.projects False"):
        convert(saved["siglip without projection"][0], tmp_path / "no", "hf")


def test_another_size_is_that_of_openclip(saved, tmp_path, relative_error):
    directory, batch = saved["siglip"]
    for size in ((16, 16), (48, 48)):
        images = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
        np.savez(tmp_path / f"{size}.npz", images=images, tokens=batch["tokens"])
        official([["load", str(directory), size, str(tmp_path / f"{size}.npz"), ""]])
        theirs = arrays(tmp_path / f"{size}.npz")
        model = miniclip.load(directory, "numpy", image_size=size)[0]
        assert relative_error(model.encode_image(theirs["images"]), theirs["image"]) < 1e-5
    with pytest.raises(InputError, match=r"OpenCLIP has only timm's image towers, and none .* has image_size 48"):
        checkpoints.open_clip.save(tmp_path / "m", *checkpoints.load(directory, image_size=48)[:2])


def test_the_tokenizer_is_read_and_written(saved, gemma_directory, tmp_path):
    tokenizer = {"hf_tokenizer_name": "owner/name", "tokenizer_kwargs": {"clean": "canonicalize"}}
    text = {**SIGLIP["text_cfg"], "vocab_size": 1000, **tokenizer}
    directory, _ = save(tmp_path, {"m": {**SIGLIP, "text_cfg": text}})["m"]
    for file in gemma_directory["GemmaTokenizer"].iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    tokens = miniclip.load(directory, "numpy")[0].tokenize(["A red_Cat!", "a red cat"])
    assert tokens.shape == (2, 9) and np.array_equal(*tokens)
    convert(directory, tmp_path / "m.safetensors", "miniclip")
    convert(tmp_path / "m.safetensors", tmp_path / "back", "open_clip")
    for path in (directory / open_clip.WEIGHTS[0], tmp_path / "m.safetensors", tmp_path / "back"):
        model = miniclip.load(path, "numpy")[0]
        assert type(model.tokenizer) is Cleaned
        np.testing.assert_array_equal(model.tokenize(["A red_Cat!", "a red cat"]), tokens)
    assert "cannot write this model's tokenizer for transformers" in convert(directory, tmp_path / "hf", "hf")
    assert miniclip.load(saved["siglip"][0], "numpy")[0].tokenizer is None


def test_a_file_alone_does_not_say_which_tower_it_has(saved, tmp_path):
    directory, _ = saved["siglip"]
    (tmp_path / "m.bin").write_bytes((directory / open_clip.WEIGHTS[1]).read_bytes())
    with pytest.raises(InputError, match=r"m\.bin: its image tower is timm's, .* with pretrained='.*m\.bin'"):
        miniclip.load(tmp_path / "m.bin")


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        (
            "vision_cfg",
            {"timm_model_name": "vit_base_patch16_siglip_gap_224"},
            "timm's 'vit_base_patch16_siglip_gap_224'",
        ),
        ("vision_cfg", {"timm_pool": "avg"}, "timm_pool is 'avg', but SigLIP's is 'map'"),
        ("vision_cfg", {"timm_pool": None}, "timm_pool is None, but SigLIP's is 'map'"),
        ("vision_cfg", {"timm_proj": "linear"}, "timm_proj is 'linear', but SigLIP's is 'none'"),
        ("vision_cfg", {"image_size": 224}, f"image_size is 224, but the pictures of timm's {SMALL} have another"),
        ("text_cfg", {"hf_model_name": "some/nllb"}, "its text tower is transformers' 'some/nllb', and miniclip knows"),
        ("text_cfg", {"no_causal_mask": False}, "no_causal_mask is False, but SigLIP's is True"),
        ("text_cfg", {"pool_type": "argmax"}, "pool_type is 'argmax', but SigLIP's is 'last'"),
        ("text_cfg", {"proj_bias": False}, "projected without a bias"),
        ("text_cfg", {"proj_type": "none"}, "embed_dim is 40, but the texts' features are 64 wide"),
        ("text_cfg", {"layers": 3}, "missing text.blocks.2"),
    ],
)
def test_other_settings_are_refused_by_name(where, change, message, saved, tmp_path):
    directory, _ = saved["siglip"]
    (tmp_path / open_clip.WEIGHTS[0]).write_bytes((directory / open_clip.WEIGHTS[0]).read_bytes())
    config = {**SIGLIP, where: {**SIGLIP[where], **change}}
    (tmp_path / open_clip.CONFIG).write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(InputError, match=message) as error:
        miniclip.load(tmp_path)
    assert str(tmp_path) in str(error.value)
