"""What a learner is on every backend: a model, what of it is trained, and optimizers.

`torch_learner` and `numpy_learner` fill in how gradients are computed and how parameters are updated.
"""

import importlib
import math

from miniclip import families
from miniclip.errors import InputError
from miniclip.params import flatten, tree_map
from miniclip.runtime.installation import install
from miniclip.train import lora

# backend: (the operations of the model, the module of the learner)
LEARNERS = {
    "torch": ("miniclip.ops.torch_ops", "miniclip.train.torch_learner"),
    "numpy": ("miniclip.ops.numpy_ops", "miniclip.train.numpy_learner"),
}
BETAS, EPS = (0.9, 0.98), 1e-6  # AdamW's (CLIP, table 18)
MOST_SCALE = math.log(100)  # of the logits, so that training stays stable (CLIP, sec. 2.5)


def make(config, params, recipe, *, backend="torch", device=None, tokenizer=None, adapter=None, **options):
    """A Learner for a model with this configuration and a copy of these parameters, a tree of ndarrays.

    adapter  LoRA's {flat name: (A, B)}, ndarrays, None: without · `options` are the other ones of `Learner`

    Raises InputError for an unknown backend, and if its packages are not installed.
    """
    if backend not in LEARNERS:
        raise InputError(f"there is no training on the backend {backend!r}; choose one of {', '.join(LEARNERS)}")
    try:
        ops, module = map(importlib.import_module, LEARNERS[backend])
    except ImportError as error:
        raise InputError(f"training on {backend} needs {error.name}: {install('train')}") from error
    leaves = tree_map(lambda x: module.leaf(x, device), params)
    model = families.of(config).model(config, leaves, ops, tokenizer=tokenizer)
    if adapter:
        options["adapter"] = {name: tuple(module.leaf(x, device) for x in pair) for name, pair in adapter.items()}
    return module.Learner(model, recipe, **options)


class Learner:
    """Trains `model` in place.

    trained     {flat name: whether it is trained}, None: all
    rates       {flat name: the share of the learning rate that it gets}, where it is not 1
    adapter     LoRA's {flat name: (A, B)}, which are trained instead of the model: W + lora_scale · B A is used for a
                weight W. None: without
    """

    def __init__(self, model, recipe, *, trained=None, rates=None, adapter=None, lora_scale=1.0):
        self.model, self.recipe, self.rates = model, recipe, rates or {}
        self.adapter, self.lora_scale = adapter, lora_scale
        if adapter:
            self.trained = {f"{name}.lora_{side}": x for name, pair in adapter.items() for side, x in zip("AB", pair)}
        else:
            self.trained = {name: p for name, p in flatten(model.params).items() if trained is None or trained[name]}

    def step(self, images, captions, rate):
        """One step with a batch: images (B, C, height, width), B captions, `rate` the share of the peak learning rate.

        Caption i belongs to picture i; captions that are too long are cut. Returns the loss before the step, a float.
        """
        loss = self.gradients(images, self.model.tokenize(captions, truncate=True))
        self.update(rate)
        return loss

    def current_model(self):
        """The model as it is now: with an adapter, a new one that has it merged."""
        if not self.adapter:
            return self.model
        return self.with_params(lora.merge(self.model.params, self.adapter, self.lora_scale))

    def with_params(self, params, ops=None):
        """The same model with other parameters, and perhaps other operations."""
        model = self.model
        return type(model)(model.config, params, ops or model.ops, tokenizer=lambda: model.tokenizer)

    def groups(self):
        """The parameters in groups of equal options, for Muon and for AdamW: two lists of {"params": {name: p}, ...}.

        Muon is for the blocks' matrices (Jordan et al., 2024), AdamW for the rest, or for all. "peak" is the largest
        learning rate; gains, biases and scales have no weight decay (CLIP, sec. 2.5).
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
