"""What a score depends on: the relevance of a picture's patches and of a text's tokens, and where attention looks.

Builds on the towers as they are. Each takes its operations as an argument; here it gets operations that compute the
same and take notes: of what an attention read, of a convolutional tower's last grid, and of the score's gradient at
that place. From these notes come

    for transformers, gradient times attention, rolled out over layers (Chefer, Gur and Wolf, Generic Attention-model
    Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers, 2021)
    for ResNets and EfficientNets, Grad-CAM at the last grid (Selvaraju et al., Grad-CAM, 2017)

`viz.relevance` draws them.
"""

import contextlib
import functools
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from miniclip.errors import InputError
from miniclip.model import CLIP
from miniclip.ops import Array, numpy_grad, numpy_ops
from miniclip.ops.tape import Variable
from miniclip.towers import bert, efficientnet, resnet, vit
from miniclip.towers import text as clip_text

EXPLAINED = (vit, resnet, efficientnet, clip_text, bert)


class Relevance(NamedTuple):
    """What raises the logits of B pairs of a picture and a text, as ndarrays. No relevance is negative."""

    patches: np.ndarray  # (B, rows, columns): of each patch, or of each cell of the last grid
    tokens: np.ndarray  # (B, T): of each token, 0 after the end
    score: np.ndarray  # (B,): the logits


def relevance(model: CLIP, images: Array, tokens: Array, *, layers: int = 1) -> Relevance:
    """How much each patch of a picture and each token of a text raise their logit.

    images  (C, height, width), or (B, C, height, width), as the model's preprocess makes them
    tokens  (T,), or (B, T), as the model's tokenize makes them. One picture is paired with all texts, one text with all
            pictures
    layers  how many of a transformer's last layers count, at most all. 1 is the default of the authors' notebook for
            CLIP (`start_layer = -1`). More also count what the tokens of the last layer had read before

    Compare only numbers of one picture, or of one text. Raises InputError for pictures and texts that make no pairs,
    for a backend without gradients, for a model without one of its towers, and for towers that are not explained.
    """
    if type(layers) is not int or layers < 1:
        raise InputError(f"layers is {layers!r}, expected how many of the last layers count, 1 or more")
    check_towers(model)
    ops, recording = _differentiable(model)
    images, tokens = _pairs(ops.asarray(images), ops.asarray(tokens))
    is_vit = model.config.visual is not None and model.config.visual.tower is vit
    visual, text = _Noting(ops, model, "visual", layers if is_vit else 0), _Noting(ops, model, "text", layers)
    with recording:
        image_features = _with(model, visual).encode_image(images)  # (B, E)
        text_features = _with(model, text).encode_text(tokens)  # (B, E)
        logits = _with(model, ops).logits(image_features, text_features)  # (B, B)
        score = ops.gather(logits, np.arange(len(logits)))  # (B,): each picture with its own text
        gradients = _gradients(score.sum(), [zeros for zeros, _ in visual.notes + text.notes])
    found = [formula(_wide(ops, x)) for (_, formula), x in zip(visual.notes + text.notes, gradients)]
    of_picture, of_text = found[: len(visual.notes)], found[len(visual.notes) :]
    patches = of_picture[0]
    if is_vit:
        patches = rollout(of_picture, visual.row)[:, 1:].reshape(-1, *model.config.visual.grid)  # no class token
    read = rollout(of_text, text.row)  # (B, up to the last end)
    return Relevance(patches, np.pad(read, [(0, 0), (0, tokens.shape[1] - read.shape[1])]), ops.to_numpy(score))


