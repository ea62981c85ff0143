"""miniclip's own files: `load` returns what `save` was given, and refuses by name any file that is not a model."""

import dataclasses
import json

import numpy as np
import pytest

import miniclip
from miniclip import checkpoints, params
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.formats import safetensors as files
from miniclip.tokenizers.wordpiece import WordPiece

CONFIG = CLIPConfig(
    visual=VisionConfig(image_size=24, patch_size=8, width=128, layers=3, heads=2, mlp_width=60),
    text=TextConfig(context_length=9, vocab_size=530, width=64, layers=11, heads=1, mlp_width=70),
    embed_dim=20,
)


def random_params(config=CONFIG, seed=0):
    rng = np.random.default_rng(seed)
    return params.tree_map(lambda shape: np.asarray(rng.standard_normal(shape), np.float32), config.shapes())


def test_a_float32_model_stays_mapped_if_that_is_wanted(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoints.save(path, CONFIG, random_params())
    model = miniclip.load(path, mmap=True)[0]
    owned = {name for name, x in params.flatten(model.params).items() if x.flags.owndata}
    assert owned == {"logit_scale"}


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_loaded_model_does_not_change_when_its_file_is_overwritten(backend, tmp_path):
    path, images = tmp_path / "model.safetensors", np.ones((1, 3, 24, 24), np.float32)
    checkpoints.save(path, CONFIG, random_params())
    model = miniclip.load(path, backend)[0]
    before = model.ops.to_numpy(model.encode_image(images))
    path.write_bytes(bytes(path.stat().st_size))
    assert (model.ops.to_numpy(model.encode_image(images)) == before).all()
    with open(path, "r+b") as file:
        file.truncate(0)
    assert (model.ops.to_numpy(model.encode_image(images)) == before).all()


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = tmp_path / "cut.safetensors"
    checkpoints.save(path, CONFIG, random_params())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(miniclip.InputError, match=r"cut\.safetensors: not a safetensors file, or a damaged one"):
        miniclip.load(path)


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_save_then_load_is_the_identity(tmp_path, dtype, same_tree):
    tokenizer = miniclip.Tokenizer.train(["a red circle", "a blue circle"] * 9, 600)
    ours = dataclasses.replace(CONFIG, text=dataclasses.replace(CONFIG.text, vocab_size=len(tokenizer)))
    tree = random_params(ours)
    checkpoints.save(tmp_path / "m.safetensors", ours, tree, tokenizer=tokenizer, dtype=dtype)
    config, loaded, read = checkpoints.load(tmp_path / "m.safetensors")
    assert config == ours
    assert same_tree(loaded, params.tree_map(lambda x: np.asarray(x, dtype), tree))
    assert read.merges == tokenizer.merges


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"config": "[" * 100_000}, "recursion"),
        ({"config": "7"}, "not a miniclip configuration"),
        ({"merges": "a b\nc"}, "'c' is not a pair of known symbols"),
        ({"merges": "a b\nab c d"}, "'ab c d' is not a pair"),
        ({"merges": "日 本"}, "'日 本' is not a pair"),
        ({"merges": "a b"}, "its vocabulary has 515 ids, but its model has 530"),
    ],
)
def test_impossible_metadata_are_refused(tmp_path, metadata, message):
    path = tmp_path / "m.safetensors"
    tensors = params.flatten(random_params())
    files.write(path, tensors, {"format": "miniclip", "config": json.dumps(CONFIG.to_dict()), **metadata})
    with pytest.raises(miniclip.InputError, match=rf"m\.safetensors: .*{message}"):
        miniclip.load(path)


def test_weights_that_are_not_floats_are_refused(tmp_path):
    tree = random_params()
    tree["text"]["blocks"][3]["mlp"]["fc"]["weight"] = np.zeros((70, 64), np.int8)
    checkpoints.save(tmp_path / "m.safetensors", CONFIG, tree)
    with pytest.raises(miniclip.InputError, match=r"m\.safetensors: text\.blocks\.3\.mlp\.fc\.weight is int8"):
        checkpoints.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "run git lfs pull"),
        (b"<!DOCTYPE html><html>", "is neither a safetensors file nor a PyTorch file"),
        (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin", "is neither a safetensors file nor"),
    ],
)
@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_files_of_other_kinds_are_refused_with_their_kind(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(miniclip.InputError, match=f"{name}: .*{message}"):
        checkpoints.load(tmp_path / name)


def test_a_dtype_that_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(miniclip.InputError, match="dtype is 'bfloat16'"):
        checkpoints.save(tmp_path / "m.safetensors", CONFIG, random_params(), dtype="bfloat16")


def test_a_file_that_does_not_fit_its_configuration_is_refused(tmp_path):
    tree = random_params()
    path = tmp_path / "m.safetensors"
    checkpoints.save(path, CONFIG, tree)
    tensors, metadata = files.read(path)
    for change in [{"layers": 4}, {"width": 64}]:
        config = CONFIG.to_dict()
        config["visual"] |= change
        files.write(path, {k: v.copy() for k, v in tensors.items()}, {**metadata, "config": json.dumps(config)})
        with pytest.raises(miniclip.InputError, match=r"m\.safetensors: the parameters do not fit"):
            miniclip.load(path)
    files.write(path, {k: v.copy() for k, v in tensors.items()}, {**metadata, "config": '{"visual": {"depth": 3}}'})
    with pytest.raises(miniclip.InputError, match=r"m\.safetensors: not a miniclip configuration"):
        miniclip.load(path)


@pytest.mark.parametrize(
    "names",
    [
        ["logit_scale", "logit_scale.more"],
        ["visual.blocks.999999999999.ln_1.weight"],
        ["vision_model.encoder.layers.99999999999999999999.layer_norm1.weight"],
        ["visual.patch_embed.weight", "visual.patch_embed.position_embedding", "visual.blocks.0.mlp.fc.weight"],
        [""],
        ["."],
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_files_with_strange_names_are_refused(tmp_path, names, config):
    path = tmp_path / "strange.safetensors"
    metadata = {"config": json.dumps(CONFIG.to_dict())} if config else None
    files.write(path, {name: np.zeros((1, 1), np.float32) for name in names}, metadata)
    with pytest.raises(miniclip.InputError, match=r"strange\.safetensors: "):
        miniclip.load(path)


def test_a_model_that_cannot_be_saved_leaves_no_file(tmp_path):
    tree = random_params()
    del tree["logit_scale"]
    with pytest.raises(miniclip.InputError, match="missing logit_scale"):
        checkpoints.save(tmp_path / "m.safetensors", CONFIG, tree)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tokenizer", [miniclip.Tokenizer([]), WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red"])])
def test_any_vocabulary_comes_back(tokenizer, tmp_path):
    """One without merges, and one of another kind than the family's own."""
    ours = dataclasses.replace(CONFIG, text=dataclasses.replace(CONFIG.text, vocab_size=len(tokenizer)))
    checkpoints.save(tmp_path / "m.safetensors", ours, random_params(ours), tokenizer=tokenizer)
    assert checkpoints.load(tmp_path / "m.safetensors")[2].encoder == tokenizer.encoder
