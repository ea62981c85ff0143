"""A model as ONNX graphs: each tower by itself, and both with their logits; each is recorded by calling the towers.

Inputs and outputs have transformers' names (modeling_clip.py, CLIPModel.forward). Outputs are float32 in any dtype.
"""

import functools

import numpy as np

from miniclip import families
from miniclip.config import pair
from miniclip.ops import numpy_ops, onnx_int8, onnx_ops
from miniclip.ops.graph import Graph

# sizes that are known when a graph runs
IMAGES, TEXTS, TOKENS = "image_batch_size", "text_batch_size", "sequence_length"


def vision_model(config, tree, dtype):
    """pixel_values (B, C, height, width) -> image_embeds (B, E), not normalised: (the graph, its outputs by name)."""
    graph = Graph(dtype)
    return graph, {"image_embeds": _image_embeds(graph, config.visual, tree, _pixel_values(graph, config.visual))}


def text_model(config, tree, dtype):
    """input_ids (N, T), attention_mask (N, T) -> text_embeds (N, E), not normalised: (the graph, its outputs).

    Without attention_mask if all tokens count, also padding.
    """
    graph = Graph(dtype)
    tokens, mask = _ids(graph, "input_ids"), _mask(graph, config.text)
    return graph, {"text_embeds": _text_embeds(graph, config.text, tree, tokens, mask)}


def model(config, tree, dtype):
    """input_ids, pixel_values, attention_mask -> logits_per_image (B, N) and _per_text (N, B), and both features.

    As in transformers the features are normalised here.
    """
    graph = Graph(dtype)
    tokens, pixels, mask = _ids(graph, "input_ids"), _pixel_values(graph, config.visual), _mask(graph, config.text)
    images = onnx_ops.l2_normalize(_image_embeds(graph, config.visual, tree, pixels))  # (B, E)
    texts = onnx_ops.l2_normalize(_text_embeds(graph, config.text, tree, tokens, mask))  # (N, E)
    logits = (images @ texts.transpose(1, 0)) * graph.constant(_scale(config, tree), "scale")  # (B, N)
    if "logit_bias" in tree:
        logits = logits + graph.constant(np.float32(tree["logit_bias"]), "bias")
    outputs = {"logits_per_image": logits, "logits_per_text": logits.transpose(1, 0)}
    return graph, {**outputs, "text_embeds": texts, "image_embeds": images}


# {name of a file: (what records it, the towers that a model needs for it)}
FILES = {
    "vision_model": (vision_model, ("visual",)),
    "text_model": (text_model, ("text",)),
    "model": (model, ("visual", "text")),
}


def _scale(config, tree):
    """What the cosines are multiplied by, a float32."""
    family = families.of(config)
    scalars = {name: tree[name] for name in config.scalars}
    return np.exp(np.float32(family.model(config, scalars, numpy_ops).logit_scale))


def _pixel_values(graph, visual):
    return graph.input("pixel_values", "float32", IMAGES, visual.channels, *pair(visual.image_size))


def _ids(graph, name):
    return graph.input(name, "int64", TEXTS, TOKENS)


def _mask(graph, text):
    """The input that says which tokens are padding; None for a tower whose tokens all count."""
    return None if getattr(text, "padding_counts", False) else _ids(graph, "attention_mask")


def _image_embeds(graph, visual, tree, pixels):
    encode = functools.partial(visual.tower.encode_image, onnx_ops, config=visual)
    images = pixels if graph.dtype == "int8" else pixels.astype(graph.dtype)
    return _features(graph, encode, tree, "visual", images, shape=pixels.shape[1:])  # (B, E)


def _text_embeds(graph, text, tree, tokens, mask):
    if mask is None:
        end = -1  # the last token of each row
    else:
        tokens, end = _ended(text, tokens, mask)  # (N, T), (N,)
        last = end.node("ReduceMax", [0], shape=(1,)).node("Max", np.int64(0))
        tokens = tokens.first(last + 1, axis=1)  # nothing after the last end is needed
    encode = functools.partial(text.tower.encode_text, onnx_ops, config=text)
    return _features(graph, encode, tree, "text", tokens, end, **_positions(text, tokens))  # (N, E)


def _positions(text, tokens):
    """{"positions": (N, T)} if padding is not counted (see `families.bert_model.positions`), else {}."""
    if not getattr(text, "first_position", 0):
        return {}
    counts = (tokens == text.pad_token_id).node("Not").astype("int64")  # (N, T)
    return {"positions": counts.node("CumSum", np.int64(1)) * counts + (text.first_position - 1)}


def _features(graph, encode, tree, name, *inputs, shape=None, **options):
    parameters = tree[name]
    if graph.dtype == "int8":
        parameters = onnx_int8.calibrated(encode, parameters, shape)
    return encode(*inputs, **graph.parameters(parameters, f"{name}."), **options).astype("float32")


def _ended(text, tokens, mask):
    """The tokens (N, T), and where each text ends, (N,): its ids say it, or for a tower without such a rule the mask.

    With a rule the mask changes nothing in a text that has an end: what it hides becomes 0, and can be no end.
    """
    if hasattr(text.tower, "end_of_text"):
        tokens = tokens * mask  # from memory, OpenVINO reads no input that nothing depends on
        return tokens, text.tower.end_of_text(tokens, text.eot_token_id)
    return tokens, mask.node("ReduceSum", [1], shape=(TEXTS,), keepdims=0) - 1
