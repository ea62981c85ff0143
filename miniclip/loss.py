"""The loss that CLIP and ALIGN are trained with, on any backend; torch's and JAX's differentiate it."""

import numpy as np

from miniclip.ops import numpy_ops


def contrastive_loss(logits, *, ops=numpy_ops, label_smoothing=0.0):
    """The mean of two cross-entropies: each picture must find its text, each text its picture (CLIP, fig. 3).

    logits (B, B): row i's partner is column i · label_smoothing: the share of a target that is spread evenly over all B
    (Rethinking the Inception Architecture, sec. 7), 0 for CLIP, 0.1 for ALIGN · returns ().
    """
    return (_cross_entropy(ops, logits, label_smoothing) + _cross_entropy(ops, logits.T, label_smoothing)) / 2


def _cross_entropy(ops, logits, label_smoothing):
    x = ops.log_softmax(logits)  # (B, B)
    partners = ops.pool(x, np.arange(len(x)))  # (B,)
    return -(1 - label_smoothing) * partners.mean() - label_smoothing * x.mean()
