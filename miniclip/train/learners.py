"""What the learners of all backends share: a model, the parameters that learn, and their groups for the optimizers.

`torch_learner` and `numpy_learner` fill in how gradients are computed and how parameters are updated.
"""

import contextlib
import importlib
import math
import os

import numpy as np

from miniclip import chunked_loss, families, ops
from miniclip.errors import InputError
from miniclip.loss import contrastive_loss
from miniclip.params import flatten, tree_map
from miniclip.train import lora, parameters

# backend: the module of its learner
LEARNERS = {
    "torch": "miniclip.train.torch_learner",
    "triton": "miniclip.train.torch_learner",
    "numpy": "miniclip.train.numpy_learner",
}
BETAS, EPS = (0.9, 0.98), 1e-6  # AdamW's, those of the Vision Transformers (CLIP, table 18)
# SigLIP's start: nearly all pairs do not belong together. A bias of -10 needs cosines times 10 (SigLIP, sec. 3.2).
FIRST_BIAS, FIRST_SCALE = -10.0, 10.0
# Cosines are multiplied by at most 100, so that training stays stable (CLIP, sec. 2.5): {name: (least, most)}
LIMITS = {"logit_scale": (None, math.log(100)), "temperature": (1 / 100, None)}


def make(config, params, recipe, *, backend="torch", device=None, tokenizer=None, adapter=None, **options):
    """A Learner for a model with this configuration and a copy of these parameters, a tree of ndarrays.

    adapter  LoRA's {flat name: (A, B)}, ndarrays, None: without · `options` are the other ones of `Learner`

    Raises InputError for an unknown backend or device, and if a backend's packages are not installed.
    """
    if backend not in LEARNERS:
        raise InputError(f"there is no training on the backend {backend!r}; choose one of {', '.join(LEARNERS)}")
    backend_ops, module = ops.select(backend, device), importlib.import_module(LEARNERS[backend])
    device = backend_ops.asarray(0.0, device=device).device  # None: where this backend computes
    if config.independent and recipe.loss != "sigmoid":
        raise InputError(
            f"a {config.family} model is trained with the sigmoid loss: pass loss='sigmoid' (--loss sigmoid)"
        )
    own_bias = "logit_bias" in config.scalars
    if recipe.loss == "sigmoid" and not own_bias:
        start = {"logit_scale": math.log(FIRST_SCALE), "temperature": 1 / FIRST_SCALE}
        params = params | {name: np.array(start[name], x.dtype) for name, x in params.items() if name in start}
    leaves = tree_map(lambda x: module.leaf(x, device), params)
    model = families.of(config).model(config, leaves, backend_ops, tokenizer=tokenizer)
    if recipe.loss == "sigmoid" and not own_bias:
        options["bias"] = module.leaf(np.array(FIRST_BIAS, next(iter(flatten(params).values())).dtype), device)
    if adapter:
        options["adapter"] = {name: tuple(module.leaf(x, device) for x in pair) for name, pair in adapter.items()}
    return module.Learner(model, recipe, **options)


@contextlib.contextmanager
def processes(backend):
    """Join the processes that torchrun has started: yields (their number, this one's device); (1, None) without it.

    The device is None for the CPU. Without torchrun it is a GPU if there is one. Raises InputError for NumPy's.
    """
    if backend == "numpy":
        if "RANK" in os.environ:
            raise InputError("the numpy backend trains in one process: start it without torchrun")
        yield 1, None
        return
    ops.select(backend)  # says what is not installed
    from miniclip.train import distributed

    yield distributed.join()
    distributed.leave()  # not after an error: torchrun ends the other processes


