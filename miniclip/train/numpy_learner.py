"""A learner in NumPy: gradients derived by hand, from `numpy_grad`, and the optimizers of `numpy_optimizers`."""

import numpy as np

from miniclip import params
from miniclip.errors import InputError
from miniclip.ops import numpy_grad
from miniclip.ops.tape import Variable, record, value
from miniclip.runtime import cpu
from miniclip.train import learners, lora
from miniclip.train.numpy_optimizers import AdamW, Muon


def leaf(x, device=None):
    """An ndarray as a parameter, a copy: training changes it in place."""
    if device not in (None, "cpu"):
        raise InputError(f"the numpy backend trains on the CPU, not on {device}: pass backend='torch'")
    return np.array(x)


def _log_scale(tree):
    """The logarithm of the logits' scale (), also of a model that keeps a temperature instead."""
    if "logit_scale" in tree:
        return tree["logit_scale"]
    temperature = tree["temperature"]
    return record(-np.log(value(temperature)), (temperature,), lambda dy: (-dy / value(temperature),))


class Learner(learners.Learner):
    """See `learners.Learner`. A second model has the same arrays as Variables, to compute gradients with."""

    def __init__(self, model, recipe, **options):
        super().__init__(model, recipe, **options)
        if recipe.precision != "float32" or recipe.chunk or recipe.grad_checkpointing:
            raise InputError("the numpy backend has no mixed precision, chunks and checkpoints: pass backend='torch'")
        muon, adamw = self.groups()
        self.optimizers = [Muon(muon)] if muon else []
        self.optimizers += [AdamW(adamw, betas=learners.BETAS, eps=learners.EPS)] if adamw else []
        self.variables = {name: Variable(p) for name, p in self.trained.items()}

    @cpu.one_blas_thread()  # the cores are for chunks of the batch, see `numpy_grad`
    def gradients(self, images, tokens):
        """Fill the gradients of what is trained; returns the loss, a float."""
        for variable in self.variables.values():
            variable.gradient = None
        if self.adapter:
            pairs = {name: tuple(self.variables[f"{name}.lora_{side}"] for side in "AB") for name in self.adapter}
            tree = lora.merge(self.model.params, pairs, self.lora_scale)
        else:
            flat = params.flatten(self.model.params)
            tree = params.unflatten({name: self.variables.get(name, p) for name, p in flat.items()})
        model = self.with_params(tree, numpy_grad)
        images, texts = model.encode_image(images), model.encode_text(tokens)  # (B, E), (B, E)
        loss = self.loss(
            numpy_grad, images, texts, _log_scale(tree), tree.get("logit_bias", self.variables.get("logit_bias"))
        )
        loss.backward()
        return float(loss)

    def update(self, rate):
        self.set_rate(rate)
        gradients = {name: variable.gradient for name, variable in self.variables.items()}
        for optimizer in self.optimizers:
            optimizer.step(gradients)
        for name, (least, most) in self.limits.items():
            if name in self.trained:
                np.clip(self.trained[name], least, most, out=self.trained[name])

    def measure(self, function):
        """function(the model as it is now)."""
        return function(self.current_model())

    # ------------------------------------------------------------------------------ stopping and resuming

    def parameters(self):
        """{name: ndarray}: what is trained."""
        return self.trained

    def set_parameters(self, arrays):
        """Set what is trained to what `parameters` returned."""
        for name, p in self.trained.items():
            p[...] = arrays[name]

    def memory(self):
        """{parameter's name: {key: ndarray}}: what the optimizers remember, such as exp_avg."""
        remembered = {name: {} for name in self.trained}
        for optimizer in self.optimizers:
            remembered |= optimizer.state
        return remembered

    def set_memory(self, remembered):
        """Set what the optimizers remember to what `memory` returned."""
        for optimizer in self.optimizers:
            names = {name for group in optimizer.param_groups for name in group["params"]}
            optimizer.state = {name: {key: x.copy() for key, x in remembered[name].items()} for name in names}
