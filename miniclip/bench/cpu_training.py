"""Cases of `bench cpu`: training, from the gradients of a batch to whole steps, and the loss of a large batch.

Peers are torch's automatic gradients, transformers' CLIPModel with torch's AdamW, and OpenCLIP's loss.
"""

import contextlib

import numpy as np

from miniclip import api, chunked_loss, loss
from miniclip.bench import captions, session
from miniclip.bench.cpu_features import pictures
from miniclip.bench.cpu_peers import transformers_model
from miniclip.bench.measurement import ON_TORCH, OURS, TRANSFORMERS, Measurement, Model, extra_memory, module_of
from miniclip.bench.work import work, work_of_texts
from miniclip.checkpoints import huggingface
from miniclip.errors import InputError, WrongAnswer
from miniclip.fetch import vocabulary
from miniclip.train import learners, shapes
from miniclip.train.recipe import Recipe

AUTOGRAD, WHOLE, OPEN_CLIP = "torch's gradients", "miniclip, whole matrix", "open_clip"
RECIPE = Recipe(optimizer="adamw", learning_rate=1e-4)
STEPS = 4  # whose losses are compared
TOLERANCE = 1e-4  # of a result, relative to its norm


def _reference(builders):
    """The answer of the last provider that is installed: a peer, if there is one."""
    for build in reversed(builders.values()):
        with contextlib.suppress(ImportError, InputError):
            return build()()
    return None


def _close_to(reference):
    """A check of answers: lists of numbers and arrays."""

    def check(name, answer):
        for x, expected in zip(answer, reference, strict=True):
            x, expected = np.asarray(x, np.float64), np.asarray(expected, np.float64)
            if x.shape != expected.shape:
                raise WrongAnswer(f"it is wrong: {x.shape} instead of {expected.shape}")
            error, norm = np.linalg.norm(x - expected), np.linalg.norm(expected)
            if not error <= TOLERANCE * norm:
                raise WrongAnswer(f"it is wrong: the error is {error / norm:.1e} of the norm, not {TOLERANCE:.0e}")

    return check


def _built_in(B):
    """The built-in model, and the first B pictures and texts that it was trained with."""
    model, _ = api.load("shapes", "numpy")
    images, texts = shapes.batch(0, 0, model.config.visual.image_size)
    return model, images[:B], model.tokenize(texts[:B])


def _flops(config, tokens):
    """FLOPs of the gradients of a batch: those of its features, and twice as many on the way back."""
    return 3 * (work(config, "visual", len(tokens))[0] + work_of_texts(config, _lengths(tokens)))


def _lengths(tokens):
    return tokens.argmax(-1) + 1


# ---------------------------------------------------------------------------------- the gradients of a batch


def gradients(model, *, B, dtype):
    """The loss and all gradients of the built-in model, without an optimizer."""
    model, images, tokens = _built_in(B)
    builders = {
        OURS: lambda: _gradients(model, "numpy", images, tokens),
        AUTOGRAD: lambda: _gradients(model, "torch", images, tokens),
    }
    return Measurement(builders, _close_to(_reference(builders)), B, "pairs/s", _flops(model.config, tokens))


def _gradients(model, backend, images, tokens):
    learner = learners.make(model.config, model.params, RECIPE, backend=backend)

    def call():
        loss = learner.gradients(images, tokens)
        if backend == "numpy":
            return [loss, *(variable.gradient for variable in learner.variables.values())]
        return [loss, *(p.grad for p in learner.trained.values())]

    return call


# ------------------------------------------------------------------------------------------- whole steps


def steps(model, *, B, dtype):
    """Gradients and AdamW, with captions of natural length."""
    tokenizer = vocabulary.official_tokenizer()
    return _steps(model, pictures(model, B), tokenizer.tokenize(captions.make(B, tokenizer)))


def steps_of_built_in(model, *, B, dtype):
    built_in, images, tokens = _built_in(B)
    path = model.scratch / "built-in"
    if not path.exists():
        huggingface.save(path, built_in.config, built_in.params)
    return _steps(Model(built_in.config, path, model.scratch), images, tokens)


