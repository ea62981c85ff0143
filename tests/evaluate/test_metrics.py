"""The numbers of an evaluation: against cases computed by hand, all orders of ties, and other libraries."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from miniclip import InputError
from miniclip.evaluate import metrics

rng = np.random.default_rng(0)


def clip_benchmark_recall(scores, positive_pairs, k):
    """CLIP_benchmark 1.6.2, `recall_at_k` of metrics/zeroshot_retrieval.py and what its `evaluate` makes of it."""
    best = torch.topk(torch.tensor(scores), k, dim=1)[1]  # (n, k)
    one_hot = torch.nn.functional.one_hot(best, num_classes=scores.shape[1])  # (n, k, m)
    true_positives = (one_hot * torch.tensor(positive_pairs)[:, None]).sum(dim=(1, 2))
    return ((true_positives / torch.tensor(positive_pairs).sum(dim=1)) > 0).float().mean().item()


@pytest.mark.parametrize("n, m, each", [(30, 30, 1), (12, 60, 5), (60, 12, 3)])
def test_recall_is_that_of_clip_benchmark(n, m, each):
    scores = rng.normal(size=(n, m))
    positives = np.zeros((n, m), bool)
    for row in positives:
        row[rng.choice(m, each, replace=False)] = True
    found = metrics.ranks(scores, positives)
    for k in (1, 3, 5, 10):
        assert metrics.recall_at_k(found, k) == pytest.approx(clip_benchmark_recall(scores, positives, k))


def test_by_hand():
    scores = [[0.9, 0.1, 0.5], [0.2, 0.8, 0.3], [0.7, 0.6, 0.1]]  # the ranks of the diagonal are 1, 1, 3
    found = metrics.ranks(scores, [0, 1, 2])
    assert [list(x) for x in found] == [[0, 0, 2], [1, 1, 1], [1, 1, 1]]
    assert metrics.recall_at_k(found, 1) == pytest.approx(2 / 3) == metrics.recall_at_k(found, 2)
    assert metrics.recall_at_k(found, 3) == metrics.recall_at_k(found, 100) == 1
    assert metrics.mean_reciprocal_rank(found) == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert metrics.median_rank(found) == 1
    # several right answers: the better one counts
    both = metrics.ranks(scores, np.array([[1, 0, 1], [1, 0, 1], [0, 0, 1]], bool))
    assert metrics.mean_reciprocal_rank(both) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert metrics.median_rank(both) == 2


def test_equal_scores_are_worth_what_guessing_is_worth():
    found = metrics.ranks(np.zeros((7, 100)), np.arange(7))
    assert metrics.recall_at_k(found, 1) == pytest.approx(0.01) and metrics.recall_at_k(found, 5) == pytest.approx(0.05)
    assert metrics.mean_reciprocal_rank(found) == pytest.approx(sum(1 / i for i in range(1, 101)) / 100)
    assert metrics.median_rank(found) == pytest.approx(50.5)


def test_random_scores_have_the_reciprocal_rank_of_guessing():
    found = metrics.ranks(np.random.default_rng(1).normal(size=(20_000, 100)), np.zeros(20_000, int))
    assert metrics.mean_reciprocal_rank(found) == pytest.approx(0.0518738, abs=0.002)  # H(100) / 100
    assert metrics.median_rank(found) == pytest.approx(50.5, abs=1)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_a_tie_is_the_mean_over_all_orders(answers):
    scores, right = (np.array(x) for x in zip(*answers))
    right[0] = True
    found = metrics.ranks(scores[None], right[None])
    places = []  # of the first right answer, for each order of the answers, stably sorted
    for order in itertools.permutations(range(len(answers))):
        ranked = sorted(order, key=lambda i: -scores[i])
        places.append(1 + next(place for place, i in enumerate(ranked) if right[i]))
    assert metrics.median_rank(found) == pytest.approx(np.mean(places))
    assert metrics.mean_reciprocal_rank(found) == pytest.approx(np.mean([1 / place for place in places]))
    for k in range(1, len(answers) + 1):
        assert metrics.recall_at_k(found, k) == pytest.approx(np.mean([place <= k for place in places]))


def test_a_million_queries_take_no_loop():
    """Only where a wrong answer has the score of the right one is anything computed query by query."""
    above, asked = np.arange(1_000_000), []
    one = np.ones_like(above)
    several = metrics.Ranks(above, one + one, one + one)  # two equal scores, both right
    for found in (metrics.Ranks(above, one, one), several):
        metrics.mean_over_orders(found, lambda rank: asked.append(len(rank)) or rank)
        assert metrics.median_rank(found) == 500_000.5
    assert len(asked) == 2


def test_parts_are_joined():
    scores, truth = rng.normal(size=(20, 6)), rng.integers(0, 6, 20)
    parts = [metrics.ranks(scores[i : i + 7], truth[i : i + 7]) for i in (0, 7, 14)]
    assert all(map(np.array_equal, metrics.joined(parts), metrics.ranks(scores, truth)))


def test_classes_against_scikit_learn():
    scores, truth = rng.normal(size=(200, 8)), rng.integers(0, 7, 200)  # nothing is of the last class
    scores[np.arange(200), truth] += 1
    found = metrics.ranks(scores, truth)
    for k in (1, 5):
        assert metrics.recall_at_k(found, k) == pytest.approx(top_k_accuracy_score(truth, scores, k=k, labels=range(8)))
    best = scores.argmax(axis=1)
    kept = best < 7  # scikit-learn warns of answers that are no class of the truth
    assert metrics.mean_per_class_recall(metrics.hits(found, 1)[kept], truth[kept]) == pytest.approx(
        balanced_accuracy_score(truth[kept], best[kept])
    )
    np.testing.assert_array_equal(metrics.confusion(truth, best, 8), confusion_matrix(truth, best, labels=range(8)))


def test_calibration_by_hand():
    confidence, right = [0.9, 0.9, 0.6, 0.6], [1, 0, 0, 1]
    assert metrics.calibration_error(confidence, right) == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    found = metrics.reliability_bins(confidence, right, bins=10)
    assert list(found.count) == [0, 0, 0, 0, 0, 2, 0, 0, 2, 0]  # 0.6 is in (0.5, 0.6], 0.9 in (0.8, 0.9]
    assert found.accuracy[5] == found.accuracy[8] == 0.5 and np.isnan(found.accuracy[0])
    assert metrics.calibration_error([1, 1, 1], [1, 1, 1]) == 0
    assert metrics.calibration_error([1 / 3] * 6, [1, 0, 0] * 2) == pytest.approx(0, abs=1e-12)


def test_reliability_bins_are_those_of_scikit_learn():
    confidence, right = rng.uniform(0.2, 1, 500), rng.integers(0, 2, 500)
    found = metrics.reliability_bins(confidence, right, bins=10)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    used = found.count > 0
    np.testing.assert_allclose(found.accuracy[used], accuracy)
    np.testing.assert_allclose(found.confidence[used], mean)


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="query 1 has no right answer"):
        metrics.ranks(np.zeros((2, 2)), np.array([[True, False], [False, False]]))
    with pytest.raises(InputError, match="not numbers"):
        metrics.ranks([[math.nan, 0]], [0])
