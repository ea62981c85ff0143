"""ALIGN against transformers' AlignModel on the same random weights, stage by stage, so that a failure names it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from backends import QUICK
from PIL import Image
from transformers import AlignConfig, AlignModel, AlignTextModel, AlignVisionModel, EfficientNetImageProcessor

import miniclip
from miniclip import checkpoints, families, params
from miniclip.checkpoints import huggingface
from miniclip.checkpoints.convert import convert
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.align.model import ALIGN
from miniclip.families.clip.presets import VOCABULARY
from miniclip.fetch import vocabulary
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.towers import efficientnet

TEXT = {
    "vocab_size": 60,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 20,
}
VISION = {
    "image_size": 65,
    "width_coefficient": 0.5,
    "depth_coefficient": 0.6,
    "depth_divisor": 2,
    "in_channels": [32, 8, 12, 20, 24],
    "out_channels": [8, 12, 20, 24, 32],
    "kernel_sizes": [3, 3, 5, 3, 5],
    "strides": [1, 2, 2, 2, 1],
    "num_block_repeats": [1, 2, 2, 3, 3],
    "expand_ratios": [1, 6, 6, 6, 6],
    "depthwise_padding": [2],
}
SIZES = {
    "small": {"projection_dim": 16, "text_config": TEXT, "vision_config": VISION},
    "even": {
        "projection_dim": 40,
        "text_config": {
            **TEXT,
            **{"num_hidden_layers": 1, "num_attention_heads": 4, "type_vocab_size": 3, "pad_token_id": 5},
        },
        "vision_config": {
            **VISION,
            **{"image_size": 64, "width_coefficient": 1.2, "depth_coefficient": 1.1, "depth_divisor": 8},
        },
    },
    "no expansion": {
        "projection_dim": 24,
        "text_config": {**TEXT, "hidden_act": "relu", "layer_norm_eps": 1e-5},
        "vision_config": {
            **VISION,
            **{"in_channels": [32], "out_channels": [24], "kernel_sizes": [7], "strides": [2], "expand_ratios": [1]},
            **{"num_block_repeats": [3], "squeeze_expansion_ratio": 0.01},
            **{"width_coefficient": 1.0, "hidden_act": "relu"},
        },
    },
}  # fmt: skip


def official(sizes):
    """transformers' AlignModel in evaluation mode; no parameter or statistic keeps a special value such as 0 or 1."""
    torch.manual_seed(0)
    model = AlignModel(AlignConfig(**sizes)).eval()
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                x.uniform_(0.5, 2)
            elif name == "temperature":
                x.fill_(0.07)
            elif x.is_floating_point() and x.ndim == 1:
                x.add_(0.1 * torch.randn_like(x))
    return model


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """(transformers' model, the directory that it was saved in)."""
    model = official(SIZES[request.param])
    directory = tmp_path_factory.mktemp("align") / "m"
    model.save_pretrained(directory)
    return model, directory


def batch(config, count=3, length=11):
    """Pictures, tokens (all texts but one end early), and the lengths of the texts."""
    rng, side = np.random.default_rng(1), config.vision_config.image_size
    images = rng.standard_normal((count, 3, side, side)).astype(np.float32)
    pad = config.text_config.pad_token_id
    tokens = rng.integers(6, 60, (count, length))
    lengths = np.array([length, 1, 6][:count])
    tokens[np.arange(length) >= lengths[:, None]] = pad
    return images, tokens, lengths


def forward(model, images, tokens, lengths, **options):
    mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]) * 1)
    with torch.no_grad():
        inputs = {
            "pixel_values": torch.from_numpy(images),
            "input_ids": torch.from_numpy(tokens),
            "attention_mask": mask,
        }
        return model(**inputs, output_hidden_states=True, output_attentions=True, **options)


def compare(ours, theirs, error):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == tuple(value.shape)
        found = error(ours[name], value.numpy())
        assert found < 1e-5, f"{name} is off by {found:.1e} of its largest value"


def traced(model, encode, *args, **options):
    stages = {}
    encode(*args, **options, trace=lambda name, x: stages.update({name: model.ops.to_numpy(x)}))
    return stages


@pytest.mark.parametrize("backend", QUICK)
def test_the_image_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, *_ = batch(official.config)
    stages = []
    hooks = [
        part.register_forward_hook(lambda part, inputs, output: stages.append(output))
        for part in (official.vision_model.embeddings, *official.vision_model.encoder.blocks)
    ]
    with torch.no_grad():
        features = official.vision_model(torch.from_numpy(images)).pooler_output
    for hook in hooks:
        hook.remove()
    names = ["stem", *(f"blocks.{i}" for i in range(len(stages) - 1)), "features"]
    assert all(x.std() > 1e-2 for x in stages)
    compare(traced(ours, ours.encode_image, images), dict(zip(names, [*stages, features])), relative_error)
    assert relative_error(ours.ops.to_numpy(ours.encode_image(images)), features.numpy()) < 1e-5


