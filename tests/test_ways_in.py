"""The familiar interfaces: the examples of docs/migrating.md, unchanged, against the libraries they come from."""

import re

import numpy as np
import pytest
import siglip_models
import torch
import transformers
from checkout import ROOT
from naflex_models import save_whole
from PIL import Image
from siglip_vocabularies import gemma_directory, sentencepiece, spiece_directory  # noqa: F401
from small_vocabularies import SPECIAL

import miniclip
from miniclip import clip, hf
from miniclip.families.clip.presets import VOCABULARY
from miniclip.fetch import vocabulary

PAGE = ROOT / "docs" / "migrating.md"
PICTURE = "weights/example.png"


def example(beginning):
    """The only Python block of the page with a line that begins with `beginning`."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = (block for block in blocks if re.search(f"^{re.escape(beginning)}", block, re.MULTILINE))
    return block


def run(code, **replaced):
    """Run code with some of its strings replaced; returns its variables."""
    for old, new in replaced.items():
        assert f'"{old}"' in code
        code = code.replace(f'"{old}"', repr(str(new)))
    variables = {}
    exec(code, variables)
    return variables


# ------------------------------------------------------------------------------------------------------- OpenAI's


@pytest.fixture(scope="module")
def archive(tmp_path_factory, official_model, save_torchscript):
    """(OpenAI's model, the path of its TorchScript archive)."""
    official = official_model(16, 64, 2, 64, 16, 77, VOCABULARY, 64, 1, 2)
    path = tmp_path_factory.mktemp("archive") / "m.pt"
    save_torchscript(official, path)
    return official.float(), path


def test_openais_example_runs_with_another_import(archive, official_clip, relative_error):
    official, path = archive
    found = run(example("from miniclip import clip"), **{"ViT-B/32": path, "CLIP.png": PICTURE})
    image, text = found["image"].cpu(), found["text"].cpu()
    assert type(found["image_features"]) is type(found["logits_per_text"]) is torch.Tensor
    assert torch.equal(text, official_clip.tokenize(["a diagram", "a dog", "a cat"]).int())
    with torch.no_grad():
        expected = official(image, text)[0]
        assert relative_error(found["image_features"].cpu(), official.encode_image(image)) < 1e-5
        assert relative_error(found["text_features"].cpu(), official.encode_text(text)) < 1e-5
    assert relative_error(found["logits_per_image"].cpu(), expected) < 1e-4
    assert relative_error(found["probs"], expected.softmax(-1)) < 1e-4
    assert clip.available_models() == miniclip.available_models()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_same_calls_on_miniclip_itself(archive, backend, relative_error):
    official, path = archive
    model, preprocess = miniclip.load(path, backend, device="cpu")
    pictures = [Image.open(PICTURE), Image.open(PICTURE).transpose(Image.Transpose.ROTATE_90)]
    stack = np.stack if backend == "numpy" else torch.stack
    image = stack([preprocess(picture) for picture in pictures])  # (2, 3, 64, 64)
    text = miniclip.tokenize(["a diagram", "a dog", "a cat"])  # (3, 77)
    logits_per_image, logits_per_text = model(image, text)  # (2, 3), (3, 2)
    assert type(logits_per_image) is type(image) is {"numpy": np.ndarray, "torch": torch.Tensor}[backend]
    with torch.no_grad():
        expected = official(torch.as_tensor(image), torch.from_numpy(text))[0]
    assert relative_error(logits_per_image, expected) < 1e-4 and logits_per_text.shape == (3, 2)
    assert relative_error(model.ops.softmax(logits_per_image), expected.softmax(-1)) < 1e-4
    assert model.encode_image(image).shape == (2, 16) and model.encode_text(text).shape == (3, 16)


def test_a_gpu_is_triton_s_and_a_cpu_torch_s(monkeypatch):
    asked, shapes = [], miniclip.load("shapes", "torch")
    monkeypatch.setattr(clip.api, "load", lambda *arguments, **_: asked.append(arguments) or shapes)
    clip.load("RN50", device="cuda:1", jit=False)
    clip.load("RN50", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    clip.load("RN50", download_root="somewhere")
    backends = ("auto", "cuda:1", None), ("torch", torch.device("cpu"), None), ("auto", "cuda", "somewhere")
    assert asked == [("RN50", backend, device, None, root) for backend, device, root in backends]


# ------------------------------------------------------------------------------------------------- transformers'


EXAMPLES = {
    "CLIP": "openai/clip-vit-base-patch32",
    "Align": "kakaobrain/align-base",
    "Siglip": "google/siglip-base-patch16-224",
    "ChineseCLIP": "OFA-Sys/chinese-clip-vit-base-patch16",
    "Siglip2": "google/siglip2-base-patch16-naflex",
}


@pytest.mark.parametrize("family", EXAMPLES)
def test_transformers_examples_run_with_another_import(family, tmp_path, relative_error, request):
    if family == "Siglip":
        save_siglip(tmp_path / "m", request.getfixturevalue("spiece_directory"))
    elif family == "Siglip2":
        save_whole(tmp_path / "m", "GemmaTokenizer", request.getfixturevalue("gemma_directory")["GemmaTokenizer"])
    else:
        {"CLIP": save_clip, "Align": save_align, "ChineseCLIP": save_chinese}[family](tmp_path / "m")
    Image.open(PICTURE).convert("RGB").resize((90, 90)).save(tmp_path / "picture.png")
    code = example(f"from miniclip.hf import {family}Model")
    places = {EXAMPLES[family]: tmp_path / "m", "000000039769.jpg": tmp_path / "picture.png"}
    ours, theirs = (run(code.replace("miniclip.hf", library), **places) for library in ("miniclip.hf", "transformers"))
    assert type(ours["model"]) is not type(theirs["model"])
    for name in ("probs", "logits_per_image"):
        assert isinstance(ours[name], torch.Tensor) and ours[name].shape == theirs[name].shape
        assert relative_error(ours[name].detach(), theirs[name].detach()) < 1e-5


def test_flax_s_example_runs_with_another_import(tmp_path, relative_error):
    """transformers 5 has no Flax models: the same weights and inputs in its model for torch."""
    save_clip(tmp_path / "m")
    Image.open(PICTURE).convert("RGB").resize((90, 90)).save(tmp_path / "picture.png")
    places = {EXAMPLES["CLIP"]: tmp_path / "m", "000000039769.jpg": tmp_path / "picture.png"}
    found = run(example("from miniclip.hf import AutoProcessor, FlaxCLIPModel"), **places)
    theirs = transformers.CLIPModel.from_pretrained(tmp_path / "m").eval()
    with torch.no_grad():
        expected = theirs(**{name: torch.from_numpy(x) for name, x in found["inputs"].items()}).logits_per_image
    assert found["logits_per_image"].shape == (1, 2)
    assert relative_error(np.asarray(found["logits_per_image"]), expected.numpy()) < 1e-5
    assert relative_error(np.asarray(found["probs"]), expected.softmax(1).numpy()) < 1e-5


def test_tensorflow_s_example_runs_with_another_import(tmp_path, relative_error):
    pytest.importorskip("tensorflow")
    save_clip(tmp_path / "m")
    Image.open(PICTURE).convert("RGB").resize((90, 90)).save(tmp_path / "picture.png")
    places = {EXAMPLES["CLIP"]: tmp_path / "m", "000000039769.jpg": tmp_path / "picture.png"}
    found = run(example("from miniclip.hf import AutoProcessor, TFCLIPModel"), **places)
    theirs = transformers.CLIPModel.from_pretrained(tmp_path / "m").eval()
    with torch.no_grad():
        expected = theirs(**{name: torch.from_numpy(x.numpy()) for name, x in found["inputs"].items()}).logits_per_image
    assert found["logits_per_image"].shape == (1, 2)
    assert relative_error(found["logits_per_image"].numpy(), expected.numpy()) < 1e-5
    assert relative_error(found["probs"].numpy(), expected.softmax(1).numpy()) < 1e-5


def save_clip(directory):
    torch.manual_seed(0)
    tokenizer = vocabulary.official_tokenizer()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=sizes, vision_config={**sizes, "image_size": 48, "patch_size": 16}, projection_dim=32
    )
    transformers.CLIPModel(config).save_pretrained(directory)
    hf.CLIPProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=48), hf.CLIPTokenizer(tokenizer=tokenizer)
    ).save_pretrained(directory)


