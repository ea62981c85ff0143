"""Runs CLIP for Flax's names: JAX, compiled once for each shape, a pure function of the parameters and the inputs.

It needs JAX, not Flax, and is imported when a model is made. All of it may be called in jax.jit, jax.grad, jax.vmap and
jax.pmap. There, nobody knows the values yet: what an error would refuse gives NaN.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from miniclip import inputs, params
from miniclip.errors import InputError
from miniclip.families import flax_names, names
from miniclip.families.clip.huggingface import NAMES
from miniclip.hf.outputs import ModelOutput, for_backend
from miniclip.hf.running import check_ends, lengths_of, run_tower
from miniclip.ops import jax_ops, numpy_ops
from miniclip.towers import text, vit

# ----------------------------------------------------------------------------------------------------- parameters


def shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """{Flax's name: shape} of a CLIPConfig of miniclip; names on the path are joined with dots."""
    flat = {name: np.broadcast_to(np.float32(0), shape) for name, shape in params.flatten(config.shapes()).items()}
    return {name: x.shape for name, x in flax_names.to_flax(names.restore(flat, NAMES)).items()}


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flax's nested parameters, a dict or a FrozenDict -> {name: array}."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    return {
        name: x for key in tree for name, x in flatten(tree[key], f"{prefix}.{key}" if prefix else str(key)).items()
    }


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, x in flat.items():
        *path, last = name.split(".")
        functools.reduce(lambda branch, key: branch.setdefault(key, {}), path, tree)[last] = x
    return tree


def checked(tree: Any, config: Any) -> dict[str, Any]:
    """The parameters that the model has, {name: array}; InputError if one is missing or has another shape."""
    flat, expected = flatten(tree), shapes(config)
    known = {name: flat[name] for name in expected if name in flat}  # others are ignored, as by Flax
    params.check(known, expected, "params")
    return known


def from_ours(tree: Any) -> dict[str, Any]:
    """miniclip's parameter tree -> Flax's."""
    return nested(flax_names.to_flax(names.restore(params.flatten(tree), NAMES)))


@functools.partial(jax.jit, static_argnames=("config",))
def to_ours(tree: Any, config: Any) -> dict[str, Any]:
    """Flax's parameters -> miniclip's tree."""
    flat = flax_names.to_torch(checked(tree, config))
    return params.unflatten(names.rename(flat, NAMES, jnp.concatenate))


def known(x: Any) -> bool:
    """Whether the values of an array are known: it is not a part of a function that JAX is about to compile."""
    return not isinstance(x, jax.core.Tracer)


# --------------------------------------------------------------------------------------------------------- inputs


def tokens_and_mask(input_ids: Any, attention_mask: Any, config: Any) -> tuple[Any, Any]:
    """Ids (B, T) and their mask (B, T) or None, as jax.Arrays. Raises InputError as the models for torch."""
    tokens, mask = for_backend(input_ids, jax_ops), for_backend(attention_mask, jax_ops)
    if known(tokens):
        tokens = inputs.tokens(jax_ops, tokens, config)
    elif tokens.ndim != 2 or not 1 <= tokens.shape[1] <= config.context_length:
        raise InputError(f"input_ids are {tokens.shape}, expected (B, T) with 1 <= T <= {config.context_length}")
    if mask is not None and np.shape(mask) != tokens.shape:
        raise InputError(f"attention_mask is {np.shape(mask)}, for tokens {tokens.shape}: it must have the same shape")
    if mask is not None and known(mask) and known(tokens):
        check_ends(tokens, lengths_of(np.asarray(for_backend(mask, numpy_ops)), tokens), config)
    return jnp.asarray(tokens, jnp.int32), None if mask is None else jnp.asarray(mask)


def pixels(pixel_values: Any, config: Any) -> Any:
    """Pictures (B, C, height, width), as a jax.Array of float32. Raises InputError for others."""
    return inputs.pictures(jax_ops, for_backend(pixel_values, jax_ops), config, device=None, dtype="float32")


# -------------------------------------------------------------------------------------------------------- outputs


@jax.tree_util.register_pytree_with_keys_class
class FlaxOutput(ModelOutput):
    """The output of a Flax model, which functions that JAX compiles may return."""

    def tree_flatten_with_keys(self):
        keys = [jax.tree_util.DictKey(name) for name in self]
        return list(zip(keys, self.values())), (tuple(self), self.__dict__["_absent"])

    @classmethod
    def tree_unflatten(cls, names_and_absent, values):
        keys, absent = names_and_absent
        output = cls()
        dict.update(output, zip(keys, values))  # without a look at the values: JAX uses others in between
        output.__dict__["_absent"] = absent
        return output


