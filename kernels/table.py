"""The table of all kernels, {name: `ladder.Kernel`}: what tests, `offline` and the benchmarks go over."""

from miniclip.kernels import (
    activation,
    activation_backward,
    attention,
    attention_backward,
    contrastive,
    float8,
    layer_norm,
    layer_norm_backward,
    linear,
    packed,
    patch_embed,
    similarity,
    top_k,
)

# In this order they are measured.
FILES = (
    *(attention, layer_norm, activation, linear, float8, patch_embed, similarity, top_k, packed, contrastive),
    *(attention_backward, layer_norm_backward, activation_backward),
)
KERNELS = {name: kernel for file in FILES for name, kernel in file.KERNELS.items()}