def attention_maps(model: CLIP, images: Array) -> np.ndarray:
    """Where the token that becomes the feature looks: a weight for each patch, in each layer and head.

    images (C, height, width) -> (L, H, rows, columns), or (B, C, height, width) -> (B, L, H, rows, columns). A map and
    the weight of the token itself sum to one. A ResNet has one layer, its attention pool. It works on all backends.
    Raises InputError for a tower without attention, and for those that are not CLIP's or ALIGN's.
    """
    check_towers(model)
    images = model.ops.asarray(images)
    maps = []

    def trace(name, value):
        if name.endswith("attention_weights"):  # (B, H, T, T), of a ResNet (B, H, 1, T)
            maps.append(model.ops.to_numpy(value[:, :, 0, 1:]))  # (B, H, rows · columns)

    model.encode_image(images if images.ndim == 4 else images[None], trace=trace)
    if not maps:
        raise InputError("this image tower has no attention, so it has no such maps: use explain.relevance")
    found = np.stack(maps, axis=1)  # (B, L, H, rows · columns)
    found = found.reshape(*found.shape[:3], *model.config.visual.grid)
    return found if images.ndim == 4 else found[0]


def check_towers(model):
    """Raise InputError for towers whose feature is more than one token's, or not after the text."""
    for config in (model.config.visual, model.config.text):
        mean = getattr(config, "pool", "first") == "mean"  # of a BERT
        if config is not None and (config.tower not in EXPLAINED or mean):
            raise InputError(
                f"there is no explanation yet for towers of {type(model).__name__}: those of CLIP, ALIGN, Chinese-CLIP "
                f"and AltCLIP are explained"
            )


def words(model: CLIP, text: str, tokens: np.ndarray) -> list[tuple[str, float]]:
    """Each token of a text with its relevance, without the start and the end: tokens (T,), a row of `Relevance`."""
    ids = model.tokenizer.encode(text)
    return [(model.tokenizer.decode([i]).strip(), float(x)) for i, x in zip(ids, tokens[1:-1])]


def visible(preprocess: Any, image: Array) -> np.ndarray:
    """What the model sees of a picture, as colours: (C, height, width) of `preprocess` -> (height, width, C) in 0..1.

    The scaling of colours is undone; the resizing and the crop are not.
    """
    black, white = (np.asarray(preprocess(Image.new("RGB", (1, 1), name)))[:, :1, :1] for name in ("black", "white"))
    return ((np.asarray(image) - black) / (white - black)).transpose(1, 2, 0).clip(0, 1)


# ------------------------------------------------------------------------------------------ the formulas


def attention_relevance(gradient, q, k, v, **mask):
    """The mean over heads of relu(∂score/∂weights · weights), element by element (Chefer et al., 2021, eq. 5).

    Attention computes y = weights @ v, so that ∂score/∂weights = ∂score/∂y @ vᵀ.

    gradient, ∂score/∂y, and q (B, Tq, H, K) · k, v (B, Tk, H, K) · mask as in `numpy_ops.attention` · returns
    (B, Tq, Tk)
    """
    weights = numpy_ops.attention_weights(q, k, **mask)  # (B, H, Tq, Tk)
    dweights = gradient.transpose(0, 2, 1, 3) @ v.transpose(0, 2, 3, 1)  # (B, H, Tq, Tk)
    return np.maximum(dweights * weights, 0).mean(axis=1)


def rollout(cams, row):
    """What one token has read of every token, through all layers: its row of R, without the 1 that I gives it.

        R = I, then for each layer R = R + cam @ R               (Chefer et al., 2021, eq. 6)

    So R is (I + cam_L) ... (I + cam_1), and one row needs no product of matrices: from the left, r = r + r @ cam.

    cams  (B, T, T) for each layer, the first layer first; of the last one only that row, (B, 1, T)
    row   the place of the token, (B,) int, or one for all · returns (B, T)
    """
    *earlier, last = cams
    own = np.eye(last.shape[-1], dtype=last.dtype)[np.broadcast_to(row, len(last))]  # (B, T): the row of I
    r = own + last[:, 0]
    for cam in reversed(earlier):
        r = r + (r[:, None] @ cam)[:, 0]
    return r - own


def grad_cam(gradient, grid):
    """relu(Σ_c α_c grid_c), where α_c is the mean of ∂score/∂grid_c over all cells (Grad-CAM, eq. 1 and 2).

    gradient, ∂score/∂grid, and grid (B, C, rows, columns) · returns (B, rows, columns)
    """
    alpha = gradient.mean(axis=(2, 3), keepdims=True)  # (B, C, 1, 1)
    return np.maximum((alpha * grid).sum(axis=1), 0)