def save_align(directory):
    torch.manual_seed(0)
    pieces = [*SPECIAL, "an", "image", "of", "a", "cat", "dog"]
    text = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 11,
    }
    stages = {"in_channels": [32, 8], "out_channels": [8, 16], "kernel_sizes": [3, 5], "strides": [1, 2]}
    vision = {
        **stages,
        "num_block_repeats": [1, 2],
        "expand_ratios": [1, 6],
        "image_size": 65,
        "width_coefficient": 1.0,
    }
    config = transformers.AlignConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.AlignModel(config).save_pretrained(directory)
    tokenizer = transformers.BertTokenizer(vocab={piece: id for id, piece in enumerate(pieces)})
    pictures = {"do_normalize": False, "include_top": False, "rescale_factor": 1 / 127.5, "rescale_offset": True}
    image_processor = transformers.EfficientNetImageProcessorPil(
        size={"height": 78, "width": 78},
        crop_size={"height": 65, "width": 65},
        do_center_crop=True,
        resample=2,
        **pictures,
    )
    transformers.AlignProcessor(image_processor, tokenizer).save_pretrained(directory)


def save_chinese(directory):
    pieces = [*SPECIAL, *"杰尼龟妙蛙种子小火皮卡丘"]
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text, vision = {**sizes, "vocab_size": len(pieces)}, {**sizes, "image_size": 48, "patch_size": 16}
    config = transformers.ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    torch.manual_seed(0)
    transformers.ChineseCLIPModel(config).save_pretrained(directory)
    tokenizer = transformers.BertTokenizer(vocab={piece: id for id, piece in enumerate(pieces)})
    image_processor = transformers.ChineseCLIPImageProcessorPil(size={"height": 48, "width": 48}, do_center_crop=False)
    transformers.ChineseCLIPProcessor(image_processor, tokenizer).save_pretrained(directory)