@pytest.mark.parametrize("backend", QUICK)
def test_the_text_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, tokens, lengths = batch(official.config)
    halves = []
    hooks = [
        layer.attention.register_forward_hook(lambda part, inputs, output: halves.append(output))
        for layer in official.text_model.encoder.layer
    ]
    official.set_attn_implementation("eager")
    output = forward(official, images, tokens, lengths).text_model_output
    for hook in hooks:
        hook.remove()
    theirs = {"embeddings": output.hidden_states[0]}
    for i, half in enumerate(halves):
        theirs[f"blocks.{i}.attention_weights"] = output.attentions[i]
        theirs[f"blocks.{i}.attention"] = half
        theirs[f"blocks.{i}.mlp"] = output.hidden_states[i + 1]
    with torch.no_grad():
        theirs["pooler"] = output.pooler_output
        theirs["features"] = official.text_projection(output.last_hidden_state[:, 0])
    compare(traced(ours, ours.encode_text, tokens), theirs, relative_error)
    for given in ({}, {"lengths": lengths}):
        features = ours.ops.to_numpy(ours.encode_text(tokens, **given))
        assert relative_error(features, theirs["features"].numpy()) < 1e-5


@pytest.mark.parametrize("backend", QUICK)
def test_logits_equal_transformers(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, tokens, lengths = batch(official.config)
    theirs = forward(official, images, tokens, lengths)
    for x, expected in zip(ours(images, tokens), (theirs.logits_per_image, theirs.logits_per_text)):
        assert relative_error(ours.ops.to_numpy(x), expected.numpy()) < 1e-5
    assert ours.temperature == np.float32(0.07)
    assert np.exp(ours.logit_scale) == pytest.approx(1 / 0.07)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The directory of transformers' smallest model, with a vocabulary and the settings of its pictures."""
    directory = tmp_path_factory.mktemp("small") / "m"
    official(SIZES["small"]).save_pretrained(directory)
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghi"),
    ]
    WordPiece([*pieces, *(f"x{i}" for i in range(60 - len(pieces)))]).save(directory / "vocab.txt")
    settings = {"size": {"height": 78, "width": 78}, "crop_size": {"height": 65, "width": 65}, **FIXED}
    EfficientNetImageProcessor(**settings).save_pretrained(directory)
    return directory


FIXED = {  # as in kakaobrain/align-base's preprocessor_config.json
    "do_center_crop": True,
    "do_normalize": False,
    "include_top": False,
    "resample": 2,
    "rescale_factor": 1 / 127.5,
    "rescale_offset": True,
}


def test_triton_computes_the_same(small, relative_error):
    reference, ours = miniclip.load(small)[0], miniclip.load(small, "triton")[0]
    images, tokens, _ = batch(AlignConfig(**SIZES["small"]), count=2, length=7)
    for x, expected in zip(ours(images, tokens), reference(images, tokens)):
        assert relative_error(ours.ops.to_numpy(x), expected) < 1e-5


# ------------------------------------------------------------------------------------------------------ texts


def test_padding_changes_nothing_and_neither_does_the_batch(small, relative_error):
    model, _ = miniclip.load(small)
    tokens = model.tokenize(["red", "a heart"])
    assert tokens.shape == (2, 20)  # as many as fit, and at most 64
    expected = model.encode_text(tokens)
    for same in (tokens[:, :12], np.pad(model.tokenize(["red", "a heart"], 15), ((0, 0), (0, 5)))):
        assert relative_error(model.encode_text(same), expected) < 1e-6
    assert relative_error(model.encode_text(tokens[1:]), expected[1:]) < 1e-6


def test_token_types_are_looked_up(small, relative_error):
    model, directory = miniclip.load(small)[0], small
    official = AlignModel.from_pretrained(directory).eval()
    _, tokens, lengths = batch(official.config)
    types = np.random.default_rng(2).integers(0, 2, tokens.shape)
    with torch.no_grad():
        mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]) * 1)
        output = official.text_model(torch.from_numpy(tokens), mask, token_type_ids=torch.from_numpy(types))
        expected = official.text_projection(output.last_hidden_state[:, 0]).numpy()
    ours = model.encode_text(tokens, lengths=lengths, token_types=types)
    assert relative_error(ours, expected) < 1e-5
    assert relative_error(model.encode_text(tokens, lengths=lengths), expected) > 1e-3


