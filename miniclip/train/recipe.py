"""How a model is trained: the numbers of a run, which together with its data determine the result."""

import math
from dataclasses import dataclass

from miniclip.errors import InputError

OPTIMIZERS = ("muon", "adamw")
LOSSES = ("softmax", "sigmoid")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run; the defaults are those of the built-in model. InputError for values that make no sense."""

    steps: int = 3800
    optimizer: str = "muon"  # Muon for the blocks' matrices and AdamW for the rest, or "adamw" for all
    learning_rate: float = 1e-3  # AdamW's
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.1  # of matrices and tables; gains, biases and scales have none (CLIP, sec. 2.5)
    warmup: int = 100  # steps
    loss: str = "softmax"  # both cross-entropies (CLIP, fig. 3), or "sigmoid": SigLIP's
    label_smoothing: float = 0.0  # of the cross-entropies
    chunk: int | None = None  # pairs that go through the towers at once; None: the whole batch
    precision: str = "float32"  # of the towers: "bfloat16" is mixed precision, parameters stay float32
    grad_checkpointing: bool = (
        False  # compute the inside of a transformer's blocks twice, instead of keeping it in memory
    )
    seed: int = 0

    def __post_init__(self):
        for name, known in [("optimizer", OPTIMIZERS), ("loss", LOSSES), ("precision", PRECISIONS)]:
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(known)}")
        for name in ("steps", "warmup", "seed"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)!r}, expected an integer from 0 on")
        for name in ("learning_rate", "muon_learning_rate", "weight_decay", "label_smoothing"):
            x = getattr(self, name)
            if not isinstance(x, (int, float)) or not 0 <= x < math.inf:
                raise InputError(f"{name} is {x!r}, expected a number from 0 on")
        if self.chunk is not None and (type(self.chunk) is not int or self.chunk < 1):
            raise InputError(f"chunk is {self.chunk!r}, expected at least 1 pair")
        if self.label_smoothing >= 1:
            raise InputError(f"label_smoothing is {self.label_smoothing}, expected a share from 0 to 1")


def schedule(step, recipe):
    """The learning rate as a share of its peak: a linear rise during warm-up, then half a cosine down to 0."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return (1 + math.cos(math.pi * (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup))) / 2
