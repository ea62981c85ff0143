"""How well a model finds the texts of a picture, and the pictures of a text."""

import itertools

import numpy as np

from miniclip import encode
from miniclip.errors import InputError
from miniclip.evaluate import datasets, metrics
from miniclip.ops import numpy_ops

BLOCK = 1 << 24  # similarities in memory at a time
RECALLS = (1, 5, 10)


def retrieval(model, preprocess, pairs, progress=iter):
    """{"text": Ranks of the n pictures among the texts, "image": Ranks of the m texts among the pictures}.

    pairs  `train.data.Pairs`: pictures with any number of captions

    Equal captions are one text: all pictures that have it are right. Without equal captions, recall is that of
    CLIP_benchmark: "text_retrieval" finds texts, "image_retrieval" finds pictures. Only features are kept in memory.
    Raises InputError if no picture can be read. Broken ones are named and left out, see `datasets.features`.
    """
    found = [*datasets.features(model, preprocess, pairs, progress)]
    if not found:
        raise InputError(f"{pairs.source}: none of its pictures can be read")
    kept, images = (np.concatenate(parts) for parts in zip(*found))  # (n,), (n, E)
    theirs = [pairs.captions[i] for i in kept]
    texts = [*dict.fromkeys(itertools.chain.from_iterable(theirs))]  # m
    number = {text: j for j, text in enumerate(texts)}
    picture = np.repeat(np.arange(len(kept)), [len(some) for some in theirs])  # of each pair
    text = np.array([number[text] for text in itertools.chain.from_iterable(theirs)])  # of each pair
    captions = np.concatenate([x for _, x in encode.texts(model, texts)])  # (m, E)
    images, captions = numpy_ops.l2_normalize(images), numpy_ops.l2_normalize(captions)
    return {"text": _ranks(images, captions, picture, text), "image": _ranks(captions, images, text, picture)}


def summary(found):
    """{name of a number: the number} of what `retrieval` returns, recall by CLIP_benchmark's names."""
    numbers = {}
    for what, ranks in found.items():
        for k in RECALLS:
            numbers[f"{what}_retrieval_recall@{k}"] = metrics.recall_at_k(ranks, k)
        numbers[f"{what}_retrieval_mrr"] = metrics.mean_reciprocal_rank(ranks)
        numbers[f"{what}_retrieval_median_rank"] = metrics.median_rank(ranks)
    return numbers


def _ranks(queries, answers, query, answer):
    """`Ranks` of unit features (n, E) among (m, E), in blocks; pair i says that answer[i] is right for query[i]."""
    order = np.argsort(query, kind="stable")
    query, answer = query[order], answer[order]
    step, parts = max(BLOCK // len(answers), 1), []
    for start in range(0, len(queries), step):
        similarity = queries[start : start + step] @ answers.T  # (b, m)
        positives = np.zeros(similarity.shape, bool)
        pairs = slice(*np.searchsorted(query, [start, start + len(similarity)]))
        positives[query[pairs] - start, answer[pairs]] = True
        parts.append(metrics.ranks(similarity, positives))
    return metrics.joined(parts)
