"""miniclip.hf's models against transformers' models of the same names: every output field, on the same weights."""

import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch
import transformers
from backends import HERE

import miniclip
from miniclip import InputError, hf
from miniclip.families.align.config import ALIGN_BASE

TEXT = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 72,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}
VISION = {
    "hidden_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 56,
    "image_size": 30,
    "patch_size": 8,
}
EFFICIENT = {
    "image_size": 65,
    "width_coefficient": 0.5,
    "depth_coefficient": 0.6,
    "depth_divisor": 2,
    "in_channels": [32, 8, 12],
    "out_channels": [8, 12, 32],
    "kernel_sizes": [3, 3, 5],
    "strides": [1, 2, 2],
    "num_block_repeats": [1, 3, 2],
    "expand_ratios": [1, 6, 6],
}
CLIP = {
    "end of text by id": {
        "text_config": {**TEXT, "eos_token_id": 50, "hidden_act": "gelu"},
        "vision_config": VISION,
        "projection_dim": 24,
    },
    "by the highest id": {
        "text_config": {**TEXT, "eos_token_id": 2, "num_hidden_layers": 1},
        "vision_config": {**VISION, "image_size": 16, "hidden_act": "gelu", "num_hidden_layers": 1},
        "projection_dim": 8,
    },
}
ALIGN = {
    "small": {"text_config": TEXT, "vision_config": EFFICIENT, "projection_dim": 16},
    "wider": {
        "text_config": {**TEXT, "num_hidden_layers": 1, "pad_token_id": 5},
        "vision_config": {
            **EFFICIENT,
            **{"image_size": 64, "width_coefficient": 1.0, "depthwise_padding": [2], "batch_norm_eps": 0.1},
        },
        "projection_dim": 32,
    },
}
SIZES = {("CLIP", name): sizes for name, sizes in CLIP.items()} | {("Align", name): x for name, x in ALIGN.items()}
BACKENDS = ["numpy", "torch"]


