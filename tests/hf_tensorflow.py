"""Models of `miniclip.hf` with TensorFlow's names, beside transformers' for torch with the same weights."""

import numpy as np
import pytest
from hf_models import CLIP, batch
from hf_models import official as torch_model
from tensorflow_models import variables, write_h5

from miniclip import hf

NAMES = ["TFCLIPModel", "TFCLIPTextModel", "TFCLIPVisionModel"]


@pytest.fixture(scope="module", params=CLIP)
def saved(request, tmp_path_factory):
    """(transformers' model for torch, its directory with PyTorch's weights, one with TensorFlow's)."""
    model, directory = torch_model("CLIP", CLIP[request.param]), tmp_path_factory.mktemp("tensorflow")
    model.save_pretrained(directory / "torch")
    (directory / "tf").mkdir()
    (directory / "tf" / "config.json").write_bytes((directory / "torch" / "config.json").read_bytes())
    write_h5(directory / "tf" / "tf_model.h5", variables(model))
    return model, directory / "torch", directory / "tf"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(transformers' model for torch, its directory, our TensorFlow model, inputs)."""
    model, directory = torch_model("CLIP", CLIP["end of text by id"]), tmp_path_factory.mktemp("clip") / "m"
    model.save_pretrained(directory)
    return model, directory, hf.TFCLIPModel.from_pretrained(directory), batch(model.config, np.asarray)
