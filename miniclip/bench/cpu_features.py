"""Cases of `bench cpu`: pictures and texts to features, loading a model, and the first answer of a new process.

Peers are transformers' CLIPModel, the same in ONNX Runtime, and our own backend on torch.
"""

import json
import warnings
from dataclasses import replace

import numpy as np

from miniclip import api
from miniclip.bench import captions, session
from miniclip.bench.measurement import OURS, TRANSFORMERS, Measurement, array, extra_memory, python
from miniclip.bench.work import work, work_of_texts
from miniclip.errors import WrongAnswer
from miniclip.fetch import vocabulary
from miniclip.weights import DIRECTORY

ON_TORCH = "miniclip on torch"
BATCH = 32  # captions that a peer pads to the longest of them

# ------------------------------------------------------------------------------------ pictures to features


def encode_image(model, *, B, dtype):
    images = pictures(model, B)
    reference = _reference(model, images)
    builders = {
        ON_TORCH: lambda: _ours(model, "torch", dtype, images),
        TRANSFORMERS: lambda: _transformers_vision(model, dtype, images),
    }
    if dtype == "float32":
        builders = {OURS: lambda: _ours(model, "numpy", dtype, images), **builders}
        builders["ONNX Runtime"] = lambda: _onnx_runtime(model, images)
    flops, _ = work(replace(model.config, text=None), "visual", B)
    return Measurement(builders, _close_to(reference, dtype), B, "pictures/s", flops)


def pictures(model, B):
    return np.random.default_rng(0).standard_normal((B, 3, *[model.config.visual.image_size] * 2), np.float32)


def _reference(model, images):
    """transformers' features in float32; ours if it is not installed."""
    try:
        return array(_transformers_vision(model, "float32", images)())
    except ImportError:
        return api.load(model.path, "numpy")[0].encode_image(images)


def _close_to(reference, dtype):
    def check(name, features):
        session.compare(array(features), reference, dtype)

    return check


def _ours(model, backend, dtype, images):
    encoder, _ = api.load(model.path, backend, dtype=dtype)
    images = encoder.ops.asarray(images, dtype=dtype)
    return lambda: encoder.encode_image(images)


def transformers_model(model, dtype):
    """transformers' CLIPModel with the same weights; its messages and progress bars are turned off."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    loaded = transformers.CLIPModel.from_pretrained(model.path, dtype=getattr(torch, dtype))
    return loaded.eval().requires_grad_(False)


def transformers_features(output):
    """The features in the output of get_image_features and get_text_features; version 5 wraps them in an object."""
    return getattr(output, "pooler_output", output)


def _transformers_vision(model, dtype, images):
    import torch

    theirs = transformers_model(model, dtype)
    images = torch.from_numpy(images).to(getattr(torch, dtype))
    return lambda: transformers_features(theirs.get_image_features(pixel_values=images))


def _onnx_runtime(model, images):
    """transformers' model, exported by torch, with all optimisations of ONNX Runtime, which are its default."""
    import onnxruntime
    import torch

    path = model.scratch / "vision.onnx"
    if not path.exists():
        theirs = transformers_model(model, "float32")

        class Features(torch.nn.Module):
            def forward(self, images):
                return transformers_features(theirs.get_image_features(pixel_values=images))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that the exporter is old, and of every branch
            names = {"input_names": ["images"], "output_names": ["features"], "dynamic_axes": {"images": {0: "B"}}}
            torch.onnx.export(Features(), (torch.from_numpy(images[:1]),), path, dynamo=False, **names)
    runtime = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda: runtime.run(None, {"images": images})[0]


# --------------------------------------------------------------------------------------- texts to features


