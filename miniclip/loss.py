"""The losses of contrastive training, from logits: on any backend, and their gradients in NumPy.

CLIP and ALIGN are trained with the symmetric cross-entropy, SigLIP with the sigmoid loss. `chunked_loss` computes both
from features, without the matrix of logits.
"""

import numpy as np

from miniclip.ops import dtype_name, numpy_ops


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


def sigmoid_loss(logits, *, ops=numpy_ops):
    """SigLIP's loss, where each picture and text are judged alone: do they belong together? (Zhai et al., 2023, eq. 1)

    -1/B · Σ_ij log σ(z_ij · logits_ij), z = 1 on the diagonal and -1 elsewhere: divided by B, not by all B² pairs.

    logits (B, B): exp(logit_scale) · cosines + logit_bias; picture i belongs to text i · returns ().
    """
    B = len(logits)
    # σ(x) is the first of softmax(x, 0), and σ(-x) the second: each pair chooses between "they do" and "they do not"
    choice = ops.asarray([1.0, 0.0], device=getattr(logits, "device", None), dtype=dtype_name(logits.dtype, ops))
    x = ops.log_softmax(logits.reshape(B * B, 1) * choice)  # (B·B, 2)
    right = ops.gather(x, 1 - np.eye(B, dtype=np.int64).reshape(B * B))  # (B·B,)
    return -B * right.mean()


def sigmoid_loss_gradient(logits):
    """∂ sigmoid_loss / ∂ logits, derived by hand: (σ(logits) - target) / B, again a probability minus its target.

    For -log σ(x) has the derivative σ(x) - 1, and -log σ(-x) has σ(x).
    logits (B, B) ndarray · target (B, B): 1 on the diagonal, 0 elsewhere · returns (B, B).
    """
    B = len(logits)
    return (numpy_ops.sigmoid(logits) - np.eye(B, dtype=logits.dtype)) / B
