"""transformers' examples of its Flax models run with another import."""

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

PICTURES = """
from PIL import Image
import requests
from transformers import {imported}

model = {name}.from_pretrained("openai/clip-vit-base-patch32")
processor = AutoProcessor.from_pretrained("openai/clip-vit-base-patch32")

url = "http://images.cocodataset.org/val2017/000000039769.jpg"
image = Image.open(requests.get(url, stream=True).raw)
"""
TEXTS = """
from transformers import AutoTokenizer, {name}

model = {name}.from_pretrained("openai/clip-vit-base-patch32")
tokenizer = AutoTokenizer.from_pretrained("openai/clip-vit-base-patch32")

inputs = tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="np")
"""
CODE = {  # the examples of modeling_flax_clip.py
    "FlaxCLIPModel": "import jax"
    + PICTURES.format(imported="AutoProcessor, FlaxCLIPModel", name="FlaxCLIPModel")
    + """
inputs = processor(
    text=["a photo of a cat", "a photo of a dog"], images=image, return_tensors="np", padding=True
)

outputs = model(**inputs)
logits_per_image = outputs.logits_per_image  # this is the image-text similarity score
probs = jax.nn.softmax(logits_per_image, axis=1)  # we can take the softmax to get the label probabilities
""",
    "get_text_features": TEXTS.format(name="FlaxCLIPModel") + "text_features = model.get_text_features(**inputs)",
    "get_image_features": PICTURES.format(imported="AutoProcessor, FlaxCLIPModel", name="FlaxCLIPModel")
    + """
inputs = processor(images=image, return_tensors="np")

image_features = model.get_image_features(**inputs)
""",
    "FlaxCLIPTextModel": TEXTS.format(name="FlaxCLIPTextModel")
    + """
outputs = model(**inputs)
last_hidden_state = outputs.last_hidden_state
pooler_output = outputs.pooler_output  # pooled (EOS token) states
""",
    PROJECTED: TEXTS.format(name=PROJECTED)
    + """
outputs = model(**inputs)
text_embeds = outputs.text_embeds
""",
    "FlaxCLIPVisionModel": PICTURES.format(imported="AutoProcessor, FlaxCLIPVisionModel", name="FlaxCLIPVisionModel")
    + """
inputs = processor(images=image, return_tensors="np")

outputs = model(**inputs)
last_hidden_state = outputs.last_hidden_state
pooler_output = outputs.pooler_output  # pooled CLS states
""",
}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A directory with a model, tokenizer and image processor."""
    directory = tmp_path_factory.mktemp("example") / "m"
    save_clip(directory)
    return directory


@pytest.mark.parametrize("name", CODE)
def test_transformers_examples_run_with_another_import(name, example, monkeypatch, relative_error):
    requests = types.ModuleType("requests")
    with open(ROOT / PICTURE, "rb") as picture:
        raw = io.BytesIO(picture.read())
    requests.get = lambda url, stream: types.SimpleNamespace(raw=raw)
    monkeypatch.setitem(sys.modules, "requests", requests)
    found = {}
    code = CODE[name].replace("from transformers import", "from miniclip.hf import")
    exec(code.replace("openai/clip-vit-base-patch32", str(example)), found)
    theirs = transformers.CLIPModel.from_pretrained(example).eval()
    inputs = {key: torch.from_numpy(np.asarray(x)) for key, x in found["inputs"].items()}
    with torch.no_grad():
        if name == "FlaxCLIPModel":
            compare(found["probs"], theirs(**inputs).logits_per_image.softmax(1), relative_error)
        elif name.startswith("get_"):
            features = found.get("text_features", found.get("image_features"))
            compare(features, getattr(theirs, name)(**inputs).pooler_output, relative_error)
        elif name == PROJECTED:
            compare(found["text_embeds"], theirs.get_text_features(**inputs).pooler_output, relative_error)
        else:
            expected = (theirs.vision_model if "Vision" in name else theirs.text_model)(**inputs)
            for field in ("last_hidden_state", "pooler_output"):
                compare(found[field], expected[field], relative_error)