def encode_text(model, *, texts, dtype, T=None):
    """Captions of natural length, or, with T, all of T tokens."""
    tokenizer, config = vocabulary.official_tokenizer(), model.config
    tokens = tokenizer.tokenize(captions.make(texts, tokenizer))  # (texts, 77)
    if T is not None:
        words = tokens[(tokens > 0) & (tokens < tokenizer.start_id)]
        tokens = np.resize(words, (texts, T))
        tokens[:, 0], tokens[:, -1] = tokenizer.start_id, tokenizer.end_id
    lengths = tokens.argmax(-1) + 1
    encoder, _ = api.load(model.path, "numpy")
    padded = {f"{TRANSFORMERS}, padded to the longest of {BATCH}": None, f"{TRANSFORMERS}, padded to 77": 77}
    if T is not None:
        padded = {TRANSFORMERS: None}
    peers = {name: lambda to=to: _transformers_text(model, tokens, lengths, to) for name, to in padded.items()}
    try:
        reference = array(_transformers_text(model, tokens, lengths)())
    except ImportError:
        reference = encoder.encode_text(tokens)
    builders = {OURS: lambda: lambda: encoder.encode_text(tokens), **peers}
    return Measurement(builders, _close_to(reference, dtype), texts, "texts/s", work_of_texts(config, lengths))


def _transformers_text(model, tokens, lengths, T=None):
    """A call that encodes batches of `BATCH`, padded to T or the longest text, with transformers' attention masks."""
    import torch

    theirs = transformers_model(model, "float32")
    batches = []
    for start in range(0, len(tokens), BATCH):
        rows = slice(start, start + BATCH)
        ids = torch.from_numpy(tokens[rows, : T or lengths[rows].max()]).long()
        batches.append({"input_ids": ids, "attention_mask": (ids > 0).long()})
    return lambda: torch.cat([transformers_features(theirs.get_text_features(**batch)) for batch in batches])


# ---------------------------------------------------------------------------- loading, and the first answer


def load(model, *, dtype):
    def check(name, loaded):
        pass  # `first_picture` checks the answers of a loaded model

    builders = {
        OURS: lambda: lambda: api.load(model.path, "numpy", mmap=True),  # as transformers does
        TRANSFORMERS: lambda: lambda: transformers_model(model, dtype),
    }
    size = sum(path.stat().st_size for path in model.path.glob("*.safetensors"))
    memory = extra_memory("import miniclip", LOAD, model.path)
    return Measurement(builders, check, 1, "models/s", facts={"size": size, "memory": memory})


def first_picture(model, *, dtype):
    picture, images = model.scratch / "picture.npy", pictures(model, 1)
    np.save(picture, images)
    reference = _reference(model, images)

    def check(name, answer):
        session.compare(np.array(json.loads(answer.splitlines()[-1])), reference, dtype)

    programs = {OURS: FIRST_PICTURE, TRANSFORMERS: THEIR_FIRST_PICTURE}
    builders = {name: lambda code=code: lambda: python(code, model.path, picture) for name, code in programs.items()}
    return Measurement(builders, check, 1, "starts/s")


def classify(model, *, dtype):
    """The command `miniclip classify` with the built-in model; its peer only imports NumPy, the least that it takes."""

    def check(name, answer):
        if name == OURS and json.loads(answer)[0]["labels"][0]["label"] != "a red heart":
            raise WrongAnswer("it is wrong: the example is a red heart")

    picture = DIRECTORY / "example.png"
    builders = {OURS: lambda: lambda: python(CLASSIFY, picture), IMPORT: lambda: lambda: python("import numpy")}
    return Measurement(builders, check, 1, "starts/s")


IMPORT = "import numpy, alone"
CLASSIFY = """
import sys
from miniclip.cli import main
main(["classify", sys.argv[1], "--labels", "a red heart", "a red circle", "a blue heart", "a pink star", "--json"])
"""
LOAD = 'model = miniclip.load(sys.argv[1], backend="numpy", mmap=True)'
FIRST_PICTURE = """
import sys, miniclip, numpy
model, _ = miniclip.load(sys.argv[1], backend="numpy", mmap=True)
print(model.encode_image(numpy.load(sys.argv[2])).tolist())
"""
THEIR_FIRST_PICTURE = """
import sys, numpy, torch
from transformers import CLIPModel
model = CLIPModel.from_pretrained(sys.argv[1])
with torch.no_grad():
    features = model.get_image_features(pixel_values=torch.from_numpy(numpy.load(sys.argv[2])))
print(getattr(features, "pooler_output", features).tolist())
"""
