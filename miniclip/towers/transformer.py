"""The transformer that both towers share: a stack of pre-norm residual blocks.

Builds on the operations it is handed as `ops`; `vit` and `text` put pixels or tokens in and take a feature out.
Parameters are nested dicts whose keys are the argument names of the function that uses them.
"""


def transformer(ops, x, blocks, *, config, causal=False, lengths=None, keep=None, trace=None):
    """x (B, T, D) through L blocks -> (B, T, D), or with `keep` one token of each sequence, (B, D).

    `config` has heads, activation and eps. Tokens behind `lengths` (B,), if given, are padding. `keep`, (B,) int or one
    for all, is the token that goes on: the last block computes no other, beyond keys and values. `trace(name, value)`,
    if given, sees of block i "blocks.i.attention_weights" (B, H, T, T), which a `trace` with an attribute `attentions`
    of False is spared, and the residual stream (B, T, D) after each half, "blocks.i.attention" and "blocks.i.mlp".
    """
    for i, p in enumerate(blocks):
        see = trace and within(f"blocks.{i}", trace)
        kept = keep if i == len(blocks) - 1 else None
        x = block(ops, x, **p, config=config, causal=causal, lengths=lengths, keep=kept, trace=see)
    return x if keep is None else x[:, 0]


def untraced(name, value):
    """What stands in for `trace` where nobody looks inside."""


def within(part, trace):
    """A `trace` for one part of a model, whose names it completes."""

    def see(name, value):
        trace(f"{part}.{name}", value)

    see.attentions = getattr(trace, "attentions", True)
    return see


def block(ops, x, ln_1, attention, ln_2, mlp, *, config, causal, lengths, keep, trace):
    """x + attention(ln_1(x)), then x + mlp(ln_2(x)): (B, T, D) -> (B, T, D), with `keep` (B, 1, D).

    Layer norm comes before each half, as in GPT-2, and the residual stream itself is never normalised.
    """
    y = ops.layer_norm(x, **ln_1, eps=config.eps)
    mask = {"causal": causal, "lengths": lengths}
    y = self_attention(ops, y, **attention, heads=config.heads, **mask, keep=keep, trace=trace)
    if keep is not None:
        x = ops.pool(x, keep)[:, None]  # (B, 1, D)
    x, y = ops.add_layer_norm(x, y, **ln_2, eps=config.eps)  # x + y, and its norm: one kernel on a GPU
    if trace:
        trace("attention", x)
    x = x + feed_forward(ops, y, **mlp, activation=config.activation)
    if trace:
        trace("mlp", x)
    return x


def self_attention(ops, x, qkv, out, *, heads, causal=False, lengths=None, keep=None, trace=None):
    """Queries, keys and values in one product, attention in every head, one more product.

    x (B, T, D) -> (B, T, D), or (B, 1, D) where `keep` says whose query alone is asked.
    """
    B, T, D = x.shape
    packed = ops.linear(x, **qkv).reshape(B, T, 3, heads, D // heads)  # (B, T, 3, H, K)
    q, k, v = packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]  # (B, T, H, K) views
    if trace and trace.attentions:
        trace("attention_weights", ops.attention_weights(q, k, causal=causal, lengths=lengths))
    if keep is not None:
        q = ops.pool(q, keep)[:, None]  # (B, 1, H, K)
        causal, lengths = False, keep + 1 if causal else lengths  # it sees the keys up to its own
    x = ops.attention(q, k, v, causal=causal, lengths=lengths)  # (B, T or 1, H, K)
    return ops.linear(x.reshape(B, q.shape[1], D), **out)  # the heads side by side


def feed_forward(ops, x, fc, proj, *, activation):
    """proj(activation(fc(x))), each token by itself: (B, T, D) -> (B, T, D)."""
    return ops.linear(ops.linear(x, **fc, activation=activation), **proj)  # by way of (B, T, M)


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
