"""Whole models with kernels that no tower calls by itself: faster ways, for callers who know that they fit.

encode_text   many texts of different lengths, without padding (`packed`)
"""

import numpy as np

from miniclip import inputs
from miniclip.errors import InputError
from miniclip.kernels import packed, top_k
from miniclip.model import CLIP
from miniclip.towers import text


def encode_text(model, tokens, normalize=False):
    """`model.encode_text(tokens, normalize)`, computed without padding: tokens (B, T) int -> (B, E).

    It pays for hundreds of texts of different lengths: `model.encode_text` pads all to the longest, rounded up to 16,
    and computes 2.4 times as many tokens for 256 captions of 13. But it records up to 64 texts as a CUDA graph. Here
    nothing is recorded, since each batch has another number of tokens. That number must be known before anything is
    launched: pass tokens in NumPy, as `model.tokenize` makes them, not on a GPU, which it would have to wait for.
    Raises InputError as `model.encode_text` does, and unless the model is CLIP on the triton backend.
    """
    if model.backend != "triton" or not model.config.text or model.config.text.tower is not text:
        raise InputError(f"packed texts need a CLIP with a text tower on backend='triton', not {model!r}")
    config, device = model.config.text, model.device
    tokens = inputs.tokens(model.ops, tokens, config)  # (B, T)
    end = text.end_of_text(tokens, config.eot_token_id)  # (B,)
    within = np.arange(tokens.shape[1]) <= end[:, None]  # (B, T)
    _, positions = np.nonzero(within)  # (ΣT,)
    ops = packed.operations(model.ops, packed.texts(end + 1, device))
    arrays = (tokens[within][None], end, positions)
    tokens, end, positions = (ops.asarray(x, device=device, dtype="int64") for x in arrays)
    params = model.params["text"]
    params = {**params, "position_embedding": params["position_embedding"][positions]}  # (ΣT, D)
    x = text.encode_text(ops, tokens, end, **params, config=config)  # (1, ΣT), (B,) -> (B, E)
    return ops.l2_normalize(x) if normalize else x


def top_labels(model, images, classes, k=5):
    """The k most probable classes of each picture: -> (probabilities (B, k) float32, indices (B, k) int64).

    images (B, C, height, width), classes (n, E), as `zero_shot.class_embeddings` makes them. These are the largest of
    `zero_shot.probabilities`, largest first, of equal ones the lowest index first; but the (B, n) probabilities of all
    are never written. Raises InputError unless the model is a CLIP on the triton backend and k from 1 to 64 and n.
    """
    if model.backend != "triton" or type(model) is not CLIP:
        raise InputError(f"top_labels needs a CLIP on backend='triton', not {model!r}")
    features = model.encode_image(images)  # (B, E)
    classes = inputs.features(model.ops, classes, model.config.embed_dim, device=model.device, dtype=model.dtype)
    return top_k.top_k(features, classes, model.logit_scale, k)
