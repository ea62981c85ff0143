"""The laws of the towers: attention with its products, the block, the image tower, where a text ends."""

import numpy as np

from miniclip import params
from miniclip.config import VisionConfig
from miniclip.learn.laws import law, normal
from miniclip.ops import numpy_ops as ops
from miniclip.towers import transformer, vit


def config(**changes):
    """A small image tower: 2 x 3 patches of 4 pixels, width 12, 3 heads, 2 blocks."""
    sizes = {"image_size": (8, 12), "patch_size": 4, "width": 12, "layers": 2, "heads": 3, "mlp_width": 20}
    return VisionConfig(**{**sizes, **changes})


def random_params(rng, tree):
    """Parameters of the given shapes, gains near one."""
    return params.tree_map(lambda shape: (len(shape) == 1) + 0.3 * normal(rng, *shape), tree)


# ---------------------------------------------------------------------------------------- self-attention


def _attention_inputs(rng, T=5):
    p = random_params(rng, transformer.shapes(config())[0]["attention"])
    return normal(rng, 2, T, 12), p


def exact_self_attention(x, p, heads, **mask):
    """Head by head: rows h·K to h·K + K of each third of qkv, and the heads side by side."""
    D = x.shape[-1]
    K = D // heads
    weight, bias = p["qkv"]["weight"].astype(np.float64), p["qkv"]["bias"]
    out = np.zeros(x.shape)
    for h in range(heads):
        rows = [slice(third * D + h * K, third * D + (h + 1) * K) for third in range(3)]
        q, k, v = (x @ weight[r].T + bias[r] for r in rows)  # (B, T, K) each
        out[..., h * K : (h + 1) * K] = ops.attention(q[:, :, None], k[:, :, None], v[:, :, None], **mask)[:, :, 0]
    return out @ p["out"]["weight"].T.astype(np.float64) + p["out"]["bias"]


@law("self_attention")
def self_attention_is_its_formula(self_attention, rng):
    """q, k and v are the thirds of one product, each head has K numbers of each, and the heads are concatenated"""
    x, p = _attention_inputs(rng)
    yield self_attention(ops, x, **p, heads=3), exact_self_attention(x, p, 3)


@law("self_attention")
def one_head_is_a_case_like_others(self_attention, rng):
    """it also holds with one head, and with heads of width 1"""
    x, p = _attention_inputs(rng)
    for heads in (1, 12):
        yield self_attention(ops, x, **p, heads=heads), exact_self_attention(x, p, heads)


@law("self_attention")
def masks_are_handed_on(self_attention, rng):
    """causal and lengths are passed on to the attention"""
    x, p = _attention_inputs(rng)
    yield self_attention(ops, x, **p, heads=3, causal=True), exact_self_attention(x, p, 3, causal=True)
    lengths = rng.integers(1, 5, 2)
    yield self_attention(ops, x, **p, heads=3, lengths=lengths), exact_self_attention(x, p, 3, lengths=lengths)


@law("self_attention", extra=True)
def keep_asks_one_query(self_attention, rng):
    """keep: (B, 1, D), the whole result at that token, causal or not, one token for all or one for each"""
    x, p = _attention_inputs(rng)
    each, lengths = rng.integers(0, 5, 2), rng.integers(1, 5, 2)
    for keep, mask in [(0, {}), (each, {}), (each, {"causal": True}), (each, {"lengths": lengths})]:
        whole = exact_self_attention(x, p, 3, **mask)
        kept = self_attention(ops, x, **p, heads=3, **mask, keep=keep)
        yield kept, whole[np.arange(2), keep][:, None]


class Trace(dict):
    """A `trace` that records its calls."""

    __call__ = dict.__setitem__

    def __init__(self, attentions=True):
        self.attentions = attentions

    def __bool__(self):
        return True  # also while it is empty


@law("self_attention", extra=True)
def a_trace_sees_the_weights(self_attention, rng):
    """trace, unless its `attentions` is False, gets "attention_weights": ops.attention_weights of all queries"""
    x, p = _attention_inputs(rng)
    for keep in (None, rng.integers(0, 5, 2)):
        seen = Trace()
        self_attention(ops, x, **p, heads=3, causal=True, keep=keep, trace=seen)
        q, k, _ = np.moveaxis(ops.linear(x, **p["qkv"]).reshape(2, 5, 3, 3, 4), 2, 0)  # (B, T, H, K) each
        yield list(seen), ["attention_weights"]
        yield seen.get("attention_weights", np.zeros(0)), ops.attention_weights(q, k, causal=True)
    self_attention(ops, x, **p, heads=3, trace=(wants_none := Trace(attentions=False)))
    yield list(wants_none), []


