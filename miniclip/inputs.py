"""What a model accepts: pictures, tokens and features as its backend's arrays, or an InputError that names the fault.

`model` calls these functions before it computes; they change no value.
"""

from types import ModuleType
from typing import Any

import numpy as np

from miniclip.config import pair
from miniclip.errors import InputError
from miniclip.ops import Array, numpy_ops

LARGEST_PIXEL = (
    1e6  # preprocessing makes -3 to 3; near 1e19 squares overflow in layer norm, on each backend differently
)


def pictures(ops: ModuleType, images: Any, config: Any, *, device: Any, dtype: str | None) -> Array:
    """Pictures for the image tower with this configuration, (B, C, height, width) of `dtype` on `device`.

    Raises InputError for another shape, for integers, and for pixels that are infinite, not numbers, or beyond
    LARGEST_PIXEL. On a GPU and in traced code nobody knows the pixels yet: there, such pictures give no error, but
    features that are not numbers or mean nothing.
    """
    C, (height, width) = config.channels, pair(config.image_size)
    images = _array(ops, images, "images", device)
    _check_floats(images)
    shape = tuple(images.shape)
    if shape[1:] != (C, height, width):
        raise InputError(f"images are {shape}, expected (B, C, height, width) = (B, {C}, {height}, {width})")
    _check_peak(ops, images)
    return ops.asarray(images, dtype=dtype)  # only now: it would make floats of integers


def patches(ops: ModuleType, images: Any, config: Any, *, device: Any, dtype: str | None) -> tuple[Array, np.ndarray]:
    """Pictures of any shape: (their patches (B, N, P·P·C) of `dtype` on `device`, their grids (B, 2) in NumPy).

    Raises InputError for what is no such pair, for another shape, for grids of more than N patches, and for pixels as
    `pictures` does.
    """
    if not (isinstance(images, tuple) and len(images) == 2):
        raise InputError(f"images are {type(images).__name__}, expected the Patches that this model's preprocess makes")
    x, grids = _array(ops, images[0], "images", device), _in_numpy(ops, images[1], "grids")
    _check_floats(x)
    size = config.patch_size**2 * config.channels
    if len(x.shape) != 3 or x.shape[2] != size:
        raise InputError(f"patches are {tuple(x.shape)}, expected (B, N, {size}): pass preprocess a list of pictures")
    B, N, _ = x.shape
    if grids.shape != (B, 2) or grids.dtype.kind not in "iu":
        raise InputError(f"grids are {grids.shape} of {grids.dtype}, expected integers (B, 2) = ({B}, 2)")
    if B and not (grids.min() >= 1 and grids.prod(axis=1).max() <= N):
        raise InputError(f"grids are {grids.tolist()}, expected from 1 to {N} patches for each picture")
    _check_peak(ops, x)
    return ops.asarray(x, dtype=dtype), grids


def tokens(ops: ModuleType, tokens: Any, config: Any) -> np.ndarray:
    """Tokens for the text tower with this configuration, (B, T) integers in NumPy.

    In NumPy because asking a GPU for a number means waiting for it. Raises InputError if T is not from 1 to the context
    length, and for ids outside the vocabulary.
    """
    x = _in_numpy(ops, tokens, "tokens")
    if x.dtype.kind not in "iu":
        raise InputError(f"tokens are of {x.dtype}, expected integers: texts must go through tokenize first")
    if x.ndim != 2 or not 1 <= x.shape[1] <= config.context_length:
        raise InputError(
            f"tokens are {x.shape}, expected (B, T) with 1 <= T <= {config.context_length}: "
            f"tokenize texts to the model's own context length, and cut longer ones"
        )
    if len(x) and not 0 <= x.min() <= x.max() < config.vocab_size:
        raise InputError(
            f"token ids run from {x.min()} to {x.max()}, but the vocabulary has ids 0 to {config.vocab_size - 1}: "
            f"was another tokenizer used? use the model's own tokenize"
        )
    return x


def lengths(ops: ModuleType, lengths: Any, tokens: np.ndarray) -> np.ndarray:
    """How many tokens of each text count, (B,): InputError unless there is a number from 1 to T for each of B texts."""
    x = _in_numpy(ops, lengths, "lengths")
    B, T = tokens.shape[:2]
    if x.shape != (B,) or (B and not 1 <= x.min() <= x.max() <= T):
        raise InputError(f"lengths are {x.tolist()}, expected a number from 1 to {T} for each of {B} rows")
    return x


def token_types(ops: ModuleType, types: Any, tokens: np.ndarray, config: Any) -> np.ndarray:
    """The type of each token, (B, T) integers: InputError for another shape, and for types that BERT does not have."""
    x = _in_numpy(ops, types, "token_types")
    if x.dtype.kind not in "iu" or x.shape != tokens.shape:
        raise InputError(f"token_types are {x.shape} of {x.dtype}, expected integers (B, T) = {tokens.shape}")
    if x.size and not 0 <= x.min() <= x.max() < config.token_types:
        raise InputError(f"token_types run from {x.min()} to {x.max()}, expected 0 to {config.token_types - 1}")
    return x


def features(ops: ModuleType, features: Any, embed_dim: int | None, *, device: Any, dtype: str | None) -> Array:
    """Features of `embed_dim` E, (n, E) of `dtype` on `device`: InputError for another shape."""
    x = _array(ops, features, "features", device)
    if len(x.shape) != 2 or x.shape[1] != (embed_dim or x.shape[1]):
        raise InputError(f"features are {tuple(x.shape)}, expected (n, {embed_dim}): are they another model's?")
    return ops.asarray(x, dtype=dtype)


def _check_floats(images):
    if not str(images.dtype).removeprefix("torch.").startswith(("float", "bfloat")):
        raise InputError(f"images are of {images.dtype}, expected floats: pixels must go through preprocess first")


def _check_peak(ops, images):
    peak = ops.peak(images)
    if not peak <= LARGEST_PIXEL:
        raise InputError(f"images have a pixel of {peak}, expected numbers near 0: pictures must go through preprocess")


def _in_numpy(ops, x, name):
    return _array(numpy_ops, ops.to_numpy(x) if hasattr(x, "cpu") else x, name)  # torch's arrays have `cpu`


def _array(ops, x, name, device=None):
    try:
        return ops.asarray(x, device=device)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises all three
        raise InputError(f"{name} cannot be read as one array: {str(error).splitlines()[0]}") from error