def official(family, sizes):
    """transformers' model, without parameters or statistics of 0 or 1, which would hide mistakes."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**sizes)
    model = getattr(transformers, f"{family}Model")._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                x.uniform_(0.5, 2)
            elif name == "temperature":
                x.fill_(0.01)  # spreads the logits, so that label smoothing changes the loss
            elif x.ndim == 4 and family == "Align":  # so that values neither vanish nor explode through 55 blocks
                torch.nn.init.kaiming_normal_(x, nonlinearity="linear").mul_(1.37)
            elif x.is_floating_point() and x.ndim == 1:
                x.add_(0.1 * torch.randn_like(x))
    return model


@pytest.fixture(scope="module", params=SIZES, ids=" ".join)
def saved(request, tmp_path_factory):
    """(family, transformers' model, the directory it is saved in)."""
    family, _ = request.param
    model = official(family, SIZES[request.param])
    directory = tmp_path_factory.mktemp("official") / "m"
    model.save_pretrained(directory)
    return family, model, directory


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clip") / "m"
    official("CLIP", CLIP["end of text by id"]).save_pretrained(directory)
    return directory


def batch(config, kind=torch.from_numpy, masked=True):
    """Three pictures and three texts, two of them padded, as keyword arguments of the whole model."""
    rng, text = np.random.default_rng(1), config.text_config
    end = getattr(text, "eos_token_id", None)
    end = text.vocab_size - 1 if end in (None, 2) else end
    tokens = rng.integers(6, 50, (3, 11))
    lengths = np.array([11, 2, 6])
    tokens[np.arange(3), lengths - 1] = end
    mask = (np.arange(11) < lengths[:, None]) * 1
    tokens[mask == 0] = end if hasattr(config, "logit_scale_init_value") else text.pad_token_id
    images = rng.standard_normal((3, 3, *[config.vision_config.image_size] * 2)).astype(np.float32)
    inputs = {"input_ids": tokens, "pixel_values": images, **({"attention_mask": mask} if masked else {})}
    return {name: kind(x) for name, x in inputs.items()}


ONE = {"Vision": ["pixel_values"], "Text": ["input_ids", "attention_mask"]}


def of_tower(inputs, tower):
    return {name: inputs[name] for name in ONE[tower] if name in inputs}


def compare(ours, theirs, error, name="output"):
    """Compare every field, by key, attribute and position."""
    if isinstance(theirs, Mapping):
        assert list(ours) == list(theirs) == list(ours.keys()) and len(ours) == len(theirs)
        for i, key in enumerate(theirs):
            assert ours[key] is getattr(ours, key)
            compare(ours[key], theirs[key], error, f"{name}.{key}")
            compare(ours[i], theirs[i], error, f"{name}[{i}]")
    elif isinstance(theirs, tuple):
        assert isinstance(ours, tuple) and len(ours) == len(theirs)
        for i, (x, y) in enumerate(zip(ours, theirs)):
            compare(x, y, error, f"{name}[{i}]")
    else:
        x, y = np.asarray(ours), theirs.detach().numpy()
        assert x.shape == y.shape and np.abs(y).max() > 1e-4, name
        assert error(x, y) < 1e-5, f"{name} is off by {error(x, y):.1e} of its largest value"


LOOK = {"output_hidden_states": True, "output_attentions": True}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_every_field_of_the_whole_model_is_transformers(saved, backend, masked, relative_error):
    family, theirs, directory = saved
    ours = getattr(hf, f"{family}Model").from_pretrained(directory, backend=backend)
    inputs = batch(theirs.config, masked=masked)
    with torch.no_grad():
        compare(ours(**inputs), theirs(**inputs), relative_error)
        options = {"return_loss": True, **LOOK}
        compare(ours(**inputs, **options), theirs(**inputs, **options), relative_error)
        assert isinstance(ours(**inputs, return_dict=False), tuple)
        compare(ours(**inputs, return_dict=False), theirs(**inputs, return_dict=False), relative_error)
        compare(ours(**inputs, return_loss=True).loss, theirs(**inputs, return_loss=True).loss, relative_error)


@pytest.mark.parametrize("backend", [name for name in HERE if name not in BACKENDS])
def test_other_backends_compute_the_same(clip, backend, relative_error):
    theirs = transformers.CLIPModel.from_pretrained(clip, attn_implementation="eager").eval()
    ours = hf.CLIPModel.from_pretrained(clip, backend=backend)
    inputs = batch(theirs.config)
    with torch.no_grad():
        options = {"return_loss": True, **LOOK}
        compare(ours(**inputs, **options), theirs(**inputs, **options), relative_error)


TOWERS = {
    "CLIP": ["CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPTextModel", "CLIPTextModelWithProjection"],
    "Align": ["AlignVisionModel", "AlignTextModel"],
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_field_of_each_tower_is_transformers(saved, backend, tmp_path, relative_error):
    family, whole, directory = saved
    inputs = batch(whole.config)
    for name in TOWERS[family]:
        tower = of_tower(inputs, "Vision" if "Vision" in name else "Text")
        config = whole.config.vision_config if "Vision" in name else whole.config.text_config
        config.projection_dim = whole.config.projection_dim  # transformers does not copy it to the towers
        if name.endswith("WithProjection"):
            theirs = getattr(transformers, name).from_pretrained(directory, config=config, attn_implementation="eager")
        else:
            theirs = whole.vision_model if "Vision" in name else whole.text_model
        theirs.eval().save_pretrained(tmp_path / name)
        for path in (directory, tmp_path / name):
            ours = getattr(hf, name).from_pretrained(path, backend=backend)
            look = {"output_hidden_states": True} if name == "AlignVisionModel" else LOOK
            with torch.no_grad():
                compare(ours(**tower), theirs(**tower), relative_error)
                compare(ours(**tower, **look), theirs(**tower, **look), relative_error)


@pytest.mark.parametrize("backend", BACKENDS)
def test_features_are_given_themselves(saved, backend, relative_error):
    family, theirs, directory = saved
    ours = getattr(hf, f"{family}Model").from_pretrained(directory, backend=backend)
    inputs = batch(theirs.config)
    images, texts = of_tower(inputs, "Vision"), of_tower(inputs, "Text")
    with torch.no_grad():
        expected = theirs.get_image_features(**images), theirs.get_text_features(**texts)
    for x, y in zip((ours.get_image_features(**images), ours.get_text_features(**texts)), expected):
        assert isinstance(x, torch.Tensor)
        compare(x, getattr(y, "pooler_output", y), relative_error)  # transformers 5 wraps them
    parts = ours.vision_model(**images), ours.text_model(**texts)
    with torch.no_grad():
        compare(parts[0], theirs.vision_model(**images), relative_error)
        compare(parts[1], theirs.text_model(**texts), relative_error)


def test_arguments_have_transformers_order(saved, relative_error):
    family, theirs, directory = saved
    ours = getattr(hf, f"{family}Model").from_pretrained(directory)
    inputs = batch(theirs.config)
    tokens, images, mask = inputs["input_ids"], inputs["pixel_values"], inputs["attention_mask"]
    with torch.no_grad():
        compare(ours(tokens, images, mask), theirs(tokens, images, mask), relative_error)
        if family == "Align":
            types = (torch.arange(11) > 4).expand(3, 11) * 1
            compare(ours(tokens, images, mask, types), theirs(tokens, images, mask, types), relative_error)
            features = ours.get_text_features(tokens, mask, types)
            expected = theirs.get_text_features(tokens, mask, types)
            compare(features, getattr(expected, "pooler_output", expected), relative_error)
        else:
            compare(ours(tokens, images, mask, None, True).loss, theirs(tokens, images, mask, None, True).loss, max_of)


def max_of(ours, theirs):
    return np.abs(ours - theirs).max()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_what_comes_out_is_of_the_kind_that_went_in(saved, backend):
    family, theirs, directory = saved
    ours = getattr(hf, f"{family}Model").from_pretrained(directory, backend=backend)
    for kind, expected in ((torch.from_numpy, torch.Tensor), (np.asarray, np.ndarray)):
        inputs = batch(theirs.config, kind)
        output = ours(**inputs, **LOOK)
        found = [output.logits_per_image, output.vision_model_output.hidden_states[1], output.text_model_output[0]]
        found += [ours.get_image_features(inputs["pixel_values"]), ours.get_text_features(inputs["input_ids"])]
        assert {type(x) for x in found} == {expected}
    lists = ours.get_text_features(inputs["input_ids"].tolist())
    assert type(lists) is np.ndarray


@pytest.mark.parametrize("size", [(40, 56), (16, 16), (30, 30)])
def test_positions_are_interpolated_for_other_pictures(clip, size, relative_error):
    ours, theirs = hf.CLIPModel.from_pretrained(clip), transformers.CLIPModel.from_pretrained(clip).eval()
    inputs = batch(theirs.config)
    inputs["pixel_values"] = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for _ in "ab":  # the second time, the interpolated embeddings come from the cache
            options = {"interpolate_pos_encoding": True}
            compare(ours(**inputs, **options), theirs(**inputs, **options), relative_error)
            features = ours.get_image_features(inputs["pixel_values"], **options)
            compare(
                ours.vision_model(inputs["pixel_values"], True),
                theirs.vision_model(inputs["pixel_values"], True),
                relative_error,
            )
    assert features.shape == (2, 24)
    if size != (30, 30):
        with pytest.raises(InputError, match=r"images are \(2, 3, .* expected"):
            ours(**inputs)


def test_align_takes_pictures_of_any_size(tmp_path, relative_error):
    theirs = official("Align", ALIGN["small"])
    theirs.save_pretrained(tmp_path / "m")
    ours = hf.AlignModel.from_pretrained(tmp_path / "m")
    images = torch.randn(2, 3, 50, 81, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.vision_model(images)
    compare(ours.vision_model(images), expected, relative_error)


def test_align_base_at_full_size(tmp_path, relative_error):
    theirs = official("Align", {"vision_config": {"image_size": 289, "hidden_dim": 640}})  # kakaobrain/align-base
    theirs.temperature.data.fill_(0.1)  # keeps logits small: the error of large ones would be the error of the loss
    theirs.save_pretrained(tmp_path / "m")
    ours = hf.AlignModel.from_pretrained(tmp_path / "m")
    assert ours.model.config == ALIGN_BASE
    rng, lengths = np.random.default_rng(0), np.array([64, 9])
    inputs = {
        "input_ids": torch.from_numpy(rng.integers(1, 30522, (2, 64))),
        "pixel_values": torch.from_numpy(rng.uniform(-1, 1, (2, 3, 289, 289)).astype(np.float32)),
        "attention_mask": torch.from_numpy((np.arange(64) < lengths[:, None]) * 1),
    }
    options = {"return_loss": True, **LOOK}
    with torch.no_grad():
        expected = theirs(**inputs, **options)
    assert np.ptp(expected.image_embeds.numpy(), axis=0).max() > 1e-3  # the features depend on the pictures
    compare(ours(**inputs, **options), expected, relative_error)


# --------------------------------------------------------------------------------------------------- saving and loading


def test_what_we_save_transformers_loads_and_agrees(saved, tmp_path, relative_error):
    family, theirs, directory = saved
    inputs = batch(theirs.config)
    for name in [f"{family}Model", *TOWERS[family]]:
        ours = getattr(hf, name).from_pretrained(directory)
        ours.save_pretrained(tmp_path / name)
        again, report = getattr(transformers, name).from_pretrained(tmp_path / name, output_loading_info=True)
        assert not any(report.values())
        tower = next((of_tower(inputs, tower) for tower in ONE if tower in name), inputs)
        with torch.no_grad():
            compare(ours(**tower), again.eval()(**tower), relative_error)
        ours.save_pretrained(tmp_path / name)  # overwrites the files, as in transformers
        same = getattr(hf, name).from_pretrained(tmp_path / name)
        for x, y in zip(same(**tower).to_tuple(), ours(**tower).to_tuple()):
            assert np.array_equal(np.asarray(x[0]), np.asarray(y[0]))


@pytest.mark.parametrize("family", ["CLIP", "Align"])
def test_random_weights_are_a_model_of_transformers(family, tmp_path, relative_error):
    sizes = CLIP["end of text by id"] if family == "CLIP" else {**ALIGN["small"], "initializer_range": 0.3}
    config = getattr(hf, f"{family}Config")(**sizes)
    ours = getattr(hf, f"{family}Model")(config)
    ours.save_pretrained(tmp_path / "m")
    theirs, report = getattr(transformers, f"{family}Model").from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values())
    if family == "CLIP":
        assert ours.num_parameters() == theirs.num_parameters()
    inputs = batch(theirs.config)
    with torch.no_grad():
        compare(ours(**inputs), theirs.eval()(**inputs), relative_error)
    weights = theirs.text_model.state_dict()
    name = next(
        name for name in weights if name.endswith("mlp.fc1.weight") or name.endswith("intermediate.dense.weight")
    )
    assert weights[name].std().item() == pytest.approx(sizes.get("initializer_range", 0.02), rel=0.1)
    scale = "logit_scale" if family == "CLIP" else "temperature"
    assert getattr(theirs, scale).item() == pytest.approx(getattr(theirs.config, f"{scale}_init_value"))
    norms = [x for name, x in weights.items() if re.search(r"(layer_?norm\d?|LayerNorm)\.weight$", name)]
    assert norms and all((x == 1).all() for x in norms)


def test_models_of_other_sources_have_transformers_names_too(relative_error):
    model, preprocess = miniclip.load("shapes")
    ours = hf.CLIPModel.from_pretrained("shapes")
    images, tokens = preprocess(["weights/example.png"]), model.tokenize(["a red heart", "a blue star"])
    assert relative_error(ours(tokens, images).logits_per_image, model(images, tokens)[0]) < 1e-6
    assert ours.config.text_config.vocab_size == len(model.tokenizer)


# ------------------------------------------------------------------------------------------- nothing unused is computed


def test_features_alone_take_the_fast_way(clip, monkeypatch):
    ours = hf.CLIPModel.from_pretrained(clip)
    looks = []
    for name in ("encode_image", "encode_text"):
        encode = getattr(ours.model, name)

        def watched(*args, trace=None, encode=encode, **options):
            looks.append(trace is not None)
            return encode(*args, trace=trace, **options)

        monkeypatch.setattr(ours.model, name, watched)
    inputs = batch(ours.config)
    ours.get_image_features(inputs["pixel_values"])
    ours.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    assert looks == [False, False]


def test_attention_weights_are_computed_only_where_they_are_asked_for(clip):
    ours = hf.CLIPVisionModel.from_pretrained(clip)
    images = batch(hf.CLIPConfig.from_pretrained(clip))["pixel_values"]
    assert ours(images, output_hidden_states=True).attentions is None
    assert "attentions" not in ours(images, output_hidden_states=True)
    assert len(ours(images, output_attentions=True).attentions) == 3


# ------------------------------------------------------------------------------------------------------------- refused


def test_outputs_say_what_they_have(clip):
    output = hf.CLIPModel.from_pretrained(clip)(**batch(hf.CLIPConfig.from_pretrained(clip)))
    assert output.loss is None and "loss" not in output and output.get("loss") is None
    assert output[:2][1] is output.logits_per_text
    assert "logits_per_image" in repr(output)
    with pytest.raises(AttributeError, match="no logits, only loss, logits_per_image"):
        _ = output.logits
    with pytest.raises(KeyError):
        output["loss"]
    with pytest.raises(IndexError):
        output[9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": None}, "input_ids is missing"),
        ({"pixel_values": None}, "pixel_values is missing"),
        ({"position_ids": torch.arange(11)[None]}, "position_ids is given, but miniclip does not take it"),
        ({"attention_mask": torch.ones(3, 10)}, r"attention_mask is \(3, 10\), for tokens \(3, 11\)"),
        ({"attention_mask": torch.arange(11).expand(3, 11) % 2}, "ones and then zeros"),
        ({"attention_mask": (torch.arange(11) < 4).expand(3, 11)}, "attention_mask hides the end of a text"),
        (
            {"pixel_values": torch.ones(2, 3, 30, 30), "return_loss": True},
            "one text for each .* 2 pictures and 3 texts",
        ),
        ({"input_ids": torch.full((3, 11), 99)}, "token ids run from 99 to 99"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(clip, change, message):
    ours = hf.CLIPModel.from_pretrained(clip)
    with pytest.raises(InputError, match=message):
        ours(**{**batch(ours.config), **change})


def test_models_that_are_others_are_refused(clip, tmp_path):
    with pytest.raises(InputError, match="is a model of type 'clip', but AlignConfig expects 'align'"):
        hf.AlignModel.from_pretrained(clip)
    hf.CLIPVisionModel.from_pretrained(clip).save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="bare: has no projection, which CLIPVisionModelWithProjection needs"):
        hf.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="is a model of type 'clip_vision_model', but CLIPConfig expects 'clip'"):
        hf.CLIPModel.from_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="CLIPModel takes no revision here"):
        hf.CLIPModel.from_pretrained(clip, revision="main")
    with pytest.raises(InputError, match="CLIPModel takes a CLIPConfig"):
        hf.CLIPModel(hf.AlignConfig())


def test_moving_a_model_computes_the_same_there(clip):
    ours = hf.CLIPModel.from_pretrained(clip, backend="torch")
    inputs = batch(ours.config)
    before = ours(**inputs).logits_per_image
    assert ours.eval().to("cpu") is ours
    torch.testing.assert_close(ours(**inputs).logits_per_image, before)
    assert str(ours.to("meta").device) == "meta" and ours.dtype == torch.float32
    half = hf.CLIPModel.from_pretrained(clip, backend="torch", torch_dtype=torch.float16)
    assert half.dtype == torch.float16 and half(**inputs).logits_per_image.dtype == torch.float16


def test_towers_are_kept_until_the_model_moves(clip):
    ours = hf.CLIPModel.from_pretrained(clip, backend="torch")
    tower = ours.vision_model
    assert ours.vision_model is tower and tower.dtype == torch.float32
    assert ours.to(torch.float16).vision_model.dtype == torch.float16
    half = batch(ours.config)["pixel_values"].half()
    other = torch.nn.functional.pad(half, (0, 10))
    assert (
        ours.get_image_features(other, True).dtype
        == ours(batch(ours.config)["input_ids"], half)[0].dtype
        == torch.float16
    )


def test_inputs_may_be_lists(clip, relative_error):
    ours = hf.CLIPModel.from_pretrained(clip)
    inputs = batch(ours.config, np.asarray)
    lists = {name: list(x) if name == "pixel_values" else x.tolist() for name, x in inputs.items()}
    assert relative_error(ours(**lists)[0], ours(**inputs)[0]) < 1e-6
    with pytest.raises(InputError, match="input_ids has rows of different lengths: pad them"):
        ours.get_text_features([[1, 2, 3], [1, 2]])


def test_configurations_are_of_the_model_that_is_there(clip):
    ours = hf.CLIPModel.from_pretrained(clip)
    assert ours.model.config == ours.config.ours()
