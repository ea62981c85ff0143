"""Random weights, drawn as in transformers' `_init_weights` (modeling_clip.py, _align.py and _siglip.py)."""

import dataclasses
import math
from typing import Any

import numpy as np

from miniclip import families, ops, params
from miniclip.towers import bert


def random_model(
    kind: Any, config: Any, backend: Any, device: Any, dtype: Any, seed: int | None = None, truncated: bool = False
) -> Any:
    """A model for objects of this class with random weights; norms are 1, biases 0.

    seed       None: torch.manual_seed counts if the backend's arrays are tensors, else numpy.random.seed
    truncated  no weight is beyond two standard deviations, as in Keras's TruncatedNormal
    """
    ours = config.ours()
    if not kind.projected and "projection" in ours.shapes()[kind.tower]:
        ours = dataclasses.replace(ours, embed_dim=None)
    rng, flat = np.random.default_rng(_seed(backend) if seed is None else seed), {}
    towers = {"visual": getattr(config, "vision_config", config), "text": getattr(config, "text_config", config)}
    for name, shape in params.flatten(ours.shapes()).items():
        tower = name.partition(".")[0]
        if name in ours.scalars:
            flat[name] = np.asarray(getattr(config, f"{name}_init_value", 0.0), np.float32)
        elif name.endswith("bias"):
            flat[name] = np.zeros(shape, np.float32)
        elif ".ln_" in name:
            flat[name] = np.ones(shape, np.float32)
        else:
            source = config if name.endswith("projection.weight") else towers[tower]
            deviation = _deviation(name, shape, getattr(ours, tower), source, config)
            x = rng.standard_normal(shape, dtype=np.float32)
            while truncated and (beyond := np.abs(x) > 2).any():
                x[beyond] = rng.standard_normal(beyond.sum(), dtype=np.float32)
            flat[name] = np.float32(deviation) * x
    if "text.type_embedding" in flat:  # padding has no meaning
        flat["text.embed.table"][ours.text.pad_token_id] = 0
        if ours.text.first_position:
            flat["text.position_embedding"][ours.text.pad_token_id] = 0
    model = families.of(ours).model
    return model(ours, params.unflatten(flat), backend, device=device, dtype=ops.dtype_name(dtype, backend))


def _seed(backend):
    if "torch" in backend.PACKAGES:
        import torch

        return int(torch.randint(1 << 62, (), device="cpu"))
    return np.random.randint(1 << 62, dtype=np.int64)


def _deviation(name, shape, tower, source, config):
    """The standard deviation of a weight of this name in a tower."""
    if not hasattr(source, "initializer_range") and not hasattr(source, "initializer_factor"):  # SigLIP's towers
        return _glorot_or_lecun(name, shape)
    if not hasattr(source, "initializer_factor"):  # ALIGN
        if name == "text.projection.weight":
            return math.sqrt(2 / sum(shape))  # Glorot's, there of a uniform distribution
        return source.initializer_range
    if tower.tower is bert and name != "text.projection.weight":
        return source.initializer_range
    factor, D = source.initializer_factor, getattr(tower, "hidden_width", None) or tower.width
    if name.endswith("class_token") or ".attention.out." in name or "projection" in name:
        return factor * D**-0.5
    if "attention.qkv" in name or "mlp.proj" in name:
        return factor * D**-0.5 * (2 * tower.layers) ** -0.5
    if "mlp.fc" in name:
        return factor * (2 * D) ** -0.5
    return factor * (0.02 if name.startswith("text.") else source.initializer_range)


def _glorot_or_lecun(name, shape):
    """√(2 / (in + out)) for a transformer's products, as Glorot's; else √(1 / in).

    Of patches and of the text's head transformers divides it by what a normal distribution would lose if its tails were
    cut off at 2 deviations, and cuts off nothing.
    """
    inner = math.prod(shape[1:])
    if name in ("visual.patch_embed.weight", "text.head.weight"):
        return inner**-0.5 / 0.87962566
    if len(shape) != 2 or not (".blocks." in name or ".attention_pool." in name):
        return inner**-0.5
    outer = shape[0] // 3 if "blocks" in name and "qkv" in name else shape[0]  # there, these are three weights
    return math.sqrt(2 / (outer + inner))


def resized(module: Any, rows: int) -> Any:
    """Token embeddings with another number of rows; new ones are the mean of the old ones."""
    import torch

    old = module.weight
    new = torch.nn.Embedding(rows, old.shape[1], device=old.device, dtype=old.dtype)
    with torch.no_grad():
        new.weight[:] = old.mean(0)
        new.weight[: len(old)] = old[:rows]
    return new.requires_grad_(old.requires_grad)
