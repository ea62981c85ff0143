"""Training's cases of `miniclip bench cpu`: refused answers, and what is recorded. No test measures a speed."""

import sys

import numpy as np
import pytest

from miniclip import CLIPConfig, TextConfig, VisionConfig
from miniclip.bench import cpu, cpu_training, timing
from miniclip.bench.measurement import OURS
from miniclip.errors import WrongAnswer
from miniclip.ops import numpy_gradients
from miniclip.train import learners, torch_learner

TINY = CLIPConfig(VisionConfig(32, 8, 64, 2, 1, 96), TextConfig(77, 49408, 64, 2, 1, 96), 16)
CASES = {
    case.prepare.__name__: case._replace(shape={name: {"B": 3, "E": 8}[name] for name in case.shape})
    for case in cpu.CASES
    if case.prepare.__module__ == cpu_training.__name__
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return cpu.save_random(TINY, tmp_path_factory.mktemp("model"))


def record_of(name, model, monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)
    monkeypatch.setattr(timing, "LEAST_ROUNDS", 1)
    return cpu.measure(CASES[name], model, 1, {})


def test_one_word_chooses_all_of_them(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(cpu.session, "run", lambda cases, *others: seen.extend(cases))
    cpu.run(only="training", out=tmp_path, config=TINY)
    assert [case.prepare.__name__ for case in seen] == list(CASES) and len(CASES) == 4


@pytest.mark.parametrize("name", CASES)
def test_an_answer_that_is_a_little_wrong_is_noticed(model, monkeypatch, name):
    monkeypatch.setattr(cpu_training, "extra_memory", lambda *work: None)  # which starts processes
    case = CASES[name]
    m = case.prepare(model, dtype=case.dtype, **case.shape)
    right = [np.asarray(x).copy() for x in m.builders[case.ours]()()]
    m.check(case.ours, right)
    for i, x in enumerate(right):
        with pytest.raises(WrongAnswer):
            m.check(case.ours, [*right[:i], x + 1e-3 * np.linalg.norm(x), *right[i + 1 :]])


def test_gradients_of_ours_that_differ_from_torchs_are_not_timed(model, monkeypatch):
    backward = numpy_gradients.layer_norm_gradient
    wrong = lambda *x, **options: tuple(1.001 * d for d in backward(*x, **options))  # noqa: E731
    monkeypatch.setattr(numpy_gradients, "layer_norm_gradient", wrong)
    record = record_of("gradients", model, monkeypatch)
    assert "the error is" in record["skipped"][OURS] and record["value"] is None


@pytest.mark.parametrize("fault", ["no update", "another rate"])
def test_steps_of_ours_that_differ_from_transformers_are_not_timed(model, monkeypatch, fault):
    update = torch_learner.Learner.update
    faults = {"no update": lambda self, rate: None, "another rate": lambda self, rate: update(self, 0.9 * rate)}
    monkeypatch.setattr(torch_learner.Learner, "update", faults[fault])
    record = record_of("steps", model, monkeypatch)
    assert "the error is" in record["skipped"]["miniclip on torch"] and record["value"] is None


def test_without_transformers_ours_is_measured_alone(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    record = record_of("steps_of_built_in", model, monkeypatch)
    assert list(record["times"]) == ["miniclip on torch"] and len(record["skipped"]) == 2
    assert record["best_peer"] is None and record["share_of_limit"] > 0


def test_without_torch_the_gradients_of_numpy_are_measured(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("miniclip.ops.torch_ops", learners.LEARNERS["torch"]):
        monkeypatch.delitem(sys.modules, name, raising=False)
    record = record_of("gradients", model, monkeypatch)
    assert list(record["times"]) == [OURS] and "needs torch" in record["skipped"][cpu_training.AUTOGRAD]


def test_the_record_of_the_loss_says_how_much_memory_each_takes(model, monkeypatch):
    B = 2048
    m = cpu_training.contrastive_loss(model, B=B, E=8, dtype="float32")
    ours, whole, theirs = (m.facts["peaks"][name] for name in (OURS, cpu_training.WHOLE, cpu_training.OPEN_CLIP))
    if sys.platform == "linux":
        assert min(whole, theirs) > 4 * 4 * B * B > ours > 4 * B * B  # bytes of whole matrices
