"""Runs CLIP for TensorFlow's names: a function of variables that keep Keras's names and layouts.

It needs TensorFlow, neither Keras nor transformers, and is imported when a model is made. A tf.GradientTape sees what
it computes, and tf.function compiles it. There, nobody knows the values yet: what an error would refuse gives NaN.
"""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from miniclip import params
from miniclip.families import flax_names, names, tensorflow_names
from miniclip.families.clip.huggingface import NAMES
from miniclip.hf import functional
from miniclip.hf.outputs import ModelOutput
from miniclip.ops import tensorflow_ops
from miniclip.ops.tensorflow_arrays import Array, Joined

# ----------------------------------------------------------------------------------------------------- parameters


def variables(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    """miniclip's parameters, ndarrays -> {Flax's name: tf.Variable}, whose names begin with `prefix`; Keras's order."""
    flat = functional.to_flax(tree)
    made = {}
    for name in sorted(flat, key=tensorflow_names.place):
        theirs = f"{prefix}/{tensorflow_names.from_flax(name)}".removesuffix(tensorflow_names.END)
        made[name] = tf.Variable(np.atleast_1d(flat[name]), name=theirs, dtype=tf.float32)
    return made


def to_ours(variables: dict[str, Any]) -> dict[str, Any]:
    """{Flax's name: tf.Variable} -> miniclip's tree of Arrays, which read the variables when they are computed with."""
    leaves = {name: _leaf(name, x) for name, x in variables.items()}
    renamed = {flax_names.torch_name(name): x for name, x in leaves.items()}
    return params.unflatten(names.rename(renamed, NAMES, lambda parts: Joined(*(x for p in parts for x in p.parts))))


def _leaf(name, variable):
    return Joined(variable) if name.endswith((".kernel", "_proj.bias")) else Array(variable)


# -------------------------------------------------------------------------------------------------------- running


def known(x: Any) -> bool:
    """Whether the values of an array are known: it is not a part of a function that TensorFlow is about to compile."""
    return not tf.is_symbolic_tensor(x)


tokens_and_mask = functools.partial(functional.tokens_and_mask, tensorflow_ops, known)
pixels = functools.partial(functional.pixels, tensorflow_ops)


class TFOutput(ModelOutput):
    """The output of a TensorFlow model, of tensors. Functions that TensorFlow compiles may return it."""

    def __getattr__(self, name):
        if name in ("loss", "hidden_states", "attentions") and name not in self:
            return None  # TensorFlow makes these outputs again of their keys
        return super().__getattr__(name)


def run(tree: Any, tokens: Any, mask: Any, images: Any, *, config: Any, look: Any) -> Any:
    """TFOutput, see `functional.run`, of miniclip's parameters."""
    options = {"config": config, "look": look, "seen": functools.partial(_seen, mask)}
    return functional.run(tensorflow_ops, tree, tokens, images, **options, convert=_tensor, kind=TFOutput)


def _tensor(x):
    return x.tensor


def _seen(mask, end):
    """(lengths (N,), a function that gives NaN for texts whose mask is not ones up to their `end` and then zeros)."""
    if mask is None:
        return None, _tensor
    ones = mask.tensor > 0
    lengths = tf.reduce_sum(tf.cast(ones, tf.int64), -1)
    ordered = tf.reduce_all(ones == (tf.range(tf.shape(ones, tf.int64)[1]) < lengths[:, None]), -1)
    return lengths, functools.partial(_valid, ordered & (end.tensor < lengths))


def _valid(valid, x):
    """x (B, ...), a tensor, with NaN in the rows that are not valid (B,)."""
    valid = tf.reshape(valid, (-1, *[1] * (len(x.shape) - 1)))
    return tf.where(valid, x.tensor, tf.constant(np.nan, x.tensor.dtype))


def loss(logits: Any) -> Any:
    """`loss.contrastive_loss` of logits (B, B) as an array of one, (1,); B need not be known."""
    both = (tf.linalg.diag_part(tf.nn.log_softmax(logits, axis)) for axis in (0, 1))
    return tf.reshape(-tf.add_n([tf.reduce_mean(x) for x in both]) / 2, (1,))


def seed() -> int:
    """A random number, the same after the same tf.random.set_seed."""
    return int(tf.random.uniform((), maxval=1 << 62, dtype=tf.int64))
