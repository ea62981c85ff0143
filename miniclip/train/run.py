"""Training on a user's pictures and captions: a new small CLIP, or the fine-tuning of a model that exists.

Puts the rooms together: a start, data, the parameters that learn, validation, the loop, and the file that is written.
"""

import contextlib
import hashlib
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from miniclip import checkpoints, families, params
from miniclip.checkpoints import peft
from miniclip.config import CLIPConfig, ModelConfig
from miniclip.errors import InputError
from miniclip.fetch import hub, vocabulary
from miniclip.image import Preprocess
from miniclip.runtime import files
from miniclip.tokenizer import Tokenizer
from miniclip.train import data, learners, loop, lora, parameters
from miniclip.train.initialize import CONFIGS, check_new, init_params
from miniclip.train.metrics import curve_of
from miniclip.train.recipe import Recipe
from miniclip.train.sheet import check_sheet, write_sheet
from miniclip.train.state import state_of

logger = logging.getLogger("miniclip.train")


class Start(NamedTuple):
    """The model that a training begins with; `tokenizer` may be a function that finds it."""

    config: ModelConfig
    params: dict
    tokenizer: object
    name: str  # of the model that it is; "" for a new one, and for one with an adapter merged

    @property
    def preprocess(self) -> Preprocess:
        return families.preprocess_of(self.config)


def new(captions: Iterable[str], recipe: Recipe, config: CLIPConfig = CONFIGS["small"]) -> Start:
    """A CLIP with random parameters; other configurations are in `initialize.CONFIGS`, or your own.

    A vocabulary of 49,408 ids is the official one; any other number is the most ids of one made of the captions.
    Raises InputError unless the configuration has a Vision Transformer and a text tower.
    """
    check_new(config)
    tokenizer: Any = vocabulary.official_tokenizer
    if config.text.vocab_size != families.of(config).official_vocabulary:
        tokenizer = Tokenizer.train(captions, config.text.vocab_size)
        config = replace(config, text=replace(config.text, vocab_size=len(tokenizer)))
    return Start(config, init_params(config, np.random.default_rng(recipe.seed)), tokenizer, "")


def existing(name: str, image_size: int | tuple[int, int] | None = None) -> Start:
    """A model by its name, path or id; an adapter's is merged with it. `image_size` is another size of the pictures.

    Raises InputError if it has not both towers.
    """
    path, adapter = hub.find_adapted(name)
    config, tree, tokenizer = checkpoints.load(path, dtype="float32", image_size=image_size, adapter=adapter)
    if not (config.visual and config.text):
        raise InputError(f"{name}: has one tower alone, and contrastive training needs both")
    return Start(config, tree, tokenizer or vocabulary.official_tokenizer, "" if adapter else name)


@dataclass(frozen=True)
class Trainable:
    """Which parameters are trained, see `parameters`: all of them, all except some, or LoRA's matrices instead."""

    freeze: tuple[str, ...] = ()
    unlocked: Mapping[str, int] | None = None
    lr_scales: Mapping[str, float] = field(default_factory=dict)  # {part: the share of the learning rate that it gets}
    layer_decay: float = 1.0  # of the learning rate from layer to layer, from the top down
    rank: int = 0  # of LoRA's matrices; 0: without
    alpha: float | None = None  # LoRA's: its scale is alpha / rank; None: 1
    targets: tuple[str, ...] = (lora.ALL_LINEAR,)

    def options(self, tree, seed):
        """The options of a Learner for a model with these parameters."""
        names = list(params.flatten(tree))
        if type(self.rank) is not int or self.rank < 0:
            raise InputError(f"the rank is {self.rank!r}, expected an integer, 0 to train without LoRA")
        if self.rank:
            if self.freeze or self.unlocked or self.lr_scales or self.layer_decay != 1:
                raise InputError("with LoRA the model is frozen: leave out freeze, unlocked, lr_scales and layer_decay")
            alpha = self.rank if self.alpha is None else self.alpha
            if not 0 < alpha < math.inf:
                raise InputError(f"LoRA's alpha is {alpha}, expected a number above 0")
            adapter = lora.init(tree, self.rank, lora.targets(tree, self.targets), np.random.default_rng(seed))
            return {"adapter": adapter, "lora_scale": alpha / self.rank}
        if self.alpha is not None or self.targets != (lora.ALL_LINEAR,):
            raise InputError("alpha and targets are LoRA's: pass a rank for its matrices, too")
        rates = parameters.learning_rates(names, self.layer_decay)
        for part, share in self.lr_scales.items():
            if not 0 <= share < math.inf:
                raise InputError(f"the share of {part} in the learning rate is {share}, expected a number from 0 on")
            rates |= {name: rates[name] * share for name in parameters.select(names, [part])}
        return {"trained": parameters.trained(names, self.freeze, self.unlocked), "rates": rates}


