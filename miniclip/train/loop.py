"""Training a small CLIP from scratch, as in the paper's fig. 3: the built-in model "shapes".

Builds on `torch_ops` for gradients, and on `train.shapes` for pictures and captions. The recipe determines a run: batch
i depends on (seed, i) only, so a run that was stopped and resumed gives the same model as one without a stop.
"""

import contextlib
import dataclasses
import json
import math
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from miniclip import checkpoints, params
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.errors import InputError
from miniclip.formats import safetensors
from miniclip.loss import contrastive_loss
from miniclip.model import CLIP
from miniclip.ops import torch_ops as ops
from miniclip.tokenizer import Tokenizer
from miniclip.train import shapes


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the defaults are those of the built-in model."""

    steps: int = 3800
    learning_rate: float = 1e-3  # AdamW, for embeddings, projections, gains and biases
    muon_learning_rate: float = 0.02  # Muon, for the blocks' matrices
    weight_decay: float = 0.1
    warmup: int = 100
    seed: int = 0


def shapes_config(vocab_size):
    """The built-in model's configuration: 6 x 6 patches of 8 pixels, 4 blocks for pictures, 2 for texts."""
    vision = VisionConfig(image_size=48, patch_size=8, width=128, layers=4, heads=4, mlp_width=512)
    text = TextConfig(context_length=32, vocab_size=vocab_size, width=128, layers=2, heads=4, mlp_width=512)
    return CLIPConfig(visual=vision, text=text, embed_dim=128)


# --------------------------------------------------------------------------------------------- start


def init_params(config, rng):
    """Random parameters at the start of training, float32 ndarrays (clip/model.py, initialize_parameters)."""

    def init(name, shape, width, layers):
        if name.endswith("bias"):
            return np.zeros(shape)
        if len(shape) == 1 and name.endswith("weight"):  # a layer norm's gain
            return np.ones(shape)
        if name == "visual.patch_embed.position_embedding":
            return np.concatenate([np.zeros((1, width)), 0.3 * sine_cosine(config.visual.grid[0], width)])
        std = {
            "table": 0.02,
            "text.position_embedding": 0.01,
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
            flat[name] = np.array(math.log(1 / 0.07), np.float32)
        else:
            tower = towers[name.partition(".")[0]]
            flat[name] = init(name, shape, tower.width, tower.layers).astype(np.float32)
    return params.unflatten(flat)


def sine_cosine(grid, width):
    """Positions on a grid as sines and cosines of x and y, (grid², width): near positions have similar vectors.

    (Better plain ViT baselines for ImageNet-1k, sec. 2.) `width` must be a multiple of 4.
    """
    frequency = 100.0 ** -np.linspace(0, 1, width // 4)  # (width/4,)
    y, x = np.mgrid[:grid, :grid].reshape(2, -1, 1) * frequency  # (grid², width/4) each
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


# ------------------------------------------------------------------------------------------- training


def train_shapes(path, recipe=Recipe(), *, resume=False, state_every=20):
    """Train the built-in model, write it to `path` (float16, with its vocabulary), return it as a CLIP on torch.

    Every `state_every` steps, and after Ctrl-C, the whole state is written to `path` + ".state"; `resume` continues
    from it. Raises KeyboardInterrupt after Ctrl-C, and InputError if `path` cannot be written, if there is a state
    without `resume`, and for `resume` without a state.
    """
    path, state = Path(path), state_of(path)
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"{path}: cannot be written: expected a file in an existing directory")
    try:  # now, not after minutes of training
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    if state.exists() and not resume:
        raise InputError(f"{state}: is the state of an unfinished training; pass --resume to continue it, or delete it")
    tokenizer = Tokenizer.train(shapes.captions(recipe.seed), vocab_size=1024)
    config = shapes_config(len(tokenizer))
    model = CLIP(config, init_params(config, np.random.default_rng(recipe.seed)), ops, tokenizer=tokenizer)
    flat = params.flatten(model.params)
    optimizers = make_optimizers(flat, recipe)
    done = _load_state(state, recipe, flat, optimizers) if resume else 0

    def batch(step):
        return shapes.batch(recipe.seed, step, config.visual.image_size)

    progress = tqdm(total=recipe.steps, initial=done, unit="step", dynamic_ncols=True, mininterval=1)
    with progress, _after_the_step() as interrupted:
        for step, loss in fit(model, batch, recipe, optimizers=optimizers, done=done):
            progress.update()
            if (step + 1) % 10 == 0:
                progress.set_postfix(loss=f"{loss:.3f}")
            if (step + 1) % state_every == 0 or interrupted:
                _save_state(state, recipe, step + 1, flat, optimizers)
            if interrupted:
                raise KeyboardInterrupt
    checkpoints.save(path, config, params.tree_map(ops.to_numpy, model.params), tokenizer=tokenizer, dtype="float16")
    state.unlink(missing_ok=True)
    return model


@contextlib.contextmanager
def _after_the_step():
    """Yield a list that Ctrl-C fills, instead of ending a step in its middle; the second Ctrl-C ends it at once."""
    interrupted: list[int] = []

    def note(number, _):
        interrupted.append(number)
        signal.signal(signal.SIGINT, before)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread, which alone gets signals
        yield interrupted
        return
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def fit(model, batch, recipe, *, optimizers=None, done=0):
    """Train `model`, a CLIP on torch, in place: a generator that yields (step, loss) after each step.

    batch  a function: step -> (images (B, C, height, width), B captions); caption i belongs to picture i
    optimizers, done  to resume a training: its optimizers and its number of finished steps; None, 0: a new training
    """
    flat = params.flatten(model.params)
    optimizers = make_optimizers(flat, recipe) if optimizers is None else optimizers
    for step in range(done, recipe.steps):
        images, captions = batch(step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule(step, recipe)
        loss = contrastive_loss(model(images, model.tokenize(captions))[0], ops=ops)
        for parameter in flat.values():
            parameter.grad = None
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))  # CLIP, sec. 2.5
        yield step, loss.item()