class Learner:
    """Trains `model` in place. A backend adds `gradients`, `update`, `measure`, and what `state` and `restore` call.

    trained     {flat name: whether it is trained}, None: all
    rates       {flat name: the share of the learning rate that it gets}, where it is not 1
    bias        of the logits, for SigLIP's loss: it is trained, too, but is no part of the model. None: for CLIP's, and
                for a SigLIP, which has one of its own
    adapter     LoRA's {flat name: (A, B)}, which are trained instead of the model: W + lora_scale · B A is used for a
                weight W. None: without
    """

    rank = 0  # of this process among several

    def __init__(self, model, recipe, *, trained=None, rates=None, bias=None, adapter=None, lora_scale=1.0):
        self.model, self.recipe, self.rates = model, recipe, rates or {}
        self.adapter, self.lora_scale = adapter, lora_scale
        if adapter:
            self.trained = {f"{name}.lora_{side}": x for name, pair in adapter.items() for side, x in zip("AB", pair)}
        else:
            flat = {name: p for name, p in flatten(model.params).items() if not name.startswith(parameters.UNUSED)}
            self.trained = {name: p for name, p in flat.items() if trained is None or trained[name]}
        if bias is not None:
            self.trained["logit_bias"] = bias
        # SigLIP's scale has no limit (big_vision, trainers/proj/image_text/siglip.py); official ones are above 100
        self.limits = {} if getattr(model.config, "independent", False) else LIMITS

    def step(self, images, captions, rate):
        """One step with a batch: images (B, C, height, width), B captions, `rate` the share of the peak learning rate.

        Caption i belongs to picture i; captions that are too long are cut. Returns the loss before the step, a float.
        """
        loss = self.gradients(images, self.model.tokenize(captions, truncate=True))
        self.update(rate)
        return loss

    def loss(self, ops, images, texts, scale, bias=None, **everything):
        """The loss of features (b, E), with the log of the scale (); `everything`: see `chunked_loss`, returns ()."""
        smoothing = self.recipe.label_smoothing
        if self.recipe.loss == "softmax" and not everything and len(images) ** 2 <= chunked_loss.LOGITS:
            # the whole matrix would be one chunk
            return contrastive_loss(ops.similarity(images, texts, scale), ops=ops, label_smoothing=smoothing)
        images, texts = ops.l2_normalize(images), ops.l2_normalize(texts)  # (b, E)
        if self.recipe.loss == "sigmoid":
            return chunked_loss.sigmoid_loss(images, texts, scale, bias, ops=ops, **everything)
        return chunked_loss.contrastive_loss(images, texts, scale, ops=ops, label_smoothing=smoothing, **everything)

    def numbers(self):
        """{name: number} of the model that a curve shows beside the loss."""
        return {"scale": self.scale()}

    def scale(self):
        """What cosines are multiplied by before the softmax, a float."""
        params, to_numpy = self.model.params, self.model.ops.to_numpy
        if "logit_scale" in params:
            return math.exp(to_numpy(params["logit_scale"]))
        return 1 / float(to_numpy(params["temperature"]))

    def current_model(self):
        """The model as it is now: with an adapter, a new one that has it merged."""
        if not self.adapter:
            return self.model
        return self.with_params(lora.merge(self.model.params, self.adapter, self.lora_scale))

    def finished_model(self):
        """The model as it is now, for use."""
        return self.current_model()

    def with_params(self, params, ops=None):
        """The same model with other parameters, and perhaps other operations."""
        model = self.model
        return type(model)(model.config, params, ops or model.ops, tokenizer=lambda: model.tokenizer)

    def groups(self):
        """The parameters in groups of equal options, for Muon and for AdamW: two lists of {"params": {name: p}, ...}.

        Muon is for the blocks' matrices (Jordan et al., 2024), AdamW for the rest, or for all. "peak" is the largest
        learning rate; what has fewer than two axes has no weight decay: gains, biases (CLIP, sec. 2.5), scales and the
        class token (open_clip_train/main.py).
        """
        peaks = {"muon": self.recipe.muon_learning_rate, "adamw": self.recipe.learning_rate}
        found: dict = {"muon": {}, "adamw": {}}
        for name, p in self.trained.items():
            is_matrix = ".blocks." in name and p.ndim == 2 and not self.adapter
            optimizer = "muon" if self.recipe.optimizer == "muon" and is_matrix else "adamw"
            key = peaks[optimizer] * self.rates.get(name, 1.0), self.recipe.weight_decay if p.ndim >= 2 else 0.0
            found[optimizer].setdefault(key, {})[name] = p
        return [
            [{"params": ps, "lr": peak, "peak": peak, "weight_decay": decay} for (peak, decay), ps in groups.items()]
            for groups in found.values()
        ]

    def set_rate(self, rate):
        """Give each group of parameters the share `rate` of its largest learning rate."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate

    def state(self):
        """{name: ndarray}: what is trained, as params.NAME, and what the optimizers remember, such as exp_avg.NAME."""
        tensors = {f"params.{name}": x for name, x in self.parameters().items()}
        for name, found in self.memory().items():
            tensors |= {f"{key}.{name}": x for key, x in found.items()}
        return tensors

    def restore(self, tensors):
        """Continue from what `state` returned."""
        remembered: dict = {}
        for full, x in tensors.items():
            key, _, name = full.partition(".")
            remembered.setdefault(name, {})[key] = x
        self.set_parameters({name: found.pop("params") for name, found in remembered.items()})
        self.set_memory(remembered)
