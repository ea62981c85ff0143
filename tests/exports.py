"""Models of all families that their official libraries made, exported once; and the runtimes that read the files."""

import importlib.util
import json
from typing import Any, NamedTuple

import hf_models
import numpy as np
import open_clip_models
import pytest
import siglip_models
import torch

from miniclip.export import export

onnx = pytest.importorskip("onnx", reason="pip install onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
# miniclip's own import of OpenVINO reports nothing to anyone
openvino_ops = pytest.importorskip("miniclip.ops.openvino_ops", reason="pip install openvino")
HAS_OPEN_CLIP = importlib.util.find_spec("open_clip") is not None


class Exported(NamedTuple):
    """A folder; inputs, as transformers names them; and what the official model makes of them, as the files name it."""

    source: Any
    folder: Any
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def transformers_model(sizes, folder, request):
    model = hf_models.official(*sizes)
    model.save_pretrained(folder)
    inputs = hf_models.batch(model.config)
    with torch.no_grad():
        logits = model(**inputs).logits_per_image
        images = model.get_image_features(inputs["pixel_values"]).pooler_output
        texts = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output
    return folder, *_arrays(inputs, images, texts, logits)


def siglip_model(sizes, folder, request):
    model = siglip_models.official(sizes)
    model.save_pretrained(folder)
    images, tokens, _ = siglip_models.batch(model.config)
    inputs = {"pixel_values": torch.from_numpy(images), "input_ids": torch.from_numpy(tokens)}
    with torch.no_grad():
        found = model(**inputs)
    towers = (found.vision_model_output, found.text_model_output)
    return folder, *_arrays(inputs, *(tower.pooler_output for tower in towers), found.logits_per_image)


def openai_model(sizes, folder, request):
    model = request.getfixturevalue("official_model")(*sizes)
    path = folder.with_suffix(".pt")
    request.getfixturevalue("save_torchscript")(model, path)
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "pixel_values": torch.randn(3, 3, sizes[1], sizes[1], generator=generator),
        "input_ids": torch.randint(0, sizes[6], (3, sizes[5]), generator=generator),
    }
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        images, texts = model.encode_image(inputs["pixel_values"]), model.encode_text(inputs["input_ids"])
        logits, _ = model(inputs["pixel_values"], inputs["input_ids"])
    return path, *_arrays(inputs, images, texts, logits)


def open_clip_model(name, folder, request):
    config, rng = open_clip_models.CONFIGS[name], np.random.default_rng(0)
    images = rng.standard_normal((3, 3, *open_clip_models.size_of(config))).astype(np.float32)
    tokens = rng.integers(0, config["text_cfg"]["vocab_size"], (3, config["text_cfg"]["context_length"]))
    arrays = folder.with_suffix(".npz")
    np.savez(arrays, images=images, tokens=tokens)
    open_clip_models.official([["save", str(folder), config, str(arrays), name]])
    found = np.load(arrays)
    inputs = {"pixel_values": images, "input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    return folder, inputs, {"image_embeds": found["image"], "text_embeds": found["text"]}


def _arrays(inputs, images, texts, logits):
    outputs = {"image_embeds": images, "text_embeds": texts, "logits_per_image": logits}
    return {name: x.numpy() for name, x in inputs.items()}, {name: x.numpy() for name, x in outputs.items()}


MODELS: dict[str, Any] = {
    **{
        f"transformers {' '.join(key)}": (transformers_model, (key[0], sizes))
        for key, sizes in hf_models.SIZES.items()
        if not key[0].startswith("Siglip")
    },
    **{f"transformers Siglip {name}": (siglip_model, sizes) for name, sizes in siglip_models.SIZES.items()},
    "openai ViT": (openai_model, (16, 40, 2, 64, 8, 11, 100, 64, 1, 2)),
    "openai ResNet": (openai_model, (16, 64, (1, 2, 1, 1), 16, None, 11, 100, 64, 1, 2)),
    **{f"open_clip {name}": (open_clip_model, name) for name in ("gelu", "huge", "resnet")},
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """Each of MODELS, exported in float32."""
    if request.param.startswith("open_clip") and not HAS_OPEN_CLIP:
        pytest.skip("pip install --no-deps open_clip_torch")
    make, sizes = MODELS[request.param]
    folder = tmp_path_factory.mktemp("exported")
    source, inputs, outputs = make(sizes, folder / "m", request)
    export(source, folder / "onnx")
    return Exported(source, folder / "onnx", inputs, outputs)


def in_onnxruntime(path):
    """A function from inputs to outputs, by name, computed by ONNX Runtime on one thread. It ignores other inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_outputs()]

    def run(inputs):
        return dict(zip(names, session.run(None, {x.name: inputs[x.name] for x in session.get_inputs()})))

    return run


def in_openvino(path):
    """The same in OpenVINO, in float32 on every processor."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino_ops.core().compile_model(path, "CPU", settings)

    def run(inputs):
        # an input or output may have several names: also that of its cast
        found = model({name: inputs[name] for x in model.inputs for name in x.names if name in inputs})
        return {name: found[name] for x in model.outputs for name in x.names if name in OUTPUTS}

    return run


OUTPUTS = {"image_embeds", "text_embeds", "logits_per_image", "logits_per_text"}
RUNTIMES = {"ONNX Runtime": in_onnxruntime, "OpenVINO": in_openvino}


def configuration(folder):
    return json.loads((folder / "config.json").read_text())
