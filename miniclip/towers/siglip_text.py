"""SigLIP's text tower: tokens, a transformer without a mask, the feature of the last token.

(Sigmoid Loss for Language Image Pre-Training; big_vision, models/proj/image_text/text_transformer.py; transformers,
modeling_siglip.py.) Every token sees all others, padding too: in training all texts were padded to one length, and the
last token was the padding's. So a text's feature depends on how long it was padded.
"""

from miniclip.towers import tracing, transformer


def encode_text(
    ops, tokens, end, embed, position_embedding, blocks, ln_final, head=None, *, config, lengths=None, trace=None
):
    """tokens (B, T) int, end (B,) int, the last position, T - 1 -> features (B, E), not normalised.

    `lengths` (B,) int: no token sees those after so many; None: all are seen. `trace(name, value)` sees "embeddings",
    what `transformer` shows of each block, "ln_final" (B, T, D), "features".
    """
    see = trace or tracing.untraced
    x = ops.embed(tokens, **embed) + position_embedding[: tokens.shape[1]]  # (B, T, D)
    see("embeddings", x)
    keep = None if trace else end  # of the last block only the last token is needed: x becomes (B, D)
    x = transformer.transformer(ops, x, blocks, config=config, lengths=lengths, keep=keep, trace=trace)
    x = ops.layer_norm(x, **ln_final, eps=config.eps)
    see("ln_final", x)
    if trace:
        x = ops.gather(x, end)  # (B, D)
    x = ops.linear(x, **head) if head else x  # (B, E)
    see("features", x)
    return x


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes for leaves: the one statement of its architecture."""
    D = config.width
    return {
        "embed": {"table": (config.vocab_size, D)},
        "position_embedding": (config.context_length, D),
        "blocks": transformer.shapes(config),
        "ln_final": {"weight": (D,), "bias": (D,)},
        **({"head": {"weight": (embed_dim, D), "bias": (embed_dim,)}} if config.projects else {}),
    }
