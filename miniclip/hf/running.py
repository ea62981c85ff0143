"""Runs a tower and looks inside: transformers' outputs from the stages it shows; masks; other sizes of pictures."""

import dataclasses
import re
from typing import NamedTuple

import numpy as np

from miniclip import families
from miniclip.errors import InputError
from miniclip.hf.modules import rebuilt
from miniclip.hf.outputs import ModelOutput
from miniclip.towers import bert, efficientnet, naflex, siglip_image, siglip_text, text, vit


class Stages(NamedTuple):
    """The stages of a tower (names as its `trace` sees them) that are transformers' outputs."""

    first: str  # the first hidden state
    block: str  # the other hidden states, a pattern
    last: str | None  # `last_hidden_state`; None, or a tower without it: the last of the hidden states
    pooled: str  # `pooler_output`


STAGES = {
    vit: Stages("ln_pre", r"blocks\.\d+\.mlp", None, "features"),
    text: Stages("embeddings", r"blocks\.\d+\.mlp", "ln_final", "features"),
    efficientnet: Stages("stem", r"blocks\.\d+", None, "features"),
    siglip_image: Stages("embeddings", r"blocks\.\d+\.mlp", "ln_post", "features"),
    naflex: Stages("embeddings", r"blocks\.\d+\.mlp", "ln_post", "features"),
    siglip_text: Stages("embeddings", r"blocks\.\d+\.mlp", "ln_final", "features"),
    bert: Stages("embeddings", r"blocks\.\d+\.mlp", "tokens", "pooler"),
}


def with_image_size(model, size):
    """The image tower for pictures of another size. Positions are interpolated by one product, which has a gradient."""
    alone, visual, backend = dataclasses.replace(model.config, text=None), model.params["visual"], model.ops
    if "patch_embed" not in visual:
        config, _ = families.with_image_size(alone, {}, size)
        return rebuilt(model, config, {"visual": visual})
    old = visual["patch_embed"]["position_embedding"]  # (T, D)
    each = {"visual": {"patch_embed": {"position_embedding": np.eye(len(old))}}}
    config, each = families.with_image_size(alone, each, size)
    matrix = backend.asarray(each["visual"]["patch_embed"]["position_embedding"], device=model.device, dtype="float32")
    new = matrix @ backend.asarray(old, dtype="float32")  # (T', T) @ (T, D)
    patch_embed = {**visual["patch_embed"], "position_embedding": new}
    return rebuilt(model, config, {"visual": {**visual, "patch_embed": patch_embed}})


def run_tower(encode, tower, convert, output_hidden_states=None, output_attentions=None, pooled=None):
    """(features, transformers' output of the tower): features are the backend's arrays, the output's are converted.

    encode is a function that takes a trace, tower the module that it comes from, convert a function of one array,
    pooled the stage that is `pooler_output`; None: as in `STAGES`.
    """
    names, stages = STAGES[tower], {}

    def trace(name, value):
        stages[name] = value

    trace.attentions = bool(output_attentions)  # type: ignore[attr-defined]
    features = encode(trace=trace)
    blocks = [x for name, x in stages.items() if re.fullmatch(names.block, name)]
    weights = [x for name, x in stages.items() if re.fullmatch(r"blocks\..*attention_weights", name)]
    own = stages.get(names.pooled)
    output = ModelOutput(
        last_hidden_state=convert(stages.get(names.last, blocks[-1])),
        pooler_output=None if own is None else convert(own),
        hidden_states=tuple(map(convert, [stages[names.first], *blocks])) if output_hidden_states else None,
        attentions=tuple(map(convert, weights)) if weights else None,
    )
    if pooled:  # set afterwards, as in transformers: it is the last value if there was none
        output.pooler_output = convert(stages[pooled])
    return features, output


def lengths_of(mask, tokens, name="attention_mask", what="tokens"):
    """A mask (B, T), ones then zeros in each row -> the number of ones in each row, (B,)."""
    lengths = (mask != 0).sum(-1)
    if mask.shape != tokens.shape or not ((mask != 0) == (np.arange(mask.shape[-1]) < lengths[..., None])).all():
        raise InputError(
            f"{name} is {mask.shape}, for {what} {tokens.shape}: it must have the same shape, and in each row "
            f"ones and then zeros, because {'texts' if what == 'tokens' else 'pictures'} are padded on the right"
        )
    return lengths


def check_ends(tokens, lengths, config):
    """Raise InputError if a mask with so many ones, lengths (B,), hides the end of a text; tokens (B, T)."""
    if (text.end_of_text(tokens, config.eot_token_id) >= lengths).any():
        raise InputError("attention_mask hides the end of a text: it must be 1 up to the end-of-text token")
