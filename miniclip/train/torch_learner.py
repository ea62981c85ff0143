"""A learner on torch: automatic gradients, torch.optim, chunks of a batch, mixed precision, many processes."""

import contextlib
import functools
from types import SimpleNamespace

import torch
from torch.utils.checkpoint import checkpoint

from miniclip.errors import InputError
from miniclip.params import tree_map
from miniclip.train import distributed, learners


def leaf(x, device=None):
    """An ndarray as a parameter, a copy. It is frozen until a Learner trains it."""
    return torch.nn.Parameter(torch.tensor(x, device=device), requires_grad=False)


class Learner(learners.Learner):
    """See `learners.Learner`."""

    def __init__(self, model, recipe, **options):
        super().__init__(model, recipe, **options)
        if model.backend == "triton" and recipe.precision != "float32":
            raise InputError("the triton backend has no mixed precision, its kernels ignore it: pass backend='torch'")
        for p in self.trained.values():
            p.requires_grad_()
        muon, adamw = ([{**group, "params": [*group["params"].values()]} for group in side] for side in self.groups())
        options = {"betas": learners.BETAS, "eps": learners.EPS, "fused": True}
        self.optimizers = [torch.optim.Muon(muon)] if muon else []
        self.optimizers += [torch.optim.AdamW(adamw, **options)] if adamw else []
        self.towers, self.rank = _Towers(self), distributed.rank()
        if distributed.is_started():
            self.towers = torch.nn.parallel.DistributedDataParallel(self.towers)

    def gradients(self, images, tokens):
        """Fill the gradients of what is trained; returns the loss, a float."""
        B, C = len(images), self.recipe.chunk or len(images)
        for p in self.trained.values():
            p.grad = None
        if C >= B:
            loss = self.loss_of_all(*self.towers(images, tokens))
            loss.backward()
            return distributed.mean(loss).item()
        # GradCache (Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, sec. 3.2): the loss needs
        # the features of the whole batch, but not what the towers computed on the way
        chunks = [slice(start, start + C) for start in range(0, B, C)]
        with torch.no_grad():
            images_of, texts_of, *scalars = zip(*(self.features(images[chunk], tokens[chunk]) for chunk in chunks))
        found = [torch.cat(images_of), torch.cat(texts_of), *(x[0].detach().clone() for x in scalars)]
        for x in found:
            x.requires_grad_()
        loss = self.loss_of_all(*found)
        loss.backward()  # the gradients of all features (B, E), of the scale and the bias
        # each chunk goes through the towers again, and its gradients go back
        for chunk in chunks:
            last = chunk is chunks[-1]
            with contextlib.nullcontext() if last else self._unsynchronised():
                again = self.towers(images[chunk], tokens[chunk])
                back = [x.grad[chunk] for x in found[:2]] + [x.grad * last for x in found[2:]]
                learned = [i for i, x in enumerate(again) if x.requires_grad]
                torch.autograd.backward([again[i] for i in learned], [back[i] for i in learned])
        return distributed.mean(loss).item()

    def _unsynchronised(self):
        """While gradients are summed up over chunks, the processes do not exchange them."""
        return self.towers.no_sync() if distributed.is_started() else contextlib.nullcontext()

    def features(self, images, tokens):
        """Pictures (b, C, height, width), tokens (b, T) -> (b, E), (b, E), the scale's logarithm (), a bias ()."""
        model = self.current_model()
        if self.recipe.grad_checkpointing:
            model = self.with_params(model.params, _with_checkpoints(model.ops))
        mixed = self.recipe.precision == "bfloat16"
        with torch.autocast(model.device.type, torch.bfloat16, enabled=mixed):
            features = model.encode_image(images), model.encode_text(tokens)
        scale = model.params["logit_scale"] if "logit_scale" in model.params else -model.params["temperature"].log()
        tree = {**self.trained, **model.params}
        bias = [tree["logit_bias"]] if "logit_bias" in tree else []  # a SigLIP's own, or that of this training
        # * 1: DistributedDataParallel takes no parameter as a result
        return *(x.float() if mixed else x for x in features), *(x * 1 for x in (scale, *bias))

    def loss_of_all(self, images, texts, *scalars):
        """The loss of features (b, E) of this process's pairs; its mean over processes is that of the whole batch."""
        ops, everything = self.model.ops, {}
        if distributed.is_started():
            everything = {"all_texts": distributed.gather(ops.l2_normalize(texts)), "offset": self.rank * len(images)}
            if self.recipe.loss == "softmax":  # SigLIP's needs every pair once
                everything["all_images"] = distributed.gather(ops.l2_normalize(images))  # (B, E)
        return self.loss(ops, images, texts, *scalars, **everything)

    def update(self, rate):
        self.set_rate(rate)
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            for name, (least, most) in self.limits.items():
                if name in self.trained:
                    self.trained[name].clamp_(least, most)

    def measure(self, function):
        """function(the model as it is now), computed by one process for all."""
        with torch.no_grad():
            return distributed.same(lambda: function(self.current_model()))

    def finished_model(self):
        """The model as it is now, for use: it computes no gradients."""
        return self.with_params(tree_map(torch.Tensor.detach, self.current_model().params))

    # ------------------------------------------------------------------------------ stopping and resuming

    def parameters(self):
        """{name: ndarray}: what is trained."""
        return {name: p.detach().cpu().numpy() for name, p in self.trained.items()}

    def set_parameters(self, arrays):
        """Set what is trained to what `parameters` returned."""
        with torch.no_grad():
            for name, p in self.trained.items():
                p.copy_(torch.from_numpy(arrays[name]))

    def memory(self):
        """{parameter's name: {key: ndarray}}: what the optimizers remember, such as exp_avg."""
        remembered = {name: {} for name in self.trained}
        for optimizer in self.optimizers:
            for name, p in self.trained.items():
                remembered[name] |= {key: x.cpu().numpy() for key, x in optimizer.state.get(p, {}).items()}
        return remembered

    def set_memory(self, remembered):
        """Set what the optimizers remember to what `memory` returned."""
        names = {p: name for name, p in self.trained.items()}
        for optimizer in self.optimizers:
            for p in (p for group in optimizer.param_groups for p in group["params"]):
                found = {key: torch.from_numpy(x).clone() for key, x in remembered[names[p]].items()}
                # a new optimizer has the number of steps on the CPU, too
                optimizer.state[p] = {key: x if key == "step" else x.to(p.device) for key, x in found.items()}


def _with_checkpoints(ops):
    """The operations, and `checkpoint`: see `towers.tracing`."""
    again = functools.partial(functools.partial, checkpoint, use_reentrant=False)  # function -> checkpoint(function, ·)
    return SimpleNamespace(**vars(ops) | {"checkpoint": again})


class _Towers(torch.nn.Module):
    """The learner's `features` as a module with its parameters: DistributedDataParallel wraps nothing else."""

    def __init__(self, learner):
        super().__init__()
        self.trained = torch.nn.ParameterList(learner.trained.values())
        self.features = learner.features

    def forward(self, images, tokens):
        return self.features(images, tokens)
