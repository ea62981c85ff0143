"""Hugging Face's directories: miniclip reads transformers'; what does not fit is refused by name."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import os

import numpy as np
import pytest
import transformers
from clip_directories import change_config, directory, official_model  # noqa: F401

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import huggingface
from miniclip.checkpoints.infer import infer_config
from miniclip.families import every, names
from miniclip.families.clip import huggingface as clip_huggingface
from miniclip.formats import safetensors as files


def test_every_canonical_name_is_hit_exactly_once():
    theirs = official_model().state_dict()
    hits = names.rename({name: x.numpy() for name, x in theirs.items()}, clip_huggingface.NAMES)
    config = huggingface.config_from(official_model().config.to_dict())
    assert hits.keys() == params.flatten(config.shapes()).keys()
    sources = [source for value in clip_huggingface.NAMES.values() for source in value]
    assert len(sources) == len(set(sources))
    assert sum(x.size for x in hits.values()) == sum(x.numel() for x in theirs.values())


def test_a_sharded_directory_loads_the_same_tree(directory, tmp_path, same_tree):
    official_model().save_pretrained(tmp_path, max_shard_size="200KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert same_tree(checkpoints.load(tmp_path)[1], checkpoints.load(directory)[1])


@pytest.mark.parametrize("shards", [1, 3])
def test_weights_saved_by_torch_load_the_same_tree(shards, directory, tmp_path, same_tree):
    import torch

    target = change_config(directory, tmp_path / "m", lambda config: None)
    (target / "model.safetensors").unlink()
    state = list(official_model().state_dict().items())
    parts = [dict(state[i::shards]) for i in range(shards)]
    names = ["pytorch_model.bin"] if shards == 1 else [f"pytorch_model-{i}.bin" for i in range(shards)]
    for name, part in zip(names, parts):
        torch.save(part, target / name)
    if shards > 1:
        index = {"weight_map": {key: name for name, part in zip(names, parts) for key in part}}
        (target / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert same_tree(checkpoints.load(target)[1], checkpoints.load(directory)[1])


def test_a_lone_file_with_hugging_face_names_loads(directory, tmp_path, same_tree):
    (tmp_path / "lone.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    with pytest.raises(miniclip.InputError, match=r"lone\.safetensors: does not state its activation"):
        checkpoints.load(tmp_path / "lone.safetensors")
    config, tree, tokenizer = checkpoints.load(tmp_path / "lone.safetensors", as_openai=True)
    assert config == infer_config({name: x.shape for name, x in params.flatten(tree).items()})
    assert same_tree(tree, checkpoints.load(directory)[1])
    assert tokenizer is None


def test_a_float16_checkpoint_computes_in_float32(directory, tmp_path, relative_error):
    import torch

    official = official_model()
    official.half().save_pretrained(tmp_path)
    model = miniclip.load(tmp_path)[0]
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        official = official.float()
        theirs = official.visual_projection(official.vision_model(torch.from_numpy(images)).pooler_output)
    features = model.encode_image(images)
    assert features.dtype == np.float32
    assert relative_error(features, theirs.numpy()) < 1e-5


def test_missing_values_of_a_config_have_transformers_defaults():
    from transformers import CLIPConfig as OfficialConfig

    ours = huggingface.config_from({"model_type": "clip"})
    assert ours == huggingface.config_from(OfficialConfig().to_dict())
    assert (ours.visual.width, ours.text.width, ours.embed_dim) == (768, 512, 512)
    assert sum(int(np.prod(s)) for s in params.flatten(ours.shapes()).values()) == 151_277_313  # ViT-B/32


@pytest.mark.parametrize(
    "config",
    [
        {"text_config": {"hidden_size": 768}},
        {"text_config": {}, "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12}, "vision_config": None},
        {"text_config": {"hidden_size": 768}, "text_config_dict": {"num_hidden_layers": 3}, "projection_dim": 64},
        {"vision_config": {"image_size": 64}, "vision_config_dict": {"patch_size": 16, "hidden_act": "gelu"}},
        {"vision_config_dict": {}, "vision_config": {"layer_norm_eps": 1e-6, "num_channels": 1}},
    ],
)
def test_configs_are_read_as_transformers_reads_them(config):
    from transformers import CLIPConfig as OfficialConfig

    official = OfficialConfig(**config).to_dict()
    ours = huggingface.config_from({"model_type": "clip", **config})
    for part, theirs in [(ours.visual, official["vision_config"]), (ours.text, official["text_config"])]:
        assert part.width == theirs["hidden_size"]
        assert part.layers == theirs["num_hidden_layers"]
        assert part.heads == theirs["num_attention_heads"]
        assert part.mlp_width == theirs["intermediate_size"]
        assert part.activation == theirs["hidden_act"]
        assert part.eps == theirs["layer_norm_eps"]
    assert (ours.visual.image_size, ours.visual.patch_size, ours.visual.channels) == tuple(
        official["vision_config"][name] for name in ("image_size", "patch_size", "num_channels")
    )
    assert ours.embed_dim == official["projection_dim"]


def test_official_end_of_text_id_2_means_the_highest_id():
    config = {"model_type": "clip", "text_config": {"eos_token_id": 2}}
    assert huggingface.config_from(config).text.eot_token_id is None
    assert huggingface.config_from({"model_type": "clip"}).text.eot_token_id == 49407


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="bert"), r"config\.json: .* model_type is 'bert'"),
        (lambda c: c["vision_config"].update(num_hidden_layers=1), "unexpected .*visual.blocks.1.ln_1.weight"),
        (lambda c: c["vision_config"].update(num_hidden_layers=3), "missing visual.blocks.2.ln_1.weight"),
        (lambda c: c["text_config"].update(hidden_size=128), "text.embed.table is .99, 64., expected .99, 128."),
        (lambda c: c["text_config"].update(hidden_act="relu6"), "activation .*'relu6'"),
        (lambda c: c["text_config"].update(num_attention_heads=5), "64 .*5 heads"),
        (lambda c: c["text_config"].update(hidden_size="wide"), r"config\.json.* width is 'wide'"),
        (lambda c: c["text_config"].update(num_hidden_layers=10**9), "layers is 1000000000, expected at most 1000"),
        (lambda c: c["text_config"].update(num_hidden_layers=True), "layers is True"),
        (lambda c: c["text_config"].update(layer_norm_eps="1e-5"), "eps is '1e-5'"),
        (lambda c: c["text_config"].update(layer_norm_eps=-1.0), "eps is -1.0"),
        (lambda c: c["text_config"].update(eos_token_id=-1), "eot_token_id is -1, expected None or an id"),
        (lambda c: c["text_config"].update(eos_token_id=[98]), "eot_token_id is .98."),
        (lambda c: c["vision_config"].update(patch_size=64), "patches of 64 pixels do not fit"),
        (lambda c: c.update(text_config=[1, 2]), r"config\.json"),
    ],
)
def test_configs_that_do_not_fit_are_refused_by_name(directory, tmp_path, change, message):
    broken = change_config(directory, tmp_path / "broken", change)
    with pytest.raises(miniclip.InputError, match=f"(?s)broken.*{message}"):
        miniclip.load(broken)


def test_a_lone_file_beside_its_config_has_that_configuration(directory, tmp_path):
    gelu = change_config(directory, tmp_path / "m", lambda c: c["vision_config"].update(hidden_act="gelu"))
    assert checkpoints.load(gelu / "model.safetensors")[0] == checkpoints.load(gelu)[0]
    assert checkpoints.load(gelu)[0].visual.activation == "gelu"


@pytest.mark.parametrize("alone", [True, False])
def test_position_ids_of_older_files_are_ignored(directory, tmp_path, alone, same_tree):
    target = change_config(directory, tmp_path / "m", lambda config: None)
    tensors, _ = files.read(target / "model.safetensors")
    tensors = {name: x.copy() for name, x in tensors.items()}
    tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]
    tensors["vision_model.embeddings.position_ids"] = np.arange(17)[None]
    files.write(target / "model.safetensors", tensors)
    if alone:
        (target / "config.json").unlink()
    path = target / "model.safetensors" if alone else target
    assert same_tree(checkpoints.load(path, as_openai=alone)[1], checkpoints.load(directory)[1])


@pytest.mark.parametrize("shapes", [((64, 64), (64, 32)), ((), ()), ((0, 64), (128, 64))])
def test_queries_and_keys_that_cannot_be_packed_are_named(directory, tmp_path, shapes):
    target = change_config(directory, tmp_path / "m", lambda config: None)
    tensors = {name: x.copy() for name, x in files.read(target / "model.safetensors")[0].items()}
    for kind, shape in zip("qk", shapes):
        tensors[f"text_model.encoder.layers.0.self_attn.{kind}_proj.weight"] = np.zeros(shape, np.float32)
    files.write(target / "model.safetensors", tensors)
    with pytest.raises(miniclip.InputError, match=r"missing text\.blocks\.0\.attention\.qkv\.weight"):
        miniclip.load(target)


def for_two_merges(directory, target):
    """(a copy of a directory whose model has 516 ids, a tokenizer with as many)."""
    change_config(directory, target, lambda c: c["text_config"].update(vocab_size=516, eos_token_id=515))
    tensors = {name: x.copy() for name, x in files.read(target / "model.safetensors")[0].items()}
    tensors["text_model.embeddings.token_embedding.weight"] = np.zeros((516, 64), np.float32)
    files.write(target / "model.safetensors", tensors)
    return target, miniclip.Tokenizer.train(["abc abc ab ab"], 516)


def test_a_vocabulary_in_the_directory_is_the_models_own(directory, tmp_path):
    target, tokenizer = for_two_merges(directory, tmp_path / "m")
    tokenizer.save(target / "merges.txt")
    model = miniclip.load(target)[0]
    assert model.tokenizer.merges == tokenizer.merges
    np.testing.assert_array_equal(model.tokenize("ab")[0, :3], [514, *tokenizer.encode("ab"), 515][:3])
    (target / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(miniclip.InputError, match=r"merges\.txt: has 1 merges, but 516 ids need 2"):
        miniclip.load(target)


def test_a_vocabulary_as_transformers_5_saves_it_is_the_models_own(directory, tmp_path):
    target, tokenizer = for_two_merges(directory, tmp_path / "m")
    theirs = transformers.CLIPTokenizer(vocab=tokenizer.encoder, merges=tokenizer.merges)
    theirs.save_pretrained(target)
    assert not (target / "merges.txt").exists()
    assert miniclip.load(target)[0].tokenizer.merges == tokenizer.merges
    (target / "tokenizer.json").write_text('{"model": {"merges": 3}}')
    with pytest.raises(miniclip.InputError, match=r"tokenizer\.json: has no merges of a byte-level BPE"):
        miniclip.load(target)


def test_directories_that_lack_a_file_are_refused_by_name(directory, tmp_path):
    with pytest.raises(miniclip.InputError, match=r"neither transformers' config\.json nor .*open_clip_config\.json"):
        miniclip.load(tmp_path)
    target = change_config(directory, tmp_path / "m", lambda config: None)
    (target / "model.safetensors").unlink()
    with pytest.raises(miniclip.InputError, match=r"m: has no weights: expected one of model\.safetensors,"):
        miniclip.load(target)
    (target / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(miniclip.InputError, match=r"pytorch_model\.bin: .* it is empty"):
        miniclip.load(target)
    (target / "config.json").write_text("[" * 100_000)
    with pytest.raises(miniclip.InputError, match=r"config\.json: not JSON"):
        miniclip.load(target)
    (target / "config.json").write_text("{")
    with pytest.raises(miniclip.InputError, match=r"config\.json: not JSON"):
        miniclip.load(target)
    (target / "config.json").write_text("[]")
    with pytest.raises(miniclip.InputError, match=r"config\.json: expected a JSON object"):
        miniclip.load(target)


@pytest.mark.parametrize("name", ["config.json", "merges.txt", "preprocessor_config.json"])
def test_a_pipe_in_a_directory_is_refused_without_waiting(name, directory, tmp_path):
    target = change_config(directory, tmp_path / "m", lambda config: None)
    (target / name).unlink(missing_ok=True)
    os.mkfifo(target / name)
    with pytest.raises(miniclip.InputError, match=rf"m/{name}: cannot be read.* not a file"):
        miniclip.load(target)


def test_messages_leave_out_the_middle_of_a_very_long_text(directory, tmp_path):
    target = change_config(directory, tmp_path / "m", lambda config: config.update(model_type="x" * 100_000))
    last = [*huggingface.MODEL_TYPES][-1]
    listed = rf"{last}, or a tower of theirs: load others with"
    with pytest.raises(miniclip.InputError, match=rf"m/config\.json: .*xxx … xxx.* {listed}") as error:
        miniclip.load(target)
    assert len(str(error.value)) < 3_010


def test_a_model_type_belongs_to_one_family():
    kinds = [kind for family in every() if family.in_transformers for kind in family.huggingface.MODEL_TYPES]
    assert sorted(kinds) == sorted(huggingface.MODEL_TYPES)


def test_an_index_cannot_name_files_outside_its_directory(directory, tmp_path):
    target = change_config(directory, tmp_path / "m", lambda config: None)
    (target / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"logit_scale": "../outside.safetensors"}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(miniclip.InputError, match=r"m/outside\.safetensors: cannot be read"):
        miniclip.load(target)
    (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"logit_scale": "a\0b"}}))
    with pytest.raises(miniclip.InputError, match=r"m/a\0b: cannot be read: embedded null byte"):
        miniclip.load(target)