# --------------------------------------------------------------------------------------------- the block


def _block_inputs(rng):
    return normal(rng, 2, 5, 12), random_params(rng, transformer.shapes(config())[0])


def exact_block(x, p, c=None, **mask):
    """x + attention(ln_1(x)), then x + mlp(ln_2(x)), one after the other."""
    c = c or config()
    y = ops.layer_norm(x, **p["ln_1"], eps=c.eps)
    x = x + exact_self_attention(y, p["attention"], c.heads, **mask)
    y = ops.layer_norm(x, **p["ln_2"], eps=c.eps)
    return x + transformer.feed_forward(ops, y, **p["mlp"], activation=c.activation)


MASKS = {"causal": False, "lengths": None}
REST = {**MASKS, "keep": None, "trace": None}


@law("block")
def a_block_is_two_residual_halves(block, rng):
    """x + attention(ln_1(x)), then x + mlp(ln_2(x))"""
    x, p = _block_inputs(rng)
    yield block(ops, x, **p, config=config(), **REST), exact_block(x, p)


@law("block")
def the_first_half_alone(block, rng):
    """if the MLP gives zeros, what is left is x + attention(ln_1(x))"""
    x, p = _block_inputs(rng)
    p["mlp"]["proj"] = params.tree_map(np.zeros_like, p["mlp"]["proj"])
    y = ops.layer_norm(x, **p["ln_1"], eps=1e-5)
    yield block(ops, x, **p, config=config(), **REST), x + exact_self_attention(y, p["attention"], 3)


@law("block")
def the_second_half_alone(block, rng):
    """if the attention gives zeros, what is left is x + mlp(ln_2(x))"""
    x, p = _block_inputs(rng)
    p["attention"]["out"] = params.tree_map(np.zeros_like, p["attention"]["out"])
    y = ops.layer_norm(x, **p["ln_2"], eps=1e-5)
    mlp = transformer.feed_forward(ops, y, **p["mlp"], activation="quick_gelu")
    yield block(ops, x, **p, config=config(), **REST), x + mlp


@law("block")
def a_block_is_as_configured(block, rng):
    """heads, activation and eps are read from the configuration"""
    x, p = _block_inputs(rng)
    for c in (config(eps=0.1), config(heads=2), config(activation="relu")):
        yield block(ops, x, **p, config=c, **REST), exact_block(x, p, c)


@law("block")
def a_block_hands_its_masks_on(block, rng):
    """causal and lengths are passed on to the attention"""
    x, p = _block_inputs(rng)
    for mask in ({"causal": True}, {"lengths": rng.integers(1, 5, 2)}):
        yield block(ops, x, **p, config=config(), **{**REST, **mask}), exact_block(x, p, **mask)


@law("block", extra=True)
def a_block_keeps_one_token(block, rng):
    """keep: (B, 1, D), the whole result at that token"""
    x, p = _block_inputs(rng)
    keep = rng.integers(0, 5, 2)
    kept = block(ops, x, **p, config=config(), **{**REST, "keep": keep})
    yield kept, exact_block(x, p)[np.arange(2), keep][:, None]


@law("block", extra=True)
def a_trace_sees_both_halves(block, rng):
    """trace, if given, is passed on, then called with "attention" and x after the first half, then "mlp" and x"""
    (x, p), seen = _block_inputs(rng), Trace()
    block(ops, x, **p, config=config(), **{**REST, "trace": seen})
    y = ops.layer_norm(x, **p["ln_1"], eps=1e-5)
    yield list(seen), ["attention_weights", "attention", "mlp"]
    yield seen.get("attention", np.zeros(0)), x + exact_self_attention(y, p["attention"], 3)
    yield seen.get("mlp", np.zeros(0)), exact_block(x, p)


# --------------------------------------------------------------------------------------- the image tower


def _vit_inputs(rng, **changes):
    c = config(**changes)
    return normal(rng, 2, 3, 8, 12), random_params(rng, vit.shapes(c, 7)), c


