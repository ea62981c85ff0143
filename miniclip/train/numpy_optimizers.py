"""AdamW and Muon in NumPy, with the names, defaults, groups and states of torch.optim's, and the same results.

Builds on NumPy and `runtime.cpu` (cores). Parameters and gradients are dicts, {flat name: ndarray}; a step changes the
parameters in place.
"""

import math

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime import cpu


class Optimizer:
    """What all optimizers share: groups of parameters with options, and a state for each parameter.

    groups        {name: ndarray}, or a list of {"params": {name: ndarray}, "lr": ..., ...} with options of their own
    param_groups  that list, with all options: they may be changed between steps
    state         {name: {key: ndarray}}, with torch's keys, made by a parameter's first step. A training resumes with
                  the states that were saved
    """

    def __init__(self, groups, **options):
        groups = groups if isinstance(groups, list) else [{"params": groups}]
        self.param_groups = [{**options, **group} for group in groups]
        self.state: dict[str, dict[str, np.ndarray]] = {}

    def step(self, gradients):
        """Change every parameter that has a gradient in {name: ndarray or None}; the others stay, as in torch."""
        jobs = [
            (p, gradients[name], self.state.setdefault(name, {}), group)
            for group in self.param_groups
            for name, p in group["params"].items()
            if gradients.get(name) is not None
        ]
        cpu.on_own_cores(lambda job: self.update(*job), jobs, cpu.blas_threads())

    def update(self, p, gradient, state, group):
        """Change one parameter and its state, which is empty at first, in place."""
        raise NotImplementedError


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Decoupled Weight Decay Regularization, algorithm 2).

    m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g², the running means of gradients and of their squares. Both begin at 0,
    so that after t steps they are too small by 1 - βᵗ. p = p - lr · (weight_decay · p + m̂ / (√v̂ + eps)).
    """

    def __init__(self, groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, p, gradient, state, group):
        lr, (beta1, beta2) = group["lr"], group["betas"]
        if not state:
            state |= {"step": np.zeros((), np.float32), "exp_avg": np.zeros_like(p), "exp_avg_sq": np.zeros_like(p)}
        t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
        t += 1
        m += (1 - beta1) * (gradient - m)
        v *= beta2
        v += (1 - beta2) * np.square(gradient)
        p *= 1 - lr * group["weight_decay"]
        p -= lr / (1 - beta1 ** float(t)) * m / (np.sqrt(v) / math.sqrt(1 - beta2 ** float(t)) + group["eps"])


class Muon(Optimizer):
    """Momentum whose update is made orthogonal, for the matrices inside a network (Jordan et al., 2024, Muon).

    m = μ m + (1 - μ) g, u = (1 - μ) g + μ m, p = p - lr · (weight_decay · p + √max(1, rows/columns) · O(u)), where O(u)
    is near to U Vᵀ if u = U S Vᵀ: all directions of the update get about the same length.
    torch computes O in bfloat16, with errors of one or two hundredths of its length; here it has the parameter's dtype.
    """

    def __init__(self, groups, lr=1e-3, weight_decay=0.1, momentum=0.95):
        super().__init__(groups, lr=lr, weight_decay=weight_decay, momentum=momentum)
        for group in self.param_groups:
            for name, p in group["params"].items():
                if p.ndim != 2:
                    raise InputError(f"Muon is for matrices, but {name} has the shape {p.shape}: use AdamW for it")

    def update(self, p, gradient, state, group):
        lr, momentum = group["lr"], group["momentum"]
        if not state:
            state["momentum_buffer"] = np.zeros_like(p)
        m = state["momentum_buffer"]
        m += (1 - momentum) * (gradient - m)
        update = orthogonal(m + (1 - momentum) * (gradient - m))
        p *= 1 - lr * group["weight_decay"]
        p -= lr * math.sqrt(max(1, len(p) / p.shape[1])) * update


def orthogonal(x, steps=5):
    """About U Vᵀ of x = U S Vᵀ, with singular values from 0.7 to 1.2 instead of 1: the Newton-Schulz iteration (Muon).

    X = a X + (b A + c A²) X with A = X Xᵀ, which changes only the singular values: s becomes a s + b s³ + c s⁵. The
    coefficients are so steep at 0 that five steps are enough for all but very small s; near 1, s then moves to and fro.

    x (rows, columns) · returns the same shape
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = len(x) > x.shape[1]
    x = x.T if tall else x  # the smaller A
    x = x / max(np.linalg.norm(x), 1e-7)  # the Frobenius norm: no singular value is larger
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x
