"""transformers 4's examples of its models for Flax and TensorFlow run with another import."""

import importlib.util
import io
import sys
import types

import numpy as np
import pytest
import torch
import transformers
from checkout import ROOT
from hf_flax import PROJECTED, clip  # noqa: F401
from hf_models import compare
from test_ways_in import PICTURE, save_clip

TENSORFLOW = importlib.util.find_spec("tensorflow")
PICTURES = """
from PIL import Image
import requests
from transformers import AutoProcessor, {name}

model = {name}.from_pretrained("openai/clip-vit-base-patch32")
processor = AutoProcessor.from_pretrained("openai/clip-vit-base-patch32")

url = "http://images.cocodataset.org/val2017/000000039769.jpg"
image = Image.open(requests.get(url, stream=True).raw)
"""
BOTH = (
    PICTURES
    + """
inputs = processor(
    text=["a photo of a cat", "a photo of a dog"], images=image, return_tensors="{tensors}", padding=True
)

outputs = model(**inputs)
logits_per_image = outputs.logits_per_image  # this is the image-text similarity score
probs = {softmax}(logits_per_image, axis=1)  # we can take the softmax to get the label probabilities
"""
)
TEXTS = """
from transformers import AutoTokenizer, {name}

model = {name}.from_pretrained("openai/clip-vit-base-patch32")
tokenizer = AutoTokenizer.from_pretrained("openai/clip-vit-base-patch32")

inputs = tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="{tensors}")
"""
IMAGES = (
    PICTURES
    + """
inputs = processor(images=image, return_tensors="{tensors}")
"""
)
TOWER = """
outputs = model(**inputs)
last_hidden_state = outputs.last_hidden_state
pooled_output = outputs.pooler_output
"""
LIBRARIES = {  # of modeling_flax_clip.py and modeling_tf_clip.py
    "Flax": ("import jax", {"tensors": "np", "softmax": "jax.nn.softmax"}),
    "TF": ("import tensorflow as tf", {"tensors": "tf", "softmax": "tf.nn.softmax"}),
}
CODE = {
    "CLIPModel": ("CLIPModel", BOTH),
    "get_text_features": ("CLIPModel", TEXTS + "text_features = model.get_text_features(**inputs)"),
    "get_image_features": ("CLIPModel", IMAGES + "image_features = model.get_image_features(**inputs)"),
    "CLIPTextModel": ("CLIPTextModel", TEXTS + TOWER),
    PROJECTED: (PROJECTED, TEXTS + "outputs = model(**inputs)\ntext_embeds = outputs.text_embeds"),
    "CLIPVisionModel": ("CLIPVisionModel", IMAGES + TOWER),
}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A directory with a model, tokenizer and image processor."""
    directory = tmp_path_factory.mktemp("example") / "m"
    save_clip(directory)
    return directory


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", CODE)
def test_transformers_examples_run_with_another_import(library, name, example, monkeypatch, relative_error):
    if library == "TF" and (TENSORFLOW is None or name == PROJECTED):
        pytest.skip("there is no such class, or no TensorFlow")
    requests = types.ModuleType("requests")
    with open(ROOT / PICTURE, "rb") as picture:
        raw = io.BytesIO(picture.read())
    requests.get = lambda url, stream: types.SimpleNamespace(raw=raw)
    monkeypatch.setitem(sys.modules, "requests", requests)
    found = {}
    kind, code = CODE[name]
    beginning, words = LIBRARIES[library]
    code = beginning + code.format(name=library + kind.removeprefix("Flax"), **words)
    code = code.replace("from transformers import", "from miniclip.hf import")
    exec(code.replace("openai/clip-vit-base-patch32", str(example)), found)
    theirs = transformers.CLIPModel.from_pretrained(example).eval()
    inputs = {key: torch.from_numpy(np.array(x)) for key, x in found["inputs"].items()}
    with torch.no_grad():
        if name == "CLIPModel":
            compare(found["probs"], theirs(**inputs).logits_per_image.softmax(1), relative_error)
        elif name.startswith("get_"):
            features = found.get("text_features", found.get("image_features"))
            compare(features, getattr(theirs, name)(**inputs).pooler_output, relative_error)
        elif name == PROJECTED:
            compare(found["text_embeds"], theirs.get_text_features(**inputs).pooler_output, relative_error)
        else:
            expected = (theirs.vision_model if "Vision" in name else theirs.text_model)(**inputs)
            compare(found["last_hidden_state"], expected.last_hidden_state, relative_error)
            compare(found["pooled_output"], expected.pooler_output, relative_error)