def exact_vit(images, p, c):
    """Every token through every block: -> (features before the projection (B, D), all tokens (B, T, D))."""
    x = ops.layer_norm(ops.patch_embed(images, **p["patch_embed"]), **p["ln_pre"], eps=c.eps)
    for block in p["blocks"]:
        x = exact_block(x, block)
    return ops.layer_norm(x[:, 0], **p["ln_post"], eps=c.eps), x


@law("vit")
def the_feature_is_the_class_tokens(encode_image, rng):
    """patch_embed, ln_pre, the blocks; then ln_post and the projection of the class token: (B, E)"""
    images, p, c = _vit_inputs(rng)
    yield encode_image(ops, images, **p, config=c), exact_vit(images, p, c)[0] @ p["projection"]["weight"].T


@law("vit")
def without_a_projection(encode_image, rng):
    """without a projection: (B, D), the result of ln_post"""
    images, p, c = _vit_inputs(rng)
    p["projection"] = None
    yield encode_image(ops, images, **p, config=c), exact_vit(images, p, c)[0]


@law("vit")
def pictures_know_nothing_of_each_other(encode_image, rng):
    """a picture's feature is the same in any batch"""
    images, p, c = _vit_inputs(rng)
    whole = encode_image(ops, images, **p, config=c)
    yield whole, np.concatenate([encode_image(ops, images[i : i + 1], **p, config=c) for i in range(2)])


@law("vit")
def the_configuration_counts(encode_image, rng):
    """heads, activation and eps are read from the configuration"""
    images, p, _ = _vit_inputs(rng)
    for c in (config(eps=0.1), config(heads=2), config(activation="relu")):
        whole = vit.encode_image(ops, images, **p, config=c)
        yield encode_image(ops, images, **p, config=c), whole


@law("vit", extra=True)
def a_trace_sees_every_stage(encode_image, rng):
    """trace is called with "embeddings", "ln_pre", each block's stages, "ln_post" and "features", in this order"""
    images, p, c = _vit_inputs(rng)
    seen = {}
    features = encode_image(ops, images, **p, config=c, trace=seen.__setitem__)
    names = ["embeddings", "ln_pre", "blocks.0.attention", "blocks.1.mlp", "ln_post", "features"]
    yield [name for name in seen if name in names], names
    for found in (features, seen.get("features")):
        yield found, exact_vit(images, p, c)[0] @ p["projection"]["weight"].T
    yield seen.get("blocks.1.mlp"), exact_vit(images, p, c)[1]


# -------------------------------------------------------------------------------------- where a text ends


def _texts(rng, end):
    """Texts of different lengths, (3, 9): ids below `end`, then `end`, then zeros; and the position of each end."""
    ends = rng.permutation(np.arange(1, 8))[:3]
    tokens = rng.integers(1, end, (3, 9))
    tokens[np.arange(9) > ends[:, None]] = 0
    tokens[np.arange(3), ends] = end
    return tokens, ends


@law("text_pooling")
def a_text_ends_at_its_highest_id(end_of_text, rng):
    """without eot_token_id: the position of the highest id, for each text"""
    tokens, ends = _texts(rng, 500)
    yield list(map(int, end_of_text(tokens))), ends.tolist()


@law("text_pooling")
def a_text_ends_at_the_id_that_is_named(end_of_text, rng):
    """with eot_token_id: the position of that id, even if others are higher"""
    tokens, ends = _texts(rng, 500)
    tokens[tokens == 499] = 498
    tokens[tokens == 500] = 2
    tokens[(tokens == 2) & (np.arange(9) != ends[:, None])] = 3
    yield list(map(int, end_of_text(tokens, 2))), ends.tolist()
    tokens, ends = _texts(rng, 500)
    tokens[tokens == 500] = 0
    yield list(map(int, end_of_text(tokens, 0))), ends.tolist()


@law("text_pooling")
def the_first_of_several_ends_counts(end_of_text, rng):
    """if the padding has the same id, as Hugging Face's has, the first one counts"""
    tokens, ends = _texts(rng, 500)
    tokens[np.arange(9) > ends[:, None]] = 500
    yield list(map(int, end_of_text(tokens))), ends.tolist()
    yield list(map(int, end_of_text(tokens, 500))), ends.tolist()


@law("text_pooling")
def a_text_without_its_end(end_of_text, rng):
    """a text without eot_token_id is pooled at position 0, as in Hugging Face"""
    tokens, _ = _texts(rng, 500)
    yield list(map(int, end_of_text(tokens, 501))), [0, 0, 0]