# ------------------------------------------------------------------------------- operations that take notes


class _Noting:
    """Operations that compute what `ops` do, and take notes of attentions and of grids that are pooled.

    notes  of the last `layers` blocks and of what follows the blocks: (zeros, formula). Zeros were added to a value, so
           that their gradient is the value's, and the formula makes a relevance of this gradient
    row    the place of the token that becomes the feature
    """

    def __init__(self, ops, model, tower, layers):
        self._ops, self.notes = ops, []
        self._number = layers - len(model.params.get(tower, {}).get("blocks", ()))  # of a call; notes begin at 0

    def __getattr__(self, name):
        return getattr(self._ops, name)

    def attention(self, q, k, v, *, causal=False, lengths=None):
        y = self._ops.attention(q, k, v, causal=causal, lengths=lengths)
        q, k, v = (_wide(self._ops, x) for x in (q, k, v))
        mask = {"causal": causal, "lengths": None if lengths is None else self._ops.to_numpy(lengths)}
        return self._noted(y, functools.partial(attention_relevance, q=q, k=k, v=v, **mask))

    def grid_tokens(self, x, position_embedding):
        x = self._noted(x, functools.partial(grad_cam, grid=_wide(self._ops, x)))
        return self._ops.grid_tokens(x, position_embedding)

    def global_avg_pool2d(self, x):
        return self._ops.global_avg_pool2d(self._noted(x, functools.partial(grad_cam, grid=_wide(self._ops, x))))

    def gather(self, x, index):
        self.row = index if type(index) is int else self._ops.to_numpy(index)  # towers gather no other token
        return self._ops.gather(x, index)

    def _noted(self, x, formula):
        """x + zeros, in a note with `formula`; x before the last layers."""
        self._number += 1
        if self._number <= 0:
            return x
        zeros = _zeros_like(x)
        self.notes.append((zeros, formula))
        return x + zeros


def _wide(ops, x):
    """`x` as an ndarray, of float32 at least."""
    x = ops.to_numpy(x)
    return x.astype(np.promote_types(x.dtype, np.float32), copy=False)


def _with(model, ops):
    """The model, computed with `ops`."""
    return type(model)(model.config, model.params, ops, dtype=model.dtype)


def _differentiable(model):
    """(the operations that record what they compute, on the model's backend; the context they need for that)."""
    if model.backend == "numpy":
        return numpy_grad, contextlib.nullcontext()
    if model.backend == "torch":
        return model.ops, _recorded_by_torch()
    raise InputError(f"the {model.backend} backend has no gradients: pass backend='numpy' or backend='torch'")


@contextlib.contextmanager
def _recorded_by_torch():
    """Inside, torch records, even if the caller's code runs without gradients."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        yield


def _zeros_like(x):
    """Zeros that a gradient can be asked of."""
    if isinstance(x, (np.ndarray, Variable)):
        return Variable(np.zeros(x.shape, x.dtype))
    return x.new_zeros(x.shape).requires_grad_()


def _gradients(total, leaves):
    """∂total/∂leaf for each leaf."""
    if isinstance(total, Variable):
        total.backward()
        return [leaf.gradient for leaf in leaves]
    import torch

    return torch.autograd.grad(total, leaves)


def _pairs(images, tokens):
    """The same number of pictures and texts: one of either is repeated."""
    images = images[None] if images.ndim == 3 else images  # (B, C, height, width)
    tokens = tokens[None] if tokens.ndim == 1 else tokens  # (B, T)
    if images.ndim == 4 and tokens.ndim == 2 and min(len(images), len(tokens)) > 0:
        B = max(len(images), len(tokens))
        images, tokens = (x[[0] * B] if len(x) == 1 else x for x in (images, tokens))
        if len(images) == len(tokens):
            return images, tokens
    raise InputError(
        f"images are {tuple(images.shape)} and tokens {tuple(tokens.shape)}, expected (B, C, height, width) and "
        f"(B, T): a text for each picture, or one of either for all of the other"
    )
