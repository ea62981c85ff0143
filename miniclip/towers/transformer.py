"""The transformer that both towers share: a stack of residual blocks, each with layer norm before its halves.

Builds on the operations it is given as `ops`; `vit` and `text` turn pixels or tokens into x and x into a feature.
Parameters are nested dicts whose keys are the argument names of the function that uses them: `**p` hands them over.
"""

from miniclip.towers import tracing


def transformer(ops, x, blocks, *, config, causal=False, lengths=None, keep=None, trace=None):
    """x (B, T, D) through L blocks -> (B, T, D), or with `keep` one token of each sequence, (B, D).

    lengths  (B,) int: tokens after so many are padding
    keep     the place of the only token needed: (B,) int, or without `causal` one number for all. The last block still
             makes the keys and values of all tokens, but query, sum and MLP of this one alone
    trace    is called as trace(name, value) with x (B, T, D) after each half of block i, "blocks.i.attention" and
             "blocks.i.mlp", and with "blocks.i.attention_weights" (B, H, T, T) unless `trace.attentions` is False
    """
    step = tracing.checkpointed(ops, block)  # block, unless a training must save memory
    for i, p in enumerate(blocks):
        inside = trace and tracing.within(f"blocks.{i}", trace)
        only = keep if i == len(blocks) - 1 else None
        x = step(ops, x, **p, config=config, causal=causal, lengths=lengths, keep=only, trace=inside)  # (B, T or 1, D)
    return x if keep is None else x[:, 0]  # (B, D)


def block(ops, x, ln_1, attention, ln_2, mlp, *, config, causal, lengths, keep, trace):
    """x = x + attention(ln_1(x)), then x = x + mlp(ln_2(x)): (B, T, D) -> (B, T, D), with `keep` (B, 1, D).

    The arguments ln_1 ... mlp are parameters. Each half reads a normalised copy, as in GPT-2; no block normalises x.
    """
    # x = x + attention(ln_1(x)): tokens look at each other
    y = ops.layer_norm(x, **ln_1, eps=config.eps)
    y = self_attention(ops, y, **attention, heads=config.heads, causal=causal, lengths=lengths, keep=keep, trace=trace)
    if keep is not None:
        x = ops.gather(x, keep)[:, None]  # (B, 1, D)
    x, y = ops.add_layer_norm(x, y, **ln_2, eps=config.eps)  # x = x + y ends this half; y = ln_2(x) is for the next
    if trace:
        trace("attention", x)
    # x = x + mlp(ln_2(x)): each token by itself
    x = x + feed_forward(ops, y, **mlp, activation=config.activation)
    if trace:
        trace("mlp", x)
    return x


def self_attention(ops, x, qkv, out, *, heads, causal=False, lengths=None, keep=None, trace=None):
    """Every token collects values from the tokens it looks at, in each head: x (B, T, D) -> (B, T, D).

    With `keep` only that token looks: (B, 1, D).
    """
    B, T, D = x.shape
    # queries, keys and values of all heads in one product
    packed = ops.linear(x, **qkv).reshape(B, T, 3, heads, D // heads)  # (B, T, 3, H, K)
    q, k, v = packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]  # (B, T, H, K) each, views
    if trace and trace.attentions:
        trace("attention_weights", ops.attention_weights(q, k, causal=causal, lengths=lengths))
    if keep is not None:
        q = ops.gather(q, keep)[:, None]  # (B, 1, H, K)
        causal, lengths = False, (keep + 1 if causal else lengths)  # causal: it sees keys 0..keep, none is padding
    x = ops.attention(q, k, v, causal=causal, lengths=lengths)  # (B, T or 1, H, K)
    # the heads side by side, mixed by one more product
    return ops.linear(x.reshape(*q.shape[:2], D), **out)  # (B, T or 1, D)


def feed_forward(ops, x, fc, proj, *, activation):
    """proj(activation(fc(x))), the MLP: (B, T, D) -> (B, T, D)."""
    x = ops.linear(x, **fc, activation=activation)  # (B, T, M)
    return ops.linear(x, **proj)  # (B, T, D)


def shapes(config):
    """The blocks' parameter tree with shapes for leaves; `config` has layers, width D and mlp_width M."""
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
