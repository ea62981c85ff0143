"""Training a small CLIP from scratch, as in the paper's fig. 3: the built-in model "shapes".

Builds on `torch_ops` for gradients, on `data.shapes` for pictures and captions. A run is determined by its recipe:
batch i depends on (seed, i) alone, so that a run that was stopped and resumed goes on exactly as it would have.
"""

import dataclasses
import json
import math
import multiprocessing
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from miniclip import checkpoints, params
from miniclip.checkpoints import safetensors
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.data import shapes
from miniclip.errors import InputError
from miniclip.model import CLIP
from miniclip.ops import torch_ops as ops
from miniclip.tokenizer import Tokenizer


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the defaults made the built-in one."""

    steps: int = 1500
    batch_size: int = 256
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.1
    seed: int = 0


def shapes_config(vocab_size):
    """The built-in model's configuration: 6 x 6 patches of 8 pixels, 4 blocks for pictures, 2 for texts."""
    vision = VisionConfig(image_size=48, patch_size=8, width=128, layers=4, heads=4, mlp_width=512)
    text = TextConfig(context_length=32, vocab_size=vocab_size, width=128, layers=2, heads=4, mlp_width=512)
    return CLIPConfig(visual=vision, text=text, embed_dim=128)


# ------------------------------------------------------------------------------------- loss and start


def contrastive_loss(image_features, text_features, logit_scale):
    """The mean of two cross-entropies: each picture must find its text, each text its picture (CLIP, fig. 3).

    image_features, text_features (B, E), row i of one belongs to row i of the other · logit_scale () · returns ().
    """
    logits = ops.similarity(image_features, text_features, logit_scale)  # (B, B)
    partner = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


def init_params(config, rng):
    """Random parameters to train from, float32 ndarrays (clip/model.py, initialize_parameters, for both towers)."""

    def init(name, shape, width, layers):
        if name.endswith("bias"):
            return np.zeros(shape)
        if len(shape) == 1 and name.endswith("weight"):  # a layer norm's gain
            return np.ones(shape)
        std = {
            "table": 0.02,
            "position_embedding": 0.01,
            "out.weight": (2 * layers * width) ** -0.5,  # so that the residual stream does not grow with depth
            "proj.weight": (2 * layers * width) ** -0.5,
            "fc.weight": (2 * width) ** -0.5,
            "patch_embed.weight": math.prod(shape[1:]) ** -0.5,
        }
        return rng.normal(0, next((s for end, s in std.items() if name.endswith(end)), width**-0.5), shape)

    towers = {"visual": config.visual, "text": config.text}
    flat = {}
    for name, shape in params.flatten(config.shapes()).items():
        if name == "logit_scale":
            flat[name] = np.float32(math.log(1 / 0.07))
        else:
            tower = towers[name.partition(".")[0]]
            flat[name] = init(name, shape, tower.width, tower.layers).astype(np.float32)
    return params.unflatten(flat)


# ------------------------------------------------------------------------------------------- training


def train_shapes(path, recipe=Recipe(), *, resume=False, state_every=100):
    """Train the built-in model, write it to `path` (float16, vocabulary included), return it as a CLIP on torch.

    Every `state_every` steps the whole state goes to `path` + ".state"; `resume` goes on from there. Raises
    InputError where a state lies there and `resume` is not given, or the other way round.
    """
    path, state = Path(path), Path(f"{path}.state")
    if state.exists() and not resume:
        raise InputError(f"{state}: an unfinished training lies there; pass --resume to go on, or delete it")
    tokenizer = Tokenizer.train(shapes.captions(recipe.seed, 20_000), vocab_size=1024)
    config = shapes_config(len(tokenizer))
    model = CLIP(config, init_params(config, np.random.default_rng(recipe.seed)), ops, tokenizer=tokenizer)
    flat = params.flatten(model.params)
    optimizer = _optimizer(flat, recipe)
    done = _load_state(state, recipe, flat, optimizer) if resume else 0

    images_at = _Batches(recipe, config.visual.image_size, first=done)
    with images_at as batches, tqdm(total=recipe.steps, initial=done, unit="step", dynamic_ncols=True) as progress:
        for step, (images, captions) in enumerate(batches, start=done):
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(step, recipe)
            loss = contrastive_loss(
                model.encode_image(images), model.encode_text(tokenizer.tokenize(captions, 32)), model.logit_scale
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(100))  # CLIP, sec. 2.5
            progress.update()
            if (step + 1) % 10 == 0:
                progress.set_postfix(loss=f"{loss.item():.3f}")
            if (step + 1) % state_every == 0:
                _save_state(state, recipe, step + 1, flat, optimizer)
    checkpoints.save(path, config, params.tree_map(ops.to_numpy, model.params), tokenizer=tokenizer, dtype="float16")
    state.unlink(missing_ok=True)
    return model


def _learning_rate(step, recipe):
    """Up in a straight line for `warmup` steps, then down along half a cosine to zero."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    rest = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (1 + math.cos(math.pi * rest)) / 2


def _optimizer(flat, recipe):
    """AdamW with decay for weights only, not for gains, biases and the logit scale (CLIP, sec. 2.5)."""
    for parameter in flat.values():
        parameter.requires_grad_()
    decayed = [p for p in flat.values() if p.ndim > 1]
    others = [p for p in flat.values() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)


class _Batches:
    """Iterates over (images (B, 3, S, S), captions) of a recipe, made ahead of time in a process of their own."""

    def __init__(self, recipe, image_size, first, ahead=4):
        self.recipe, self.image_size, self.first, self.ahead = recipe, image_size, first, ahead

    def __enter__(self):
        # Not forked: torch's threads do not survive that.
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        return self._batches()

    def __exit__(self, *error):
        self.pool.shutdown(cancel_futures=True)

    def _batches(self):
        waiting = deque()
        for step in range(self.first, self.recipe.steps + self.ahead):
            if step < self.recipe.steps:
                args = (self.recipe.seed, step, self.recipe.batch_size, self.image_size)
                waiting.append(self.pool.submit(shapes.batch, *args))
            if step >= self.first + self.ahead:
                yield waiting.popleft().result()


# ------------------------------------------------------------------------------- stopping and going on


def _save_state(path, recipe, step, flat, optimizer):
    tensors = {f"params.{name}": p.detach().numpy() for name, p in flat.items()}
    for name, p in flat.items():
        tensors |= {f"{key}.{name}": optimizer.state[p][key].numpy() for key in ("exp_avg", "exp_avg_sq")}
    safetensors.write(path, tensors, {"step": str(step), "recipe": json.dumps(dataclasses.asdict(recipe))})


def _load_state(path, recipe, flat, optimizer):
    """Put parameters and optimizer back where a stopped training had them; returns the number of steps done."""
    tensors, metadata = safetensors.read(path)
    if json.loads(metadata.get("recipe", "null")) != dataclasses.asdict(recipe):
        raise InputError(f"{path}: belongs to a training with another recipe, {metadata.get('recipe')}")
    step = int(metadata["step"])
    with torch.no_grad():
        for name, p in flat.items():
            p.copy_(torch.from_numpy(tensors[f"params.{name}"]))
            moments = {key: torch.from_numpy(tensors[f"{key}.{name}"]).clone() for key in ("exp_avg", "exp_avg_sq")}
            optimizer.state[p] = {"step": torch.tensor(float(step)), **moments}
    return step