@functools.partial(jax.jit, static_argnames=("config", "dtype", "look", "is_flax"))
def run(weights: Any, tokens: Any, mask: Any, images: Any, *, config: Any, dtype: Any, look: Any, is_flax: bool) -> Any:
    """FlaxOutput with the outputs of the towers that have inputs, "text" and "vision", their embeds, and logits.

    weights  miniclip's parameter tree, or Flax's parameters if `is_flax`
    dtype    of the computation
    look     (output_hidden_states, output_attentions); None: only the pooled output is computed
    """
    tree = to_ours(weights, config) if is_flax else weights
    scale = tree.get("logit_scale")  # it stays float32
    towers = {name: branch for name, branch in tree.items() if name != "logit_scale"}
    towers = jax.tree.map(lambda x: x.astype(dtype), towers)
    projections = {name: branch.pop("projection", None) for name, branch in towers.items()}
    found: dict[str, Any] = {}
    if tokens is not None:
        found["text"] = _texts(tokens, mask, towers["text"], config.text, look)
        if projections["text"]:
            found["text_embeds"] = jax_ops.linear(found["text"].pooler_output, **projections["text"])  # (N, E)
    if images is not None:
        encode = functools.partial(vit.encode_image, jax_ops, images.astype(dtype), **towers["visual"])
        found["vision"] = _output(functools.partial(encode, config=config.visual), vit, look)
        if projections["visual"]:
            found["image_embeds"] = jax_ops.linear(found["vision"].pooler_output, **projections["visual"])  # (B, E)
    if tokens is not None and images is not None:
        image, texts = (found[name].astype(jnp.float32) for name in ("image_embeds", "text_embeds"))
        found["logits"] = jax_ops.similarity(image, texts, scale)  # (B, N)
        found |= {name: jax_ops.l2_normalize(found[name]) for name in ("image_embeds", "text_embeds")}
    return FlaxOutput(found)


def _texts(tokens, mask, branch, config, look):
    end = text.end_of_text(tokens, config.eot_token_id)
    lengths: Any = None if mask is None else (mask > 0).sum(-1)
    encode = functools.partial(text.encode_text, jax_ops, tokens, end, **branch, config=config, lengths=lengths)
    output = _output(encode, text, look)
    if mask is None:
        return output
    ordered = ((mask > 0) == (jnp.arange(mask.shape[-1]) < lengths[:, None])).all(-1)  # ones, then zeros
    return jax.tree.map(functools.partial(_valid, ordered & (end < lengths)), output)


def _output(encode, tower, look):
    if look is None:
        return FlaxOutput(pooler_output=encode())
    hidden_states, attentions = look
    _, output = run_tower(encode, tower, lambda x: x, hidden_states, attentions)
    return FlaxOutput({name: getattr(output, name) for name in FIELDS})


FIELDS = ("last_hidden_state", "pooler_output", "hidden_states", "attentions")


def _valid(valid, x):
    """x (B, ...) with NaN in the rows that are not valid (B,)."""
    return jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.nan)


# ------------------------------------------------------------------------------------------------- random weights


def random(rng: Any, config: Any, scale: float) -> dict[str, Any]:
    """Flax's parameters, drawn from the distributions of transformers' Flax models (modeling_flax_clip.py)."""
    both = bool(config.visual and config.text)
    flat = {
        name: _drawn(jax.random.fold_in(rng, i), name, shape, scale, both)
        for i, (name, shape) in enumerate(shapes(config).items())
    }
    return nested(flat)


def _drawn(key, name, shape, scale, both):
    if name == "logit_scale":
        return jnp.full(shape, scale, jnp.float32)
    if name.endswith((".bias", ".scale")):
        return jnp.full(shape, float(name.endswith(".scale")), jnp.float32)
    if name.endswith("_projection.kernel") and not both:
        return jax.nn.initializers.lecun_normal()(key, shape, jnp.float32)
    wider = name.endswith(("class_embedding", "_projection.kernel"))
    return (0.02 if wider else 0.01) * jax.random.normal(key, shape, jnp.float32)