def train(
    out,
    start,
    pairs,
    recipe,
    *,
    trainable=Trainable(),
    backend="torch",
    device=None,
    world=1,
    dtype=None,
    resume=False,
    **options,
):
    """Train a Start on `pairs`, which have batches, and write it to `out`: a model's file, or with LoRA PEFT's folder.

    world  the number of processes that train together · dtype  of the file, None: float32 · `resume` and `options` are
    those of `loop.train`, which also says what is raised

    A sheet of the first pictures, as they are after augmentation, is in `out` + ".png". Returns the model for use: it
    computes no gradients.
    """
    _check(out, start, pairs, recipe, trainable, world, dtype, resume)
    config, tree, tokenizer, name = start
    settings, learns = _settings(start, pairs, trainable), trainable.options(tree, recipe.seed)
    if trainable.rank:
        peft.to_peft(config, learns["adapter"])  # that it can be written is known before it is trained
    learner = learners.make(config, tree, recipe, backend=backend, device=device, tokenizer=tokenizer, **learns)

    def write(path, learner):
        if trainable.rank:
            adapter = {name: tuple(map(learner.model.ops.to_numpy, pair)) for name, pair in learner.adapter.items()}
            alpha = trainable.rank if trainable.alpha is None else trainable.alpha
            peft.save(path, config, adapter, alpha, base=name, replace=True)
            return
        tree = params.tree_map(learner.model.ops.to_numpy, learner.model.params)
        # the official vocabulary, which a function finds, is in no model's file
        checkpoints.save(path, config, tree, tokenizer=None if callable(tokenizer) else tokenizer, dtype=dtype)

    def batches(done):
        on_gpu = str(learner.model.device) != "cpu"
        return pairs.batches(done, learner.rank, world, background=on_gpu)

    with alone(out) if learner.rank == 0 else contextlib.nullcontext():
        if learner.rank == 0 and not resume:
            write_sheet(f"{out}.png", *pairs.batch(0))
            for line in pairs.report(learner.model.tokenizer, config.text.context_length):
                logger.info("%s", line)
            count = sum(math.prod(p.shape) for p in learner.trained.values())
            logger.info(
                "%s parameters learn; samples are in %s.png, the curve is in %s", f"{count:,}", out, curve_of(out)
            )
        loop.train(out, learner, batches, recipe, write=write, settings=settings, resume=resume, **options)
    return learner.finished_model()


def _check(out, start, pairs, recipe, trainable, world, dtype, resume):
    """Raise InputError for what `train` cannot do, before anything is written."""
    loop.check_start(out, resume)
    check_sheet(f"{out}.png")
    if dtype not in (None, *checkpoints.WRITTEN):
        raise InputError(f"dtype is {dtype!r}, expected one of {', '.join(checkpoints.WRITTEN)}")
    if trainable.rank and Path(out).exists() and not peft.is_only_adapter(out):
        raise InputError(f"{out}: exists, and is not an adapter's folder, which LoRA writes: pass another path")
    if not trainable.rank and Path(out).suffix in (".pt", ".pth", ".bin"):
        raise InputError(f"{out}: a model is written in the format of safetensors: name it .safetensors")
    if not trainable.rank and Path(out).is_dir():
        raise InputError(f"{out}: is a folder, and a model is a file: pass another path")
    if trainable.rank and not start.name:
        raise InputError(
            "LoRA's matrices belong to a model in a file or with a name: begin with one (--init MODEL). What is merged "
            "with an adapter is written first: miniclip convert ADAPTER merged.safetensors --to miniclip"
        )
    if recipe.optimizer == "muon" and trainable.rank:
        raise InputError("Muon is for whole matrices, not for LoRA's thin ones: pass optimizer='adamw'")
    if recipe.loss == "softmax" and pairs.size < 2:
        raise InputError("a batch of one pair has nothing to compare, its loss is always 0: pass at least batch=2")
    data.batches.check_share(pairs.size, 0, 0, world)


def _settings(start, pairs, trainable):
    """What determines a training besides its recipe."""
    return settings_of(pairs) | {"model": start.name, "trainable": str(trainable)}


def settings_of(pairs):
    """What the data add to what determines a training; of the captions, a number that others would not give."""
    captions = "\0".join(pairs.captions).encode("utf-8", "surrogatepass")
    augment = getattr(pairs, "augment", None)
    return {
        "batch": pairs.size,
        "captions": hashlib.sha256(captions).hexdigest()[:16],
        "augment": str(augment) if augment is None or isinstance(augment, data.Augment) else "a function",
    }


@contextlib.contextmanager
def alone(out):
    """Hold `out` for this training, without what killed ones left. Raises InputError if another one writes it now."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(Path(out).with_name(f".{Path(out).name}.lock"), wait=False))
        except BlockingIOError as error:
            raise InputError(f"{out}: another training is writing it: wait for it, or write to another path") from error
        except OSError:  # a file system without locks
            pass
        for path in (out, f"{out}.png", curve_of(out), state_of(out)):
            files.remove_incomplete(path)
        yield


def train_shapes(out, recipe=None, **options):
    """Train the built-in model, and write it in float16 with its vocabulary; `options` are those of `train`."""
    recipe = recipe or Recipe()
    loop.check_start(out, options.get("resume"))
    pairs = data.load("shapes", families.preprocess_of(CONFIGS["small"]), seed=recipe.seed)
    return train(out, new(pairs.captions, recipe), pairs, recipe, dtype="float16", **options)
