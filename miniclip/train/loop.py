"""The training loop: batches in, a model file out. A training can be stopped at any step, and resumed.

Builds on a learner, which has the model, its gradients and its optimizers: `torch_learner` or `numpy_learner`. Recipe,
data and seed determine a run: one that was stopped and resumed gives the same model as one that was not.
"""

import contextlib
import logging
import math
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from miniclip.checkpoints import peft
from miniclip.errors import InputError
from miniclip.train import state
from miniclip.train.metrics import Metrics, check_curve
from miniclip.train.recipe import schedule

logger = logging.getLogger("miniclip.train")
PAUSE = 20  # before the next state, times what writing the last one took


def fit(learner, batches, recipe, *, done=0):
    """Train the learner's model in place: a generator that yields (finished steps, loss) after each step.

    batches  an iterable of (images (B, C, height, width), B captions); caption i belongs to picture i
    done     the number of steps that are finished already; `batches` begin after them
    """
    for step, (images, captions) in zip(range(done, recipe.steps), batches):
        yield step + 1, learner.step(images, captions, schedule(step, recipe))


@dataclass
class Evaluation:
    """What is measured while a model is trained, and when the training may end early.

    measure   a function: model -> {name: number}
    every     steps between two evaluations; there is one after the last step, too
    score     the name of the number that should grow. The training ends with the parameters of its best evaluation
    patience  it ends after so many evaluations without a better score; None: after all steps
    """

    measure: Callable
    every: int
    score: str
    patience: int | None = None
    scores: list[float] = field(default_factory=list)
    best: dict[str, np.ndarray] = field(default_factory=dict)  # the trained parameters then

    def __post_init__(self):
        for name, x in [("every", self.every), ("patience", 1 if self.patience is None else self.patience)]:
            if x < 1:
                raise InputError(f"{name} is {x}, expected at least 1")

    def __call__(self, learner):
        """Evaluate; returns the numbers."""
        numbers = learner.measure(self.measure)
        if not self.scores or numbers[self.score] > max(self.scores):
            self.best = {name: x.copy() for name, x in learner.parameters().items()}
        self.scores.append(numbers[self.score])
        return numbers

    def settings(self):
        """The numbers of it that decide which parameters a training ends with."""
        return {"score": self.score, "every": self.every, "patience": self.patience}

    def is_over(self):
        """Whether the best score is `patience` evaluations old."""
        if self.patience is None or not self.scores:
            return False
        return len(self.scores) - 1 - int(np.argmax(self.scores)) >= self.patience


def train(
    path, learner, batches, recipe, *, write, settings=None, resume=False, state_every=20, evaluation=None,
    tensorboard=None, progress=True,
):  # fmt: skip
    """Train, and write the model to `path` by calling write(path, learner).

    batches      a function: number of finished steps -> an iterable of batches, as `fit` takes them
    settings     {name: number or text}: what determines the training besides its recipe. A state of others is refused
    state_every  steps between two states in `path` + ".state", where `resume` continues; more, if writing them would
                 take more than a twentieth of the time. There is one after Ctrl-C
    evaluation   an Evaluation, None: without
    tensorboard  a folder for TensorBoard's files, None: without
    progress     whether a bar is shown

    `path` + ".jsonl" gets a line for each step. Raises KeyboardInterrupt after Ctrl-C, and InputError if `path` cannot
    be written, if there is a state without `resume`, for `resume` without a state, and if the loss or a parameter is no
    longer a finite number: then neither the last state nor a model's file is written over.
    """
    check_start(path, resume)
    if state_every < 1:
        raise InputError(f"state_every is {state_every}, expected at least 1 step")
    path, kept = Path(path), state.state_of(path)
    settings = asdict(recipe) | (settings or {}) | (evaluation.settings() if evaluation else {})
    done = state.load(kept, settings, learner, evaluation) if resume else 0
    writes = learner.rank == 0  # of several processes, the first one
    looks = {"unit": "step", "dynamic_ncols": True, "mininterval": 1, "disable": not (progress and writes)}
    shown = {}  # beside the loss
    with (
        contextlib.closing(Metrics(path if writes else None, done, tensorboard)) as metrics,
        tqdm(total=recipe.steps, initial=done, **looks) as bar,
        _after_the_step() as interrupted,
    ):
        next_state = 0.0  # not before this time
        # a training that was stopped between its last step and its file may be over already
        for step, loss in [] if evaluation and evaluation.is_over() else fit(learner, batches(done), recipe, done=done):
            if not math.isfinite(loss):
                raise _diverged(step, f"the loss is {loss}")
            bar.update()
            numbers = {"loss": loss, "learning_rate": recipe.learning_rate * schedule(step - 1, recipe)}
            numbers |= learner.numbers()
            if evaluation and (step % evaluation.every == 0 or step == recipe.steps):
                numbers |= evaluation(learner)
                shown[evaluation.score] = f"{numbers[evaluation.score]:.3f}"
            if step % 10 == 0:
                bar.set_postfix(loss=f"{loss:.3f}", **shown)
            metrics(step, **numbers)
            over = step == recipe.steps or bool(evaluation and evaluation.is_over())
            ends = over or interrupted  # then too: the file may not fit on the disk
            if ends or step % state_every == 0:
                if not all(np.isfinite(x).all() for x in learner.parameters().values()):  # the last step broke it
                    raise _diverged(step, "a parameter is infinite or not a number")
                begun = time.monotonic()
                if writes and (ends or begun >= next_state):
                    state.save(kept, step, settings, learner, evaluation)
                    next_state = time.monotonic() + PAUSE * (time.monotonic() - begun)
            if interrupted:
                raise KeyboardInterrupt
            if over:
                break
    if evaluation and evaluation.best:
        learner.set_parameters(evaluation.best)
        if writes:
            best = max(evaluation.scores)
            step = min(evaluation.every * (1 + evaluation.scores.index(best)), recipe.steps)
            logger.info(
                "the best %s is %.3f, after %d steps: these parameters are written", evaluation.score, best, step
            )
    if writes:
        write(path, learner)
        kept.unlink(missing_ok=True)


def check_start(path, resume):
    """Raise InputError if a training cannot begin: now, not after minutes, and before anything is written."""
    check_writable(path)
    check_curve(path)
    kept = state.state_of(path)
    if kept.exists() and not resume:
        raise InputError(f"{kept}: is the state of an unfinished training; pass --resume to continue it, or delete it")


def check_writable(path):
    """Raise InputError if nothing can be written beside `path`."""
    path = Path(path)
    if not path.parent.is_dir() or (path.is_dir() and not peft.is_adapter(path)):
        raise InputError(f"{path}: cannot be written: expected a file in an existing directory")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def _diverged(step, what):
    return InputError(
        f"{what} in step {step}: the training diverges, and ends without a model; pass a smaller learning_rate or "
        f"muon_learning_rate, or a longer warmup"
    )


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