def save_siglip(directory, vocabulary):
    tokenizer = transformers.SiglipTokenizer.from_pretrained(vocabulary)
    text = {**siglip_models.TEXT, "vocab_size": len(tokenizer)}
    siglip_models.official({"text_config": text, "vision_config": siglip_models.VISION}).save_pretrained(directory)
    image_processor = transformers.SiglipImageProcessorPil(size={"height": 30, "width": 30})
    transformers.SiglipProcessor(image_processor, tokenizer).save_pretrained(directory)


# --------------------------------------------------------------------------------------- eight pictures, eight captions


def test_each_of_eight_pictures_is_closest_to_its_caption(tmp_path):
    found = run(example("from miniclip.viz"), **{"cosines.png": tmp_path / "cosines.png"})
    cosines, pictures, captions = found["cosines"], found["pictures"], found["captions"]
    assert (cosines.argmax(axis=0) == np.arange(8)).all()
    with Image.open(tmp_path / "cosines.png") as figure:
        assert min(figure.size) > 500
    model, processor = (kind.from_pretrained("shapes") for kind in (hf.CLIPModel, hf.CLIPProcessor))
    outputs = model(**processor(text=captions, images=pictures, padding=True, return_tensors="np"))
    np.testing.assert_allclose(outputs.text_embeds @ outputs.image_embeds.T, cosines, atol=1e-6)
