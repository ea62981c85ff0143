"""How well pictures are put into their classes: zero-shot, or by any other classifier that gives probabilities."""

from typing import NamedTuple

import numpy as np

from miniclip.errors import InputError
from miniclip.evaluate import datasets, metrics
from miniclip.zero_shot import class_embeddings, precise_probabilities


class Answers(NamedTuple):
    """What a classifier has said of n pictures: all that the numbers of a report need, five numbers a picture."""

    classes: list[str]  # N
    truth: np.ndarray  # (n,), the class of each picture
    named: np.ndarray  # (n,), the class that is most probable
    confidence: np.ndarray  # (n,), its probability
    ranks: metrics.Ranks  # of the true class

    @property
    def right(self):
        """(n,): whether the most probable class is the true one."""
        return metrics.hits(self.ranks, 1)

    def summary(self):
        """{name of a number: the number}, by CLIP_benchmark's names; the top 5 only if there are more classes."""
        right = self.right
        return {
            "acc1": float(right.mean()),
            **({"acc5": metrics.recall_at_k(self.ranks, 5)} if len(self.classes) > 5 else {}),
            "mean_per_class_recall": metrics.mean_per_class_recall(right, self.truth),
            "ece": metrics.calibration_error(self.confidence, right),
        }

    def confusion(self):
        """(N, N): how often the pictures of a class, down, are named as each class, across."""
        return metrics.confusion(self.truth, self.named, len(self.classes))

    def per_class(self):
        """A dict for each class: how many pictures it has, how many are found, and what the others are mistaken for."""
        N, wrong = len(self.classes), self.named != self.truth
        pictures, given = (np.bincount(x, minlength=N).tolist() for x in (self.truth, self.named))
        found = np.bincount(self.truth[~wrong], minlength=N).tolist()
        recall = metrics.per_class(self.right, self.truth, N).tolist()
        # the mistakes that there are, and not all N² that there might be: those of a class, the most frequent one last
        mistakes, counts = np.unique(np.stack([self.truth, self.named])[:, wrong], axis=1, return_counts=True)  # (2, e)
        order = np.lexsort((-mistakes[1], counts))
        mistaken_for = dict(mistakes[:, order].T.tolist())
        return [
            {
                "class": name,
                "pictures": pictures[i],
                "recall": recall[i] if pictures[i] else None,
                "precision": found[i] / given[i] if given[i] else None,
                "mistaken_for": self.classes[mistaken_for[i]] if i in mistaken_for else None,
            }
            for i, name in enumerate(self.classes)
        ]


def answers(classes, truth, probabilities):
    """The `Answers` of n pictures: probabilities (n, N), truth (n,)."""
    return Answers(
        classes,
        np.asarray(truth),
        probabilities.argmax(axis=1),
        probabilities.max(axis=1),
        metrics.ranks(probabilities, truth),
    )


def zero_shot(model, classes, templates=("{}",)):
    """A classifier of N classes by their texts: a function of features (b, E) that returns probabilities (b, N).

    templates  texts with {} for the label; with several, a class is the mean of its texts
    """
    embeddings = class_embeddings(model, classes, templates)  # (N, E)

    def probabilities(x):
        return precise_probabilities(model, model.ops.to_numpy(model.logits(x, embeddings)))

    return probabilities


def measure(model, preprocess, labelled, classifier, progress=iter):
    """The `Answers` of a classifier, such as `zero_shot`, for `datasets.Labelled` pictures, batch after batch.

    Raises InputError if no picture can be read. Broken ones are named and left out, see `datasets.features`.
    """
    parts = [
        answers(labelled.classes, labelled.truth[numbers], classifier(x))
        for numbers, x in datasets.features(model, preprocess, labelled.pairs, progress)  # (b,), (b, E)
    ]
    if not parts:
        raise InputError(f"{labelled.pairs.source}: none of its pictures can be read")
    return joined(parts)


def joined(parts):
    """One `Answers` of several for the same classes: the pictures of the first, then those of the second, ..."""
    _, *arrays, ranks = zip(*parts)
    return Answers(parts[0].classes, *map(np.concatenate, arrays), metrics.joined(ranks))
