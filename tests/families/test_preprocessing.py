"""Pictures are prepared as a model's files ask: equal to transformers' image processor, and to OpenCLIP's transform."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import dataclasses
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from clip_directories import change_config, directory, official_model  # noqa: F401
from official_pictures import noise, official, official_open_clip
from PIL import Image
from transformers import CLIPImageProcessorPil, EfficientNetImageProcessorPil

import miniclip
from miniclip import checkpoints, families
from miniclip.checkpoints import huggingface
from miniclip.checkpoints.convert import WRITERS, convert
from miniclip.config import INTERPOLATIONS, CLIPConfig, PictureSettings, VisionConfig
from miniclip.families import image_settings
from miniclip.families.align import huggingface as align
from miniclip.families.clip import huggingface as clip
from miniclip.families.clip import open_clip
from miniclip.families.preprocessing import SettingsPreprocess
from miniclip.image import MEAN, STD, Preprocess

SHAPES = [(47, 33), (33, 48), (20, 20), (9, 5), (100, 9)]


def pictures(*modes):
    return [noise(mode, *shape) for mode in modes for shape in SHAPES]


# --------------------------------------------------------------------------------------------------------- transformers

CLIP_SETTINGS = [
    {"size": {"shortest_edge": 32}, "crop_size": 24, "image_mean": [0.5] * 3},
    {"size": [20, 30], "crop_size": [18, 50]},
    {"size": 32, "crop_size": 40, "resample": 2},
    {"size": 20, "crop_size": 11, "resample": 0, "image_mean": 0.3, "image_std": 0.2},
    {"size": {"height": 20, "width": 33}, "do_center_crop": False, "rescale_factor": 0.5, "resample": 1},
    {"do_resize": False, "crop_size": 32, "do_normalize": False},
    {"size": 25, "crop_size": 20, "do_rescale": False},
]
EFFICIENTNET_SETTINGS = [
    {"size": 30},
    {"size": 30, "crop_size": 20, "do_center_crop": True, "rescale_offset": True},
    {"size": [30, 22], "do_normalize": False, "resample": 2},
    {"size": 30, "include_top": False, "rescale_offset": True, "rescale_factor": 1 / 127.5},
]


@pytest.mark.parametrize(
    ("family", "theirs", "settings"),
    [(clip, CLIPImageProcessorPil, settings) for settings in CLIP_SETTINGS]
    + [(align, EfficientNetImageProcessorPil, settings) for settings in EFFICIENTNET_SETTINGS],
)
def test_settings_mean_what_they_mean_in_transformers(family, theirs, settings):
    processor, read = theirs(**settings), family.read_pictures(settings)
    ours = SettingsPreprocess(read.image_size, settings=read)
    modes = ("RGB", "L", "RGBA", "LA", "P", "CMYK") if theirs is CLIPImageProcessorPil else ("RGB",)
    for picture in pictures(*modes):
        expected = processor(picture, return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(ours(picture), expected, rtol=1e-6, atol=1e-6)
    written = image_settings.write(read, ("rescale_offset", "include_top"))
    assert family.read_pictures(written) == read


@pytest.fixture
def with_settings(directory, tmp_path):
    """A function: settings of an image processor -> a directory that has them, and has two files of them at times."""

    def write(settings, nested=False):
        target = change_config(directory, tmp_path / "m", lambda config: None)
        content = {"image_processor": settings} if nested else settings
        (target / huggingface.PREPROCESSORS[nested]).write_text(json.dumps(content))
        return target

    return write


SAME = [
    {},
    {"size": 32, "crop_size": 32, "feature_extractor_type": "CLIPFeatureExtractor"},
    {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "image_std": None},
    {"image_mean": [float(np.float32(x)) for x in MEAN], "image_std": [round(x, 8) for x in STD]},
    {"rescale_factor": 0.003921569, "processor_class": "CLIPProcessor"},
    {"crop_size": [32, 32], "do_pad": False, "resample": 3},
]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("settings", SAME)
def test_settings_that_mean_the_same_change_nothing(settings, nested, with_settings):
    model, preprocess = miniclip.load(with_settings(settings, nested))
    assert model.config.visual.pictures is None and preprocess.image_size == 32
    picture = noise("RGB", 47, 34)
    np.testing.assert_array_equal(preprocess(picture), official(picture, 32))


def test_another_directory_is_prepared_as_by_transformers_and_keeps_it_when_written_again(with_settings, tmp_path):
    settings = {"image_mean": [0.5] * 3, "size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 2}
    source = with_settings(settings)
    convert(source, tmp_path / "m.safetensors", "miniclip")
    convert(tmp_path / "m.safetensors", tmp_path / "again", "hf")
    picture = noise("RGBA", 47, 34)
    expected = CLIPImageProcessorPil.from_pretrained(source)(picture, return_tensors="np")["pixel_values"][0]
    for path in (source, tmp_path / "m.safetensors", tmp_path / "again"):
        np.testing.assert_allclose(miniclip.load(path)[1](picture), expected, atol=1e-6)
    again = CLIPImageProcessorPil.from_pretrained(tmp_path / "again")(picture, return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(again, expected)
    with pytest.raises(miniclip.InputError, match=r"cannot express.*visual\.pictures"):
        convert(source, tmp_path / "openai.pt", "openai")


def test_of_two_files_transformers_reads_the_nested_one(with_settings):
    with_settings({"resample": 2})
    target = with_settings({"resample": 0}, nested=True)
    assert miniclip.load(target)[0].config.visual.pictures.interpolation == "nearest"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": 0}, "crop_size is 0, expected positive"),
        ({"crop_size": -1}, "crop_size is -1, expected positive"),
        ({"crop_size": 100_000}, "crop_size is 100000, expected positive integers below 65,536"),
        ({"size": 8.5}, "size is 8.5, expected a number of pixels"),
        ({"size": {"longest_edge": 32}}, "expected a shortest_edge, or a height and a width"),
        ({"crop_size": {"side": 3}}, "expected a height and a width"),
        ({"resample": 7}, "resample is 7, expected one of Pillow's filters, 0 to 5"),
        ({"image_mean": ["a", 1, 2]}, "image_mean is .*, expected numbers"),
        ({"image_std": [0, 1, 1]}, "std is .*, expected numbers that are not 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor is '1/255', expected a number"),
        ({"do_pad": True}, "do_pad is True"),
    ],
)
def test_impossible_settings_are_named_and_concern_no_text_tower(settings, message, with_settings, tmp_path):
    target = with_settings(settings)
    with pytest.raises(miniclip.InputError, match=rf"m/preprocessor_config\.json: .*{message}.*: correct the file"):
        miniclip.load(target)
    source = json.loads((target / "config.json").read_text())
    text = {**source["text_config"], "model_type": "clip_text_model", "architectures": ["CLIPTextModel"]}
    (target / "config.json").write_text(json.dumps(text))
    assert checkpoints.load(target)[0].visual is None
    (target / huggingface.PREPROCESSORS[0]).unlink()  # what the message advises
    (target / "config.json").write_text(json.dumps(source))
    assert miniclip.load(target)[0].config.visual.pictures is None


def test_pictures_of_many_sizes_are_prepared_one_by_one(with_settings):
    preprocess = miniclip.load(with_settings({"do_center_crop": False}))[1]
    assert preprocess(noise("RGB", 40, 20)).shape == (3, 32, 64)
    assert preprocess([noise("RGB", 40, 20)] * 2).shape == (2, 3, 32, 64)
    assert preprocess([]).shape[:2] == (0, 3)
    with pytest.raises(miniclip.InputError, match=r"become 32 x 32, 32 x 64 pixels, .*: prepare them one by one"):
        preprocess([noise("RGB", 40, 20), noise("RGB", 20, 20)])
    with pytest.raises(miniclip.InputError, match=r"would become 21,?333,?333 x 32 pixels, which is too large"):
        preprocess(noise("L", 2_000_000, 3))


def test_a_model_of_another_size_has_settings_of_that_size(with_settings):
    source = with_settings({"size": {"shortest_edge": 40}, "crop_size": 32})
    _, preprocess = miniclip.load(source, image_size=(64, 48))
    assert preprocess.settings.size == (80, 60) and preprocess(noise("RGB", 40, 90)).shape == (3, 64, 48)


def test_all_pillows_filters_have_its_numbers():
    assert [Image.Resampling(i).name.lower() for i in range(len(INTERPOLATIONS))] == [*INTERPOLATIONS]


# ------------------------------------------------------------------------------------------------------------- OpenCLIP


def from_open_clip(size, **changes):
    """The preprocessing of a model of this size whose preprocess_cfg is OpenAI's with `changes`."""
    visual = VisionConfig(size, patch_size=8, width=8, layers=1, heads=1, mlp_width=8)
    pictures = open_clip.pictures({**open_clip.PREPROCESSING, "size": size, **changes}, size)
    config = CLIPConfig(dataclasses.replace(visual, pictures=pictures), None, None)
    assert families.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    kept = open_clip.preprocessing_to(config.visual)
    assert open_clip.pictures(json.loads(json.dumps(kept)), size) == pictures
    return families.preprocess_of(config)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [24, (16, 40), (40, 17)])
