"""The transformer that both towers share: a stack of pre-norm residual blocks.

Builds on the operations it is handed as `ops`; `vit` and `text` put pixels or tokens in and take a feature out.
Parameters are nested dicts whose keys are the argument names of the function that uses them.
"""

from functools import partial


def transformer(ops, x, blocks, *, heads, activation, eps, causal=False, trace=None):
    """x (B, T, D) through L blocks -> (B, T, D).

    `trace(name, value)`, if given, sees of block i: "blocks.i.attention_weights" (B, H, T, T), and the residual
    stream (B, T, D) after each half, "blocks.i.attention" and "blocks.i.mlp".
    """
    for i, p in enumerate(blocks):
        see = trace and partial(_traced_in_block, trace, i)
        x = block(ops, x, **p, heads=heads, activation=activation, eps=eps, causal=causal, trace=see)
    return x


def _traced_in_block(trace, i, name, value):
    trace(f"blocks.{i}.{name}", value)


def untraced(name, value):
    """What stands in for `trace` where nobody looks inside."""


def block(ops, x, ln_1, attention, ln_2, mlp, *, heads, activation, eps, causal=False, trace=None):
    """x + attention(ln_1(x)), then x + mlp(ln_2(x)): (B, T, D) -> (B, T, D).

    Layer norm stands before each half, as in GPT-2, and the residual stream itself is never normalised.
    """
    see = trace or untraced
    y = ops.layer_norm(x, **ln_1, eps=eps)
    x = self_attention(ops, y, **attention, heads=heads, causal=causal, residual=x, trace=trace)
    see("attention", x)
    y = ops.layer_norm(x, **ln_2, eps=eps)
    x = feed_forward(ops, y, **mlp, activation=activation, residual=x)
    see("mlp", x)
    return x


def self_attention(ops, x, qkv, out, *, heads, causal=False, residual=None, trace=None):
    """Queries, keys and values in one product, attention in every head, one more product: (B, T, D) -> (B, T, D)."""
    B, T, D = x.shape
    packed = ops.linear(x, **qkv).reshape(B, T, 3, heads, D // heads)  # (B, T, 3, H, K)
    q, k, v = packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]  # (B, T, H, K) views
    if trace:
        trace("attention_weights", ops.attention_weights(q, k, causal=causal))
    x = ops.attention(q, k, v, causal=causal).reshape(B, T, D)  # the heads side by side
    return ops.linear(x, **out, residual=residual)


def feed_forward(ops, x, fc, proj, *, activation, residual=None):
    """proj(activation(fc(x))), each token by itself: (B, T, D) -> (B, T, D)."""
    x = ops.linear(x, **fc, activation=activation)  # (B, T, M)
    return ops.linear(x, **proj, residual=residual)  # (B, T, D)


def shapes(config):
    """The blocks' parameter tree with shapes for leaves; `config` has layers, width D and mlp_width."""
    D, M = config.width, config.mlp_width
    norm = {"weight": (D,), "bias": (D,)}
    return [
        {
            "ln_1": norm,
            "attention": {
                "qkv": {"weight": (3 * D, D), "bias": (3 * D,)},
                "out": {"weight": (D, D), "bias": (D,)},
            },
            "ln_2": norm,
            "mlp": {
                "fc": {"weight": (M, D), "bias": (M,)},
                "proj": {"weight": (D, M), "bias": (D,)},
            },
        }
    ] * config.layers
