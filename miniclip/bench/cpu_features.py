"""Cases of `bench cpu`: pictures and texts to features, on each backend, beside the peers of cpu_peers.py."""

from dataclasses import replace

import numpy as np

from miniclip import api
from miniclip.bench import captions, cpu_peers, session
from miniclip.bench.measurement import (
    COMPILED,
    ON_ONNX_RUNTIME,
    ON_OPENVINO,
    ON_TORCH,
    OURS,
    TRANSFORMERS,
    Measurement,
    array,
    save_random,
)
from miniclip.bench.records import is_ours
from miniclip.bench.work import work, work_of_texts
from miniclip.config import pair
from miniclip.families.align.config import ALIGN_BASE
from miniclip.families.siglip.config import SIGLIP_BASE
from miniclip.fetch import vocabulary

BACKENDS: dict[str, tuple[str, dict]] = {  # of miniclip, and the options of `load`
    OURS: ("numpy", {}),
    ON_TORCH: ("torch", {}),
    COMPILED: ("torch", {"compile": True}),
    ON_ONNX_RUNTIME: ("onnxruntime", {}),
    ON_OPENVINO: ("openvino", {}),
}
OF_DTYPE = {
    "float32": tuple(BACKENDS),
    "bfloat16": (ON_TORCH, COMPILED, ON_OPENVINO),
    "int8": (ON_ONNX_RUNTIME, ON_OPENVINO),
}
OTHERS = {"ALIGN-base": ALIGN_BASE, "SigLIP-base": SIGLIP_BASE}
LEAST_OF_INT8 = 0.99  # the least cosine of a peer's features in int8; ours have to be closer (session.LEAST_COSINE)


def load_on(name, model, dtype="float32", **options):
    """The model on the backend that the provider `name` means."""
    backend, others = BACKENDS[name]
    return api.load(model.path, backend, dtype=dtype, **others, **options)[0]


def close_to(reference, dtype):
    """A check of features; it returns the least cosine with those of the reference."""

    def check(name, features):
        least = LEAST_OF_INT8 if dtype == "int8" and not is_ours(name) else None
        return 1 - session.compare(array(features), reference, dtype, least)

    return check


# ------------------------------------------------------------------------------------ pictures to features


def encode_image(model, *, B, dtype, without=()):
    """The features of B pictures; `without`: providers that are left out."""
    images = pictures(model, B)
    builders = {name: lambda name=name: _pictures_on(name, model, dtype, images) for name in OF_DTYPE[dtype]}
    builders |= cpu_peers.of_pictures(model, dtype, images)
    builders = {name: build for name, build in builders.items() if name not in without}
    flops, _ = work(replace(model.config, text=None), "visual", B)
    return Measurement(builders, close_to(reference_of(model, images), dtype), B, "pictures/s", flops)


def encode_image_of(name, model, *, B, dtype):
    """The same with another model; without torch's compiler, which needs minutes for ALIGN's many layers."""
    folder = model.scratch / name
    if not folder.exists():
        save_random(OTHERS[name], folder)
    other = model._replace(config=OTHERS[name], path=folder / "model", scratch=folder)
    return encode_image(other, B=B, dtype=dtype, without=(COMPILED, cpu_peers.COMPILED))


def pictures(model, B):
    return np.random.default_rng(0).standard_normal((B, 3, *pair(model.config.visual.image_size)), np.float32)


def reference_of(model, images):
    """transformers' features in float32; ours if it is not installed."""
    try:
        return array(cpu_peers.transformers_vision(model, "float32", images)())
    except ImportError:
        return api.load(model.path, "numpy")[0].encode_image(images)


def _pictures_on(name, model, dtype, images):
    encoder = load_on(name, model, dtype)
    if BACKENDS[name][0] == "torch":  # the others take arrays in float32
        images = encoder.ops.asarray(images, dtype=dtype)
    return lambda: encoder.encode_image(images)


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
    # texts of many lengths would be compiled many times
    builders = {name: lambda name=name: _texts_on(name, model, tokens) for name in OF_DTYPE[dtype] if name != COMPILED}
    several = f", padded to the longest of {cpu_peers.BATCH}" if texts > 1 else ""
    to = {f"{TRANSFORMERS}{several}": None, f"{TRANSFORMERS}, padded to 77": 77} if T is None else {TRANSFORMERS: None}
    builders |= {name: lambda to=to: cpu_peers.transformers_text(model, tokens, to) for name, to in to.items()}
    builders |= cpu_peers.of_texts(model, tokens)
    try:
        reference = array(cpu_peers.transformers_text(model, tokens)())
    except ImportError:
        reference = api.load(model.path, "numpy")[0].encode_text(tokens)
    return Measurement(builders, close_to(reference, dtype), texts, "texts/s", work_of_texts(config, lengths))


def _texts_on(name, model, tokens):
    encoder = load_on(name, model)
    return lambda: encoder.encode_text(tokens)
