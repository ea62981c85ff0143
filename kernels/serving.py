"""Whole models with kernels that no tower calls by itself: faster ways, for callers who know that they fit.

encode_text   many texts of different lengths, without padding (`packed`)
top_labels    the most probable of many labels, without the matrix of all (`top_k`)
float8        a model whose blocks multiply in 8 bit (`float8`)
"""

import numpy as np

from miniclip import inputs
from miniclip import params as parameter_tree
from miniclip.errors import InputError
from miniclip.kernels import float8 as float8_kernels
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
    classes = inputs.features(model.ops, classes, model.config.embed_dim, device=model.device, dtype=model.dtype)
    k = top_k.checked(k, len(classes))  # before the tower computes
    features = model.encode_image(images)  # (B, E)
    return top_k.top_k(features, classes, model.logit_scale, k)


# The matrix products of a block, nearly all of a tower's work. Patches and projections are small, and stay as they are.
QUANTISED = ("attention.qkv.weight", "attention.out.weight", "mlp.fc.weight", "mlp.proj.weight")


def float8(model, images=None, tokens=None, *, cosine=0.999):
    """The model with its blocks' products in e4m3: -> (a new model, {tower: what was measured}).

    images (B, C, height, width) and tokens (B, T) are samples of what the model will see. A tower with samples is
    quantised; the other one is not. First all products of its blocks are. If then a sample's features have a cosine
    below `cosine` with those of `model`, each product is quantised alone, and those that cost most stay as they are,
    one more at a time, until the cosine is reached. For each tower {"cosine": the lowest that was reached, "all": the
    lowest with all of them quantised, "kept": names of the weights that stay as they are}.

    Scales are found as numbers come, so that samples decide only which layers are quantised. Raises InputError without
    samples, for another backend than triton, and where the GPU has no e4m3 (compute capability below 8.9).
    """
    if model.backend != "triton" or type(model) is not CLIP:
        raise InputError(f"float8 needs a CLIP on backend='triton', not {model!r}")
    if reason := float8_kernels.why_not(model.device):
        raise InputError(f"float8 layers cannot run: {reason}")
    samples = {"visual": images, "text": tokens}
    if images is None and tokens is None:
        raise InputError("float8 needs samples of what the model will see: pass images, tokens, or both")
    report = {}
    for tower, sample in samples.items():
        if sample is not None:
            model, report[tower] = _quantise(model, tower, sample, cosine)
    return model, report


def _quantise(model, tower, sample, least):
    """(the model with one tower quantised, its report)."""
    flat = parameter_tree.flatten(model.params)
    names = [n for n in flat if n.startswith(f"{tower}.blocks.") and n.endswith(QUANTISED)]
    quantised = {name: float8_kernels.quantise_weight(flat[name]) for name in names}
    exact = _features(model, tower, sample)
    if not len(exact):
        raise InputError(f"float8 needs samples of what the model will see, not 0 for the {tower} tower")

    def attempt(chosen):
        other = _with(model, parameter_tree.unflatten({**flat, **{name: quantised[name] for name in chosen}}))
        return other, (exact * _features(other, tower, sample)).sum(-1).min().item()  # of unit vectors: the cosine

    best, reached = attempt(names)
    everything, kept = reached, []
    if reached < least:
        costly = sorted(names, key=lambda name: attempt([name])[1])
        while reached < least and len(kept) < len(names):
            kept.append(costly[len(kept)])
            best, reached = attempt([name for name in names if name not in kept])
    return best, {"cosine": reached, "all": everything, "kept": kept}


def _with(model, params):
    """The same model with other parameters."""
    return CLIP(model.config, params, model.ops, tokenizer=model._tokenizer, device=model.device, dtype=model.dtype)


def _features(model, tower, sample):
    """Unit features of a sample, (B, E) float32."""
    features = model.encode_image(sample) if tower == "visual" else model.encode_text(sample)
    return model.ops.l2_normalize(features.float())