@pytest.mark.parametrize("lengths", [[0, 3, 3], [3, 3, 12], [3, 3]])
def test_lengths_that_no_text_has_are_refused(small, lengths):
    with pytest.raises(miniclip.InputError, match=r"lengths are .* a number from 1 to 11"):
        miniclip.load(small)[0].encode_text(np.ones((3, 11), int), lengths=np.array(lengths))


def test_a_model_without_its_vocabulary_says_so(pair):
    with pytest.raises(miniclip.InputError, match=r"came without vocabulary.*WordPiece\.load"):
        miniclip.load(pair[1])[0].tokenize("red")


# --------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (65, 65), (10, 7), (1, 1), (1000, 20)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_prepared_as_in_transformers(small, size, mode):
    _, preprocess = miniclip.load(small)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    theirs = EfficientNetImageProcessor.from_pretrained(small)(image.convert("RGB"), return_tensors="np")
    np.testing.assert_array_equal(preprocess([image]), theirs["pixel_values"])


def test_pictures_of_another_size(small, relative_error):
    model, preprocess = miniclip.load(small, image_size=(96, 70))
    official = AlignModel.from_pretrained(small).eval()
    images = np.random.default_rng(0).standard_normal((1, 3, 96, 70)).astype(np.float32)
    with torch.no_grad():
        expected = official.get_image_features(torch.from_numpy(images)).pooler_output.numpy()
    assert relative_error(model.encode_image(images), expected) < 1e-5
    assert preprocess("weights/example.png").shape == (3, 96, 70)


# ------------------------------------------------------------------------------------------------------- files


def test_every_canonical_name_is_hit_exactly_once(small):
    config, flat, _ = huggingface.load(small)
    assert sorted(flat) == sorted(params.flatten(config.shapes()))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_transformers_loads_what_we_write_and_computes_the_same(pair, weights, tmp_path, relative_error, same_tree):
    official, directory = pair
    config, tree, _ = checkpoints.load(directory)
    huggingface.save(tmp_path / "m", config, tree)
    if weights != "model.safetensors":
        state = AlignModel.from_pretrained(tmp_path / "m").state_dict()
        torch.save(state, tmp_path / "m" / weights)
        (tmp_path / "m" / "model.safetensors").unlink()
    again, loading = AlignModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(loading.values())
    inputs = batch(official.config)
    theirs, expected = forward(again.eval(), *inputs), forward(official, *inputs)
    assert relative_error(theirs.logits_per_image.numpy(), expected.logits_per_image.numpy()) < 1e-5
    found, same, _ = checkpoints.load(tmp_path / "m")
    assert found == config
    assert same_tree(same, tree)


def test_one_file_of_ours_has_the_whole_model(small, tmp_path, same_tree):
    config, tree, tokenizer = checkpoints.load(small)
    checkpoints.save(tmp_path / "m.safetensors", config, tree, tokenizer=tokenizer)
    found, same, pieces = checkpoints.load(tmp_path / "m.safetensors")
    assert found == config and pieces.encoder == tokenizer.encoder
    assert same_tree(same, tree)
    model, preprocess = miniclip.load(tmp_path / "m.safetensors")
    assert isinstance(model, ALIGN) and preprocess.resized == 78


@pytest.mark.parametrize("vocab_size", [60, VOCABULARY])
def test_a_model_without_a_vocabulary_does_not_get_clips(vocab_size, tmp_path):
    config = ALIGNConfig(None, BertConfig(8, vocab_size, 4, 1, 2, 8), None)
    tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), config.shapes())
    checkpoints.save(tmp_path / "m.safetensors", config, tree)
    lacking = convert(tmp_path / "m.safetensors", tmp_path / "m", "hf", official=vocabulary.official_tokenizer)
    assert lacking == "this model came without its own, a WordPiece"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("kind", [AlignVisionModel, AlignTextModel])
def test_towers_alone(kind, small, tmp_path, relative_error):
    official = kind.from_pretrained(small).eval()
    official.save_pretrained(tmp_path / "m")
    model, preprocess = miniclip.load(tmp_path / "m")
    images, tokens, lengths = batch(AlignConfig(**SIZES["small"]))
    with torch.no_grad():
        if kind is AlignVisionModel:
            theirs, ours = official(torch.from_numpy(images)).pooler_output, model.encode_image(images)
        else:
            mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]) * 1)
            theirs, ours = official(torch.from_numpy(tokens), mask).last_hidden_state[:, 0], model.encode_text(tokens)
            assert preprocess is None
    assert relative_error(ours, theirs.numpy()) < 1e-5
    huggingface.save(tmp_path / "again", model.config, model.params)
    again = kind.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        inputs = torch.from_numpy(images if kind is AlignVisionModel else tokens)
        same, expected = again.eval()(inputs), official(inputs)
    assert relative_error(same.pooler_output.numpy(), expected.pooler_output.numpy()) < 1e-5