def _steps(model, images, tokens):
    longest, most = _lengths(tokens).max(), model.config.text.context_length
    peers = {f"{TRANSFORMERS}, padded to {most}": most, f"{TRANSFORMERS}, padded to the longest": longest}
    builders = {
        ON_TORCH: lambda: _training(_our_step(model, images, tokens)),
        **{name: lambda T=T: _training(_transformers_step(model, images, tokens, T)) for name, T in peers.items()},
    }
    return Measurement(builders, _close_to(_reference(builders)), len(images), "pairs/s", _flops(model.config, tokens))


def _training(step):
    """A call that takes one more step; its answer is the losses of the first ones, and its own."""
    losses = [step() for _ in range(STEPS - 1)]
    return lambda: [*losses, step()]


def _our_step(model, images, tokens):
    start, _ = api.load(model.path, "numpy")
    learner = learners.make(start.config, start.params, RECIPE)

    def step():
        loss = learner.gradients(images, tokens)
        learner.update(1)
        return loss

    return step


def _transformers_step(model, images, tokens, T):
    """The same texts, padded to T, and the same optimizer."""
    import torch

    theirs = transformers_model(model, "float32").requires_grad_(True).train()
    ps, options = list(theirs.parameters()), {"betas": learners.BETAS, "eps": learners.EPS, "fused": True}
    groups = [
        {"params": [p for p in ps if p.ndim >= 2], "weight_decay": RECIPE.weight_decay},
        {"params": [p for p in ps if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RECIPE.learning_rate, **options)
    batch = {
        "pixel_values": torch.from_numpy(images),
        "input_ids": torch.from_numpy(tokens[:, :T]).long(),
        "attention_mask": torch.from_numpy(np.arange(T) < _lengths(tokens)[:, None]).long(),
    }

    def step():
        optimizer.zero_grad()
        loss = theirs(**batch, return_loss=True).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# --------------------------------------------------------------------------------- the loss of a large batch


def contrastive_loss(model, *, B, E, dtype):
    """The loss of features and its gradients, in chunks and from the whole matrix, and how much memory each takes."""
    builders = {name: lambda name=name: loss_of(name, B, E) for name in (OURS, WHOLE, OPEN_CLIP)}
    memory = {name: lambda name=name: extra_memory(PREPARE, "call()", name, B, E) for name in builders}
    peaks = {}  # of the providers that are installed
    session.attempt(memory, peaks.__setitem__)
    flops = 3 * 2 * B * B * E  # the logits, and back to the two features
    return Measurement(builders, _close_to(_reference(builders)), B, "pairs/s", flops, {"peaks": peaks})


def loss_of(name, B, E):
    """A call: the loss and its gradients on torch, by the provider of this name."""
    import torch

    from miniclip.ops import torch_ops

    ways = {
        OURS: lambda i, t, scale: chunked_loss.contrastive_loss(i, t, scale, ops=torch_ops),
        WHOLE: lambda i, t, scale: loss.contrastive_loss(scale.exp() * (i @ t.T), ops=torch_ops),
    }
    if name == OPEN_CLIP:
        theirs = module_of("open_clip", "loss").ClipLoss()
        ways[OPEN_CLIP] = lambda i, t, scale: theirs(i, t, scale.exp())
    # each text is somewhat near its picture; in place, so that nothing is in memory but the features
    texts, images = torch.randn(2, B, E, generator=torch.Generator().manual_seed(0))
    for x in (images, texts.add_(images, alpha=0.3)):
        x /= x.norm(dim=1, keepdim=True)
    leaves = [x.requires_grad_() for x in (images, texts, torch.tensor(4.0))]

    def call():
        value = ways[name](*leaves)
        return [value.detach(), *torch.autograd.grad(value, leaves)]

    return call


PREPARE = """
from miniclip.bench.cpu_training import loss_of
name, B, E = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
loss_of(name, 64, E)()  # libraries start their threads, and keep some memory
call = loss_of(name, B, E)
"""
