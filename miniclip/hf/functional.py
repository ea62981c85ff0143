"""Runs CLIP for Flax's and TensorFlow's names: a function of parameters and inputs, which their users compile.

In code that a backend is about to compile, nobody knows the values yet: what an error would refuse gives NaN.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from miniclip import inputs, params
from miniclip.errors import InputError
from miniclip.families import flax_names, names
from miniclip.families.clip.huggingface import NAMES
from miniclip.hf.outputs import ModelOutput, for_backend
from miniclip.hf.running import check_ends, lengths_of, run_tower
from miniclip.ops import numpy_ops
from miniclip.towers import text, vit

FIELDS = ("last_hidden_state", "pooler_output", "hidden_states", "attentions")  # of the output of a tower
WHOLE = (  # of the output of both
    *("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"),
    *("text_model_output", "vision_model_output"),
)


def to_flax(tree: Any) -> dict[str, Any]:
    """miniclip's parameter tree -> {Flax's name: array}; names on the path are joined with dots."""
    return flax_names.to_flax(names.restore(params.flatten(tree), NAMES))


def shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """{Flax's name: shape} of a CLIPConfig of miniclip."""
    tree = params.tree_map(functools.partial(np.broadcast_to, np.float32(0)), config.shapes())
    return {name: x.shape for name, x in to_flax(tree).items()}


def tokens_and_mask(
    ops: ModuleType, known: Callable[[Any], bool], input_ids: Any, attention_mask: Any, config: Any
) -> tuple[Any, Any]:
    """Ids (B, T) and their mask (B, T) or None, as arrays of the backend.

    known  whether the values of an array are known

    Raises InputError for the same inputs as the models for torch.
    """
    tokens, mask = for_backend(input_ids, ops), for_backend(attention_mask, ops)
    if known(tokens):
        tokens = inputs.tokens(ops, tokens, config)
    shape = tuple(tokens.shape)  # TensorFlow has None for a size that is not known
    if len(shape) != 2 or not (shape[1] is None or 1 <= shape[1] <= config.context_length):
        raise InputError(f"input_ids are {shape}, expected (B, T) with 1 <= T <= {config.context_length}")
    if mask is not None and not _may_be_equal(tuple(np.shape(mask)), shape):
        raise InputError(f"attention_mask is {np.shape(mask)}, for tokens {shape}: it must have the same shape")
    if mask is not None and known(mask) and known(tokens):
        check_ends(tokens, lengths_of(np.asarray(for_backend(mask, numpy_ops)), tokens), config)
    return ops.asarray(tokens, dtype="int32"), None if mask is None else ops.asarray(mask)


def _may_be_equal(one, other):
    return len(one) == len(other) and all(a == b or None in (a, b) for a, b in zip(one, other))


def pixels(ops: ModuleType, pixel_values: Any, config: Any) -> Any:
    """Pictures (B, C, height, width), as float32 of the backend. Raises InputError for others."""
    return inputs.pictures(ops, for_backend(pixel_values, ops), config, device=None, dtype="float32")


def run(
    ops: ModuleType,
    tree: dict[str, Any],
    tokens: Any,
    images: Any,
    *,
    config: Any,
    look: tuple[bool, bool] | None,
    seen: Callable[[Any], tuple[Any, Callable[[Any], Any]]],
    convert: Callable[[Any], Any] = lambda x: x,
    kind: type[ModelOutput] = ModelOutput,
) -> Any:
    """An object of `kind` with those of the names in `WHOLE` that the inputs allow.

    tree     miniclip's parameters in the type of the computation; the scale is float32
    look     (output_hidden_states, output_attentions); None: only the pooled output is computed
    seen     a function of the places where texts end, (N,), that returns: how many tokens of each text the mask shows,
             (N,), or None; and a function that converts arrays of texts, with NaN where a mask is refused elsewhere
    convert  converts the arrays of pictures
    """
    towers = {name: dict(branch) for name, branch in tree.items() if name != "logit_scale"}
    projections = {name: branch.pop("projection", None) for name, branch in towers.items()}
    found: dict[str, Any] = {}
    if tokens is not None:
        end = text.end_of_text(tokens, config.text.eot_token_id)
        lengths, valid = seen(end)
        encode = functools.partial(text.encode_text, ops, tokens, end, **towers["text"])
        encode = functools.partial(encode, config=config.text, lengths=lengths)
        found["text_model_output"] = output = _output(encode, text, look, valid, kind)
        if projections["text"]:
            found["text_embeds"] = ops.linear(output.pooler_output, **projections["text"])  # (N, E)
    if images is not None:
        encode = functools.partial(vit.encode_image, ops, images, **towers["visual"], config=config.visual)
        found["vision_model_output"] = output = _output(encode, vit, look, convert, kind)
        if projections["visual"]:
            found["image_embeds"] = ops.linear(output.pooler_output, **projections["visual"])  # (B, E)
    if tokens is not None and images is not None:
        image, texts = (ops.asarray(found[name], dtype="float32") for name in ("image_embeds", "text_embeds"))
        logits = ops.similarity(image, texts, tree["logit_scale"])  # (B, N)
        found |= {"logits_per_image": convert(logits), "logits_per_text": convert(logits.T)}
        found |= {name: ops.l2_normalize(found[name]) for name in ("image_embeds", "text_embeds")}
    found |= {name: convert(found[name]) for name in ("image_embeds", "text_embeds") if name in found}
    return kind(found)


def _output(encode, tower, look, convert, kind):
    if look is None:
        return kind(pooler_output=convert(encode()))
    _, output = run_tower(encode, tower, convert, *look)
    return kind({name: getattr(output, name) for name in FIELDS})
