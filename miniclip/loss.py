"""The training loss of CLIP and ALIGN, on any backend, and its gradient in NumPy."""

import numpy as np

from miniclip.ops import numpy_ops


def contrastive_loss(logits, *, ops=numpy_ops, label_smoothing=0.0):
    """The mean of two cross-entropies: each picture must find its text, each text its picture (CLIP, fig. 3).

    logits (B, B): picture i belongs to text i · label_smoothing: the share of a target that is spread evenly over all B
    (Rethinking the Inception Architecture, sec. 7), 0 for CLIP, 0.1 for ALIGN · returns ().
    """
    return (_cross_entropy(ops, logits, label_smoothing) + _cross_entropy(ops, logits.T, label_smoothing)) / 2


def _cross_entropy(ops, logits, label_smoothing):
    x = ops.log_softmax(logits)  # (B, B)
    partners = ops.gather(x, np.arange(len(x)))  # (B,) the diagonal: log-probabilities of the right partners
    return -(1 - label_smoothing) * partners.mean() - label_smoothing * x.mean()


def contrastive_loss_gradient(logits, *, label_smoothing=0.0):
    """∂ contrastive_loss / ∂ logits, derived by hand: probabilities minus targets, by row and by column.

    ((softmax(logits) - target) + (softmax(logitsᵀ) - target)ᵀ) / 2B, since the gradient of a cross-entropy is
    p - target.
    logits (B, B) ndarray · target (B, B): label_smoothing / B everywhere, plus 1 - label_smoothing on the diagonal ·
    returns (B, B).
    """
    B = len(logits)
    target = (1 - label_smoothing) * np.eye(B, dtype=logits.dtype) + label_smoothing / B  # (B, B)
    by_picture = numpy_ops.softmax(logits) - target  # (B, B)
    by_text = numpy_ops.softmax(logits.T) - target  # (B, B), one row per text
    return (by_picture + by_text.T) / (2 * B)