@pytest.mark.parametrize(("interpolation", "fill"), [("bicubic", 0), ("bilinear", 130), ("random", 0)])
def test_preprocess_cfg_means_what_it_means_in_open_clip(size, mode, interpolation, fill):
    for mean in (MEAN, (0.5, 0.4, 0.3)):
        changes = {"resize_mode": mode, "interpolation": interpolation, "mean": [*mean], "fill_color": fill}
        ours = from_open_clip(size, **changes)
        for picture in pictures("RGB", "RGBA", "L", "P", "1", "F"):
            expected = official_open_clip(picture, size, mode, interpolation, mean, STD, fill)
            np.testing.assert_array_equal(ours(picture), expected)


def test_open_clips_own_configurations_are_accepted(monkeypatch):
    """All models of its table of weights that miniclip has, with preprocess_cfg as in `model.visual.preprocess_cfg`."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None:
        pytest.skip("pip install --no-deps open_clip_torch")
    package = types.ModuleType("open_clip")  # without its __init__, which imports torchvision
    package.__path__ = list(spec.submodule_search_locations)
    for name in ("", ".pretrained", ".constants", ".version"):
        monkeypatch.setitem(sys.modules, f"open_clip{name}", package)
        monkeypatch.delitem(sys.modules, f"open_clip{name}") if name else None
    table = importlib.import_module("open_clip.pretrained")._PRETRAINED
    accepted, different = 0, set()
    for path in Path(package.__path__[0], "model_configs").glob("*.json"):
        model = json.loads(path.read_text())
        try:
            size = open_clip.config_from(model).visual.image_size
        except (miniclip.InputError, KeyError):
            continue
        for tag, entry in table.get(path.stem, {}).items():
            given = {name: entry[name] for name in ("mean", "std", "interpolation", "resize_mode") if entry.get(name)}
            source = {**open_clip.PREPROCESSING, "mean": MEAN, "std": STD, "size": (size, size), **given}
            config = open_clip.config_from(model, source)
            accepted += 1
            if config.visual.pictures:
                different.add(tag)
    assert accepted >= 91 and different


def test_what_open_clip_does_not_have_is_refused():
    for changes, message in (
        ({"mode": "L"}, "mode is 'L', expected 'RGB'"),
        ({"resize_mode": "middle"}, "resize_mode is 'middle', expected shortest, longest or squash"),
        ({"interpolation": "area"}, "interpolation is 'area', expected bicubic"),
        ({"crop_pct": 0.9}, "crop_pct = 0.9"),
        ({"fill_color": 300}, "fill 300"),
    ):
        with pytest.raises(miniclip.InputError, match=message):
            from_open_clip(24, **changes)


def test_a_form_that_cannot_express_settings_refuses_them(tmp_path):
    def written(pictures, form):
        config = dataclasses.replace(miniclip.load("shapes")[0].config)
        config = dataclasses.replace(config, visual=dataclasses.replace(config.visual, pictures=pictures))
        WRITERS[form](tmp_path / form, config, miniclip.load("shapes")[0].params)

    longest = PictureSettings("longest", 48, None, "bicubic", 1 / 255, ((MEAN, STD),), library="open_clip")
    with pytest.raises(miniclip.InputError, match="transformers cannot resize pictures to 48 by their longest side"):
        written(longest, "hf")
    lanczos = PictureSettings("squash", 48, None, "lanczos", 1 / 255, ((MEAN, STD),))
    with pytest.raises(miniclip.InputError, match="interpolation is 'lanczos', expected bicubic, bilinear"):
        written(lanczos, "open_clip")
    small = PictureSettings("squash", 40, None, "bicubic", 1 / 255, ((MEAN, STD),))
    with pytest.raises(miniclip.InputError, match=r"OpenCLIP cannot express.*pictures\.size 40, not 48"):
        written(small, "open_clip")
    assert (tmp_path / "hf").exists() is (tmp_path / "open_clip").exists() is False


def test_openais_settings_are_the_fast_preprocessing():
    for preprocess in (from_open_clip(24), miniclip.load("shapes")[1]):
        assert type(preprocess)._prepare is Preprocess._prepare