def schedule(step, recipe):
    """The learning rate as a share of its peak: a linear rise during warm-up, then half a cosine down to 0."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return (1 + math.cos(math.pi * (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup))) / 2


def make_optimizers(flat, recipe):
    """[Muon for the blocks' matrices (Jordan et al., 2024), AdamW for the rest]; no decay of gains, biases and scale.

    flat  {name: parameter}, from `params.flatten`; the parameters get requires_grad
    """
    for parameter in flat.values():
        parameter.requires_grad_()
    blocks = [p for name, p in flat.items() if ".blocks." in name and p.ndim == 2]
    tables = [p for name, p in flat.items() if ".blocks." not in name and p.ndim >= 2]
    others = [p for p in flat.values() if p.ndim < 2]
    adamw = [{"params": tables, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizers = [
        torch.optim.Muon(blocks, lr=recipe.muon_learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(adamw, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True),  # CLIP, table 18
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


# ------------------------------------------------------------------------------ stopping and resuming


def state_of(path):
    """The file with the state of an unfinished training that will write `path`."""
    return Path(f"{path}.state")


def _save_state(path, recipe, step, flat, optimizers):
    tensors = {f"params.{name}": p.detach().numpy() for name, p in flat.items()}
    for optimizer in optimizers:
        for name, p in flat.items():
            tensors |= {f"{key}.{name}": value.numpy() for key, value in optimizer.state.get(p, {}).items()}
    safetensors.write(path, tensors, {"step": str(step), "recipe": json.dumps(dataclasses.asdict(recipe))})


def _load_state(path, recipe, flat, optimizers):
    """Restore parameters and optimizers from the state of a stopped training; returns the number of finished steps."""
    tensors, metadata = safetensors.read(path)
    if json.loads(metadata.get("recipe", "null")) != dataclasses.asdict(recipe):
        raise InputError(
            f"{path}: belongs to a training with another recipe, {metadata.get('recipe')}: pass the same --steps and "
            f"--seed, or delete the file"
        )
    with torch.no_grad():
        for name, p in flat.items():
            p.copy_(torch.from_numpy(tensors.pop(f"params.{name}")))
    for optimizer in optimizers:
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            name = next(name for name, other in flat.items() if other is p)
            keys = [key for key in tensors if key.partition(".")[2] == name]
            optimizer.state[p] = {key.partition(".")[0]: torch.from_numpy(tensors[key]).clone() for key in keys}
    return int(metadata["step"])
