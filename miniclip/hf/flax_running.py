"""Runs CLIP for Flax's names: JAX, compiled once for each shape, a pure function of the parameters and the inputs.

It needs JAX, not Flax, and is imported when a model is made. All of it may be called in jax.jit, jax.grad, jax.vmap and
jax.pmap. There, nobody knows the values yet: what an error would refuse gives NaN.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from miniclip import params
from miniclip.families import flax_names, names
from miniclip.families.clip.huggingface import NAMES
from miniclip.hf import functional
from miniclip.hf.functional import shapes
from miniclip.hf.outputs import ModelOutput
from miniclip.ops import jax_ops

# ----------------------------------------------------------------------------------------------------- parameters


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
    return nested(functional.to_flax(tree))


@functools.partial(jax.jit, static_argnames=("config",))
def to_ours(tree: Any, config: Any) -> dict[str, Any]:
    """Flax's parameters -> miniclip's tree."""
    flat = flax_names.to_torch(checked(tree, config))
    return params.unflatten(names.rename(flat, NAMES, jnp.concatenate))


def known(x: Any) -> bool:
    """Whether the values of an array are known: it is not a part of a function that JAX is about to compile."""
    return not isinstance(x, jax.core.Tracer)


tokens_and_mask = functools.partial(functional.tokens_and_mask, jax_ops, known)
pixels = functools.partial(functional.pixels, jax_ops)


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
    """FlaxOutput, see `functional.run`.

    weights  miniclip's parameter tree, or Flax's parameters if `is_flax`
    dtype    of the computation
    look     (output_hidden_states, output_attentions); None: only the pooled output is computed
    """
    tree = to_ours(weights, config) if is_flax else weights
    cast = functools.partial(jax_ops.asarray, dtype=dtype.name)
    tree = {name: branch if name == "logit_scale" else params.tree_map(cast, branch) for name, branch in tree.items()}
    images = None if images is None else cast(images)
    options = {"config": config, "look": look, "seen": functools.partial(_seen, mask), "kind": FlaxOutput}
    return functional.run(jax_ops, tree, tokens, images, **options)


def _seen(mask, end):
    """(lengths (N,), a function that gives NaN for texts whose mask is not ones up to their `end` and then zeros)."""
    if mask is None:
        return None, lambda x: x
    lengths = (mask > 0).sum(-1)
    ordered = ((mask > 0) == (jnp.arange(mask.shape[-1]) < lengths[:, None])).all(-1)
    return lengths, functools.partial(_valid, ordered & (end < lengths))


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
