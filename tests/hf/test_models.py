"""miniclip.hf's models against transformers' models of the same names: every output field, on the same weights."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import numpy as np
import pytest
import torch
import transformers
from backends import HERE
from hf_models import (  # noqa: F401
    ALIGN,
    LOOK,
    SIGLIP,
    SIGLIP2,
    TOWERS,
    batch,
    clip,
    compare,
    of_tower,
    official,
    saved,
)

from miniclip import InputError, hf
from miniclip.families.align.config import ALIGN_BASE

BACKENDS = ["numpy", "torch"]


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


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_field_of_each_tower_is_transformers(saved, backend, tmp_path, relative_error):
    family, whole, directory = saved
    inputs = batch(whole.config)
    for name in TOWERS[family]:
        tower = of_tower(inputs, "Vision" if "Vision" in name else "Text")
        config = whole.config.vision_config if "Vision" in name else whole.config.text_config
        if not family.startswith("Siglip"):
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
    if family == "Siglip2":
        mask, shapes = inputs["pixel_attention_mask"], inputs["spatial_shapes"]
        given = tokens, images, mask, shapes, inputs["attention_mask"]
        compare(ours.get_image_features(images, mask, shapes), ours(*given).vision_model_output[1], relative_error)
    else:
        given = tokens, images, mask
    with torch.no_grad():
        compare(ours(*given), theirs(*given), relative_error)
        if hasattr(theirs.config.text_config, "type_vocab_size"):
            types = (torch.arange(11) > 4).expand(3, 11) * 1
            compare(ours(tokens, images, mask, types), theirs(tokens, images, mask, types), relative_error)
            features = ours.get_text_features(tokens, mask, types)
            expected = theirs.get_text_features(tokens, mask, types)
            compare(features, getattr(expected, "pooler_output", expected), relative_error)
        elif family != "Siglip2":
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
        found += [ours.get_image_features(**of_tower(inputs, "Vision")), ours.get_text_features(inputs["input_ids"])]
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


# ------------------------------------------------------------------------------------------- nothing unused is computed


def test_features_alone_take_the_fast_way(clip, monkeypatch):
    ours = hf.CLIPModel.from_pretrained(clip)
    looks = []
    with torch.no_grad():  # otherwise each call has a model of its own
        model = ours.model
    for name in ("encode_image", "encode_text"):
        encode = getattr(model, name)

        def watched(*args, trace=None, encode=encode, **options):
            looks.append(trace is not None)
            return encode(*args, trace=trace, **options)

        monkeypatch.setattr(model, name, watched)
    inputs = batch(ours.config)
    with torch.no_grad():
        ours.get_image_features(inputs["pixel_values"])
        ours.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    assert looks == [False, False]


def test_attention_weights_are_computed_only_where_they_are_asked_for(clip):
    ours = hf.CLIPVisionModel.from_pretrained(clip)
    images = batch(hf.CLIPConfig.from_pretrained(clip))["pixel_values"]
    assert ours(images, output_hidden_states=True).attentions is None
    assert "attentions" not in ours(images, output_hidden_states=True)
    assert len(ours(images, output_attentions=True).attentions) == 3


# ------------------------------------------------------------------------- inputs, outputs, and where they are computed


def test_inputs_may_be_lists(clip, relative_error):
    ours = hf.CLIPModel.from_pretrained(clip)
    inputs = batch(ours.config, np.asarray)
    lists = {name: list(x) if name == "pixel_values" else x.tolist() for name, x in inputs.items()}
    assert relative_error(ours(**lists)[0], ours(**inputs)[0]) < 1e-6
    with pytest.raises(InputError, match="input_ids has rows of different lengths: pad them"):
        ours.get_text_features([[1, 2, 3], [1, 2]])


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


def test_moving_a_model_computes_the_same_there(clip):
    ours = hf.CLIPModel.from_pretrained(clip, backend="torch")
    inputs = batch(ours.config)
    before = ours(**inputs).logits_per_image
    assert ours.eval().to("cpu") is ours
    torch.testing.assert_close(ours(**inputs).logits_per_image, before)
    assert str(ours.to("meta").device) == "meta" and ours.dtype == torch.float32
    half = hf.CLIPModel.from_pretrained(clip, backend="torch", torch_dtype=torch.float16)
    output = half(**inputs)
    assert half.dtype == output.image_embeds.dtype == torch.float16
    assert output.logits_per_image.dtype == half.logit_scale.dtype == torch.float32


def test_towers_are_kept_until_the_model_moves(clip):
    ours = hf.CLIPModel.from_pretrained(clip, backend="torch")
    tower = ours.vision_model
    assert ours.vision_model is tower and tower.dtype == torch.float32
    assert ours.to(torch.float16).vision_model.dtype == torch.float16
    half = batch(ours.config)["pixel_values"].half()
    other = torch.nn.functional.pad(half, (0, 10))
    assert ours.get_image_features(other, True).dtype == torch.float16
    assert ours(batch(ours.config)["input_ids"], half).text_embeds.dtype == torch.float16


@pytest.mark.parametrize("size", [(40, 56), (16, 16), (30, 30)])
def test_positions_of_siglip_are_interpolated_for_other_pictures(size, tmp_path, relative_error):
    theirs = official("Siglip", SIGLIP["small"])
    theirs.save_pretrained(tmp_path / "m")
    ours = hf.SiglipModel.from_pretrained(tmp_path / "m")
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.get_image_features(images, True).pooler_output
    compare(ours.get_image_features(images, True), expected, relative_error)
    if size != (30, 30):
        with pytest.raises(InputError, match=r"images are \(2, 3, .* expected"):
            ours.get_image_features(images)


@pytest.mark.parametrize("family", ["Siglip", "Siglip2"])
def test_gradients_of_siglip_are_transformers(family, tmp_path):
    theirs = official(family, {"Siglip": SIGLIP, "Siglip2": SIGLIP2}[family]["small"])
    theirs.save_pretrained(tmp_path / "m")
    ours = getattr(hf, f"{family}Model").from_pretrained(tmp_path / "m", backend="torch")
    inputs = batch(theirs.config)
    for model in (ours, theirs):
        model(**inputs, return_loss=True).loss.backward()
    expected = dict(theirs.named_parameters())
    found = dict(ours.named_parameters())
    assert found.keys() == expected.keys()
    largest = max(x.grad.abs().max() for x in expected.values())
    for name, x in expected.items():
        assert found[name].shape == x.shape
        torch.testing.assert_close(found[name].grad, x.grad, rtol=1e-3, atol=1e-5 * largest.item(), msg=name)
