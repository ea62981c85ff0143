"""Training a decoder for the features of a CLIP, which is frozen, with the loop, learner and recipe of `train`."""

import logging

import numpy as np
import torch
import torch.nn.functional as F

from miniclip import identity, params
from miniclip.caption import files
from miniclip.caption.decoder import Decoder, DecoderConfig
from miniclip.config import TextConfig
from miniclip.errors import InputError
from miniclip.ops import torch_ops
from miniclip.train import loop, run, torch_learner
from miniclip.train.initialize import init_parameter
from miniclip.train.recipe import Recipe
from miniclip.train.sheet import check_sheet, write_sheet

logger = logging.getLogger("miniclip.train")
PREFIX = 4  # P
IGNORED = -100  # a target that does not count


def new_config(model, embed_dim):
    """The configuration of a new decoder, of the built-in one's size, for features of width E and a CLIP's vocabulary.

    Raises InputError for a model without a text tower or a vocabulary.
    """
    text = model.config.text
    if text is None or model.tokenizer is None:
        raise InputError("a decoder writes in the vocabulary of its model: this one has none, choose another model")
    length = PREFIX + text.context_length - 2  # captions with their end, but without their start; the end is never read
    gpt = TextConfig(
        length, text.vocab_size, width=128, layers=2, heads=4, mlp_width=512, activation="gelu_tanh",
        eot_token_id=model.tokenizer.end_id,
    )  # fmt: skip
    return DecoderConfig(embed_dim, PREFIX, gpt, hidden=256)


def init_params(config, rng):
    """Random parameters of a decoder at the start of a training."""
    flat = params.flatten(config.shapes())
    gpt = config.gpt
    return params.unflatten({name: init_parameter(rng, name, x, gpt.width, gpt.layers) for name, x in flat.items()})


def rows(model, captions):
    """B captions -> their tokens without a start, (B, T) int64 with IGNORED after each end. Long ones are cut."""
    tokens = model.tokenize(captions, truncate=True)  # (B, T + 1)
    end = model.config.text.tower.end_of_text(tokens, model.config.text.eot_token_id)  # (B,)
    places = np.arange(1, end.max() + 1)  # (T,)
    return np.where(places <= end[:, None], tokens[:, places], IGNORED).astype(np.int64)


def batches(model, pairs, done):
    """Yield (features (B, E), the tokens of their captions (B, T), see `rows`) from a step on."""
    for images, captions in pairs.batches(done):
        with torch.no_grad():
            features = model.encode_image(images)  # (B, E)
        yield features, rows(model, captions)


class Learner(torch_learner.Learner):
    """Trains a Decoder in place; see `learners.Learner`."""

    def step(self, features, tokens, rate):
        """One step with a batch of `batches`; returns the loss before it, a float."""
        loss = self.gradients(features, tokens)
        self.update(rate)
        return loss

    def gradients(self, features, tokens):
        """Fill the gradients of what is trained; returns the loss, a float."""
        for p in self.trained.values():
            p.grad = None
        loss = self.loss(features, tokens)
        loss.backward()
        return loss.item()

    def loss(self, features, tokens):
        """The mean of -ln p(token | picture, tokens before it): features (B, E), tokens (B, T) int -> ()."""
        decoder = self.model
        read = np.where(tokens == IGNORED, 0, tokens)[:, :-1]  # the last one is predicted, but not read
        x = decoder.logits(decoder.prefix(features), read, last=False)  # (B, P + T - 1, V)
        x = x[:, decoder.config.prefix_length - 1 :]  # (B, T, V): the prefix's last place predicts the first token
        targets = decoder.ops.asarray(tokens, device=decoder.device)
        return F.cross_entropy(x.transpose(1, 2), targets, ignore_index=IGNORED)

    def numbers(self):
        return {}


def train(out, model, pairs, recipe, *, dtype=None, resume=False, **options):
    """Train a decoder for a CLIP on torch, and write it to `out`; `options` are those of `loop.train`.

    pairs  have batches, see `train.data` · dtype  of the file, None: float32

    Returns the Decoder. Raises InputError for a recipe that is for another loss, and as `loop.train` does.
    """
    usual = Recipe()
    for key in ("loss", "label_smoothing", "chunk", "precision", "grad_checkpointing"):
        if getattr(recipe, key) != getattr(usual, key):
            raise InputError(f"{key} is {getattr(recipe, key)}, but a decoder learns without it: leave it out")
    loop.check_start(out, resume)
    check_sheet(f"{out}.png")
    images, captions = pairs.batch(0)
    config = new_config(model, model.encode_image(images[:1]).shape[1])
    leaves = params.tree_map(
        lambda x: torch_learner.leaf(x, model.device), init_params(config, np.random.default_rng(recipe.seed))
    )
    learner = Learner(Decoder(config, leaves, torch_ops, device=model.device), recipe)

    def write(path, learner):
        tree = params.tree_map(torch_ops.to_numpy, learner.model.params)
        files.save(path, config, tree, model, dtype=dtype)

    settings = {"decoder": str(config), "model": str(identity.of(model)), **run.settings_of(pairs)}
    with run.alone(out):
        if not resume:
            write_sheet(f"{out}.png", images, captions)
            for line in pairs.report(model.tokenizer, model.config.text.context_length):
                logger.info("%s", line)
        loop.train(
            out, learner, lambda done: batches(model, pairs, done), recipe,
            write=write, settings=settings, resume=resume, **options,
        )  # fmt: skip
    return learner.model