def test_one_tower_of_a_whole_model(small, relative_error):
    whole, _ = miniclip.load(small)
    images, tokens, _ = batch(AlignConfig(**SIZES["small"]))
    visual, preprocess = miniclip.load(small, tower="visual")
    text, nothing = miniclip.load(small, tower="text")
    assert preprocess and nothing is None
    np.testing.assert_array_equal(visual.encode_image(images), whole.encode_image(images))
    np.testing.assert_array_equal(text.encode_text(tokens), whole.encode_text(tokens))
    with pytest.raises(miniclip.InputError, match="no temperature"):
        text.logits(np.ones((1, 16)), np.ones((1, 16)))


def test_a_text_tower_without_a_pooler(small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    state = {name: x for name, x in AlignModel.from_pretrained(small).state_dict().items() if "pooler" not in name}
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "m" / "pytorch_model.bin")
    model, _ = miniclip.load(tmp_path / "m")
    assert not model.config.text.pooler
    tokens = batch(AlignConfig(**SIZES["small"]))[1]
    stages = traced(model, model.encode_text, tokens)
    assert "pooler" not in stages and "features" in stages
    with pytest.raises(miniclip.InputError, match=r"cannot express .*text\.pooler False"):
        huggingface.save(tmp_path / "again", model.config, model.params)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "altclip"}, "model_type is 'altclip', expected one of clip, .*align"),
        ("config.json", {"projection_dim": 20}, "embed_dim is 20, but .* 16 wide"),
        ("config.json", {"vision_config": {**VISION, "in_channels": [32, 8, 12, 20, 20]}}, "in_channels is"),
        ("config.json", {"vision_config": {**VISION, "pooling_type": "max"}}, "pooling_type is 'max'"),
        ("config.json", {"vision_config": {**VISION, "kernel_sizes": [3, 3, 5, 3, 4]}}, "stages is .*odd"),
        ("config.json", {"vision_config": {**VISION, "strides": [1, 2, 2]}}, "zip"),
        ("config.json", {"vision_config": {**VISION, "width_coefficient": -1.0}}, "width_coefficient is -1"),
        ("config.json", {"vision_config": {**VISION, "hidden_act": "mish"}}, "activation is 'mish'"),
        ("config.json", {"vision_config": {**VISION, "batch_norm_eps": "small"}}, "batch_norm_eps is 'small'"),
        (
            "config.json",
            {"vision_config": {**VISION, "batch_norm_eps": 1}},
            "batch_norm_eps is 1, expected",
        ),
        ("config.json", {"vision_config": 7}, "not the configuration"),
        ("config.json", {"text_config": {**TEXT, "pad_token_id": 60}}, "pad_token_id is 60"),
        ("config.json", {"text_config": {**TEXT, "hidden_size": 65}}, "width 65 cannot be shared"),
        ("preprocessor_config.json", {"crop_size": {"height": 99, "width": 99}}, "image_size is 99, expected at most"),
        ("preprocessor_config.json", {"do_normalize": True}, "do_normalize = True"),
        ("preprocessor_config.json", {"resample": 3}, "resample = 3"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 3}}, "not the configuration"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_by_name(file, change, message, small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    path = tmp_path / "m" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(miniclip.InputError, match=rf"m/.*\.json: .*{message}"):
        miniclip.load(tmp_path / "m")


def test_configurations_survive_json():
    for config in (
        ALIGNConfig(EfficientNetConfig((64, 96), (80, 100), 0.5, 1, square_padding=(1, 2)), None, 160),
        ALIGNConfig(None, BertConfig(8, 9, 4, 1, 2, 8), None),
    ):
        values = json.loads(json.dumps(config.to_dict()))
        assert families.from_dict(values) == config
        del values["family"]  # as in older files
        assert families.from_dict(values) == config


def test_the_layout_is_that_of_efficientnet_b7():
    config = EfficientNetConfig(289, 346, 2.0, 3.1)
    blocks = efficientnet.layout(config)
    assert len(blocks) == 55 and efficientnet.scaled(32, config) == 64  # the paper's code, efficientnet_params
    assert [block.O for block in blocks if not block.residual] == [32, 48, 80, 160, 224, 384, 640]
    assert config.grid == (9, 9) and config.width == 640
    assert dataclasses.replace(config, image_size=(96, 289)).grid == (3, 9)
