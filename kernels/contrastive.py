"""The losses of contrastive training and their gradients, without the matrix of logits: CLIP's and SigLIP's.

Torch's loss writes B² logits, reads them twice for softmax by row and by column, and keeps them for the backward pass:
for 32,768 pairs 2 GB in 16 bit, and 4 GB for each copy in float32. Here logits are computed a tile at a time, in
registers, and twice:

    sums       Each tile gives the largest logit and the sum of exponentials of its rows, and of its columns. A second,
               small kernel merges them. Then the loss is known.
    gradients  The tile again, and from it ∂ loss / ∂ logits, in the dtype of the features: for one chunk of rows at a
               time, which the library multiplies with texts and pictures.

So there are four products, where three would do with the matrix in memory. A kernel that also multiplies by the
features, as attention does, would need five: a row's gradient is E = 512 or more numbers, which leaves no registers to
sum rows and columns in one program. For SigLIP's loss no sums are needed first, and there are three products.

Nothing is summed by atomics: results are the same in every call. (`miniclip.chunked_loss` has the formulas, and what
several processes compute. Online sums: Milakov and Gimelshein, 2018; recomputed tiles: FlashAttention, Dao et al.)
"""

import functools
import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from miniclip import chunked_loss
from miniclip.kernels import device, ladder
from miniclip.ops.torch_gradients import differentiable

# ------------------------------------------------------------------------------------------- a tile of logits


@triton.jit
def _scores(
    images_ptr, texts_ptr, stride_im, stride_tn, offs_m, offs_n, M, N, E,
    BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WHOLE_E: tl.constexpr,
):  # fmt: skip
    """Products of the features in rows offs_m and offs_n, float32: (M, E) x (E, N) -> (M, N)."""
    offs_k = tl.arange(0, BLOCK_K)[None, :]  # (1, E)
    # Rows beyond the end are read from the beginning, which always exists, and never written.
    image_ptrs = images_ptr + (offs_m % M).to(tl.int64)[:, None] * stride_im + offs_k  # (M, E)
    text_ptrs = texts_ptr + (offs_n % N).to(tl.int64)[:, None] * stride_tn + offs_k  # (N, E)
    acc = tl.zeros([offs_m.shape[0], offs_n.shape[0]], tl.float32)
    for start_k in range(0, E, BLOCK_K):
        if WHOLE_E:
            images, texts = tl.load(image_ptrs + start_k), tl.load(text_ptrs + start_k)
        else:
            images = tl.load(image_ptrs + start_k, mask=start_k + offs_k < E, other=0)
            texts = tl.load(text_ptrs + start_k, mask=start_k + offs_k < E, other=0)
        acc = tl.dot(images, texts.T, acc, input_precision=PRECISION)
    return acc


@triton.jit
def _place(N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """The program's tile: its number from above and from the left, its rows and its columns."""
    num_pid_n = tl.cdiv(N, BLOCK_N)
    pid_m, pid_n = tl.program_id(0) // num_pid_n, tl.program_id(0) % num_pid_n
    return pid_m, pid_n, pid_m * BLOCK_M + tl.arange(0, BLOCK_M), pid_n * BLOCK_N + tl.arange(0, BLOCK_N)


@triton.jit
def _halves(x):
    """The left and the right half of a tile, (M, N) -> two of (M, N/2): an epilogue of half takes fewer registers."""
    return x.reshape(x.shape[0], 2, x.shape[1] // 2).permute(0, 2, 1).split()


@triton.jit
def _store(out_ptr, g, first_m, first_n, M, N):
    """Write a part of a tile to out (M, N). It may begin far away; offsets within it are numbers of 32 bits."""
    rows, columns = tl.arange(0, g.shape[0])[:, None], tl.arange(0, g.shape[1])[None, :]
    out_ptrs = out_ptr + (first_m.to(tl.int64) * N + first_n) + rows * N + columns
    mask = (rows < M - first_m) & (columns < N - first_n)
    tl.store(out_ptrs, g.to(out_ptr.dtype.element_ty), mask=mask)


# -------------------------------------------------------------------------------- the symmetric cross-entropy


@triton.jit
def _sums_kernel(
    images_ptr, texts_ptr, scale_ptr, row_m_ptr, row_l_ptr, column_m_ptr, column_l_ptr, right_ptr,
    stride_im, stride_tn, M, N, E, offset, COLUMNS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WHOLE_E: tl.constexpr,
):  # fmt: skip
    """m = the largest logit and l = Σ exp(logit - m) of each row in a tile, (tiles, M), and of each column, (tiles, N).

    And the logit of each row's own partner, right (M,): column offset + row.
    """
    pid_m, pid_n, offs_m, offs_n = _place(N, BLOCK_M, BLOCK_N)
    acc = _scores(
        images_ptr, texts_ptr, stride_im, stride_tn, offs_m, offs_n, M, N, E, BLOCK_K, PRECISION, WHOLE_E
    )  # fmt: skip
    x = acc * tl.exp(tl.load(scale_ptr).to(tl.float32))  # (M, N)
    partner = offs_m + offset  # (M,)
    right = tl.sum(tl.where(offs_n[None, :] == partner[:, None], x, 0), axis=1)
    tl.store(right_ptr + offs_m, right, mask=(offs_m < M) & (partner // BLOCK_N == pid_n))

    there = tl.where(offs_n[None, :] < N, x, -float("inf"))
    m_i = tl.max(there, axis=1)  # (M,)
    l_i = tl.sum(tl.exp(there - m_i[:, None]), axis=1)
    places = pid_n.to(tl.int64) * M + offs_m
    tl.store(row_m_ptr + places, m_i, mask=offs_m < M)
    tl.store(row_l_ptr + places, l_i, mask=offs_m < M)
    if COLUMNS:
        there = tl.where(offs_m[:, None] < M, x, -float("inf"))
        m_j = tl.max(there, axis=0)  # (N,)
        l_j = tl.sum(tl.exp(there - m_j[None, :]), axis=0)
        places = pid_m.to(tl.int64) * N + offs_n
        tl.store(column_m_ptr + places, m_j, mask=offs_n < N)
        tl.store(column_l_ptr + places, l_j, mask=offs_n < N)


@triton.jit
def _merge_kernel(
    parts_m_ptr, parts_l_ptr, m_ptr, l_ptr, N, num_parts, MORE: tl.constexpr,
    BLOCK_N: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """m and l (N,) of all parts (num_parts, N) together; MORE: and of what m and l hold already."""
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)  # (N,)
    mask = offs_n < N
    m_i, l_i = tl.full([BLOCK_N], -float("inf"), tl.float32), tl.zeros([BLOCK_N], tl.float32)
    if MORE:
        m_i, l_i = tl.load(m_ptr + offs_n % N), tl.load(l_ptr + offs_n % N)
    for start in range(0, num_parts, PARTS):
        offs_s = start + tl.arange(0, PARTS)[:, None]  # (S, 1)
        places = offs_s.to(tl.int64) * N + (offs_n % N)[None, :]
        m_s = tl.load(parts_m_ptr + places, mask=offs_s < num_parts, other=-float("inf"))  # (S, N)
        l_s = tl.load(parts_l_ptr + places, mask=offs_s < num_parts, other=0)
        m_new = tl.maximum(m_i, tl.max(m_s, axis=0))
        l_i = l_i * tl.exp(m_i - m_new) + tl.sum(l_s * tl.exp(m_s - m_new[None, :]), axis=0)
        m_i = m_new
    tl.store(m_ptr + offs_n, m_i, mask=mask)
    tl.store(l_ptr + offs_n, l_i, mask=mask)


@triton.jit
def _gradient_kernel(
    images_ptr, texts_ptr, scale_ptr, row_m_ptr, row_l_ptr, column_m_ptr, column_l_ptr, out_ptr,
    stride_im, stride_tn, M, N, E, offset, smoothing, COLUMNS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WHOLE_E: tl.constexpr,
):  # fmt: skip
    """A tile of softmax by row - targets, with COLUMNS also of softmax by column - targets: out (M, N)."""
    pid_m, pid_n, offs_m, offs_n = _place(N, BLOCK_M, BLOCK_N)
    halves = _halves(
        _scores(images_ptr, texts_ptr, stride_im, stride_tn, offs_m, offs_n, M, N, E, BLOCK_K, PRECISION, WHOLE_E)
    )  # fmt: skip
    scale = tl.exp(tl.load(scale_ptr).to(tl.float32))
    m_i, l_i = tl.load(row_m_ptr + offs_m % M), tl.load(row_l_ptr + offs_m % M)  # (M,)
    for half in tl.static_range(2):
        first_n = pid_n * BLOCK_N + half * (BLOCK_N // 2)
        offs_h = first_n + tl.arange(0, BLOCK_N // 2)  # (N/2,)
        x = halves[half] * scale  # (M, N/2)
        target = tl.where(offs_h[None, :] == offs_m[:, None] + offset, 1 - smoothing, 0.0) + smoothing / N
        g = tl.exp(x - m_i[:, None]) * (1 / l_i)[:, None] - target
        if COLUMNS:
            m_j, l_j = tl.load(column_m_ptr + offs_h % N), tl.load(column_l_ptr + offs_h % N)  # (N/2,)
            g += tl.exp(x - m_j[None, :]) * (1 / l_j)[None, :] - target
        _store(out_ptr, g, pid_m * BLOCK_M, first_n, M, N)


# ---------------------------------------------------------------------------------------------- the sigmoid loss


@triton.jit
def _log1p(x):
    """log(1 + x) for x from 0 to 1, exact for small x: 2 · atanh(s), s = x / (2 + x) <= 1/3, by its series."""
    s = x / (2 + x)
    y = s * s
    series = 1 + y * (1 / 3 + y * (1 / 5 + y * (1 / 7 + y * (1 / 9 + y * (1 / 11 + y * (1 / 13))))))
    return 2 * s * series


@triton.jit
def _sigmoid_kernel(
    images_ptr, texts_ptr, scale_ptr, bias_ptr, loss_ptr, sum_ptr, out_ptr,
    stride_im, stride_tn, M, N, E, offset, GRADIENTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WHOLE_E: tl.constexpr,
):  # fmt: skip
    """A tile of σ(logits) - targets, out (M, N); its sum, and the sum of -log σ(±logits): a number a program."""
    pid_m, pid_n, offs_m, offs_n = _place(N, BLOCK_M, BLOCK_N)
    halves = _halves(
        _scores(images_ptr, texts_ptr, stride_im, stride_tn, offs_m, offs_n, M, N, E, BLOCK_K, PRECISION, WHOLE_E)
    )  # fmt: skip
    scale, bias = tl.exp(tl.load(scale_ptr).to(tl.float32)), tl.load(bias_ptr).to(tl.float32)
    losses, sums = 0.0, 0.0
    for half in tl.static_range(2):
        first_n = pid_n * BLOCK_N + half * (BLOCK_N // 2)
        offs_h = first_n + tl.arange(0, BLOCK_N // 2)  # (N/2,)
        mask = (offs_m[:, None] < M) & (offs_h[None, :] < N)
        sign = tl.where(offs_h[None, :] == offs_m[:, None] + offset, -1.0, 1.0)
        x = sign * (halves[half] * scale + bias)  # (M, N/2)
        # -log σ(-x) = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which cannot overflow
        small = tl.exp(-tl.abs(x))
        # Sums of all at once: Triton 3.7.1 cannot compile sums by row of half a product for compute capability 10.0.
        losses += tl.sum(tl.where(mask, tl.maximum(x, 0) + _log1p(small), 0))
        if GRADIENTS:
            g = sign * tl.where(x >= 0, 1, small) / (1 + small)
            sums += tl.sum(tl.where(mask, g, 0))
            _store(out_ptr, g, pid_m * BLOCK_M, first_n, M, N)
    tl.store(loss_ptr + tl.program_id(0), losses)
    if GRADIENTS:
        tl.store(sum_ptr + tl.program_id(0), sums)


# ------------------------------------------------------------------------------------------- calling them

# Not measured yet.
SMALL = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3}
TILES = {  # {(least capability, any size): tiles}
    (80, math.inf): SMALL,
    (90, math.inf): {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    (120, math.inf): SMALL,
}
FLOAT32_TILES = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}
LOGITS, LEAST_ROWS = 2**26, 1024  # gradients of so many logits exist at once, 128 MB in 16 bit; whole rows


def contrastive_loss(
    image_features, text_features, logit_scale, *, label_smoothing=0.0, chunk=None, all_images=None, all_texts=None,
    offset=0,
):  # fmt: skip
    """`chunked_loss.contrastive_loss` on a GPU: features (b, E), logit_scale () of any dtype -> () float32.

    Logits are float32, and their gradients are of the features' dtype, as in torch. Differentiable once.
    """
    function = functools.partial(_contrastive, label_smoothing=label_smoothing, chunk=chunk, offset=offset)
    return differentiable(function, image_features, text_features, logit_scale, all_images, all_texts)


def sigmoid_loss(
    image_features, text_features, logit_scale, logit_bias, *, chunk=None, all_texts=None, offset=0
):  # fmt: skip
    """`chunked_loss.sigmoid_loss` on a GPU: see `contrastive_loss`."""
    function = functools.partial(_sigmoid, chunk=chunk, offset=offset)
    return differentiable(function, image_features, text_features, logit_scale, logit_bias, all_texts)


def _contrastive(images, texts, logit_scale, all_images, all_texts, *, offset, **options):
    cross_entropy = functools.partial(_cross_entropy, (logit_scale,), **options)
    return chunked_loss.in_both_directions(cross_entropy, images, texts, all_images, all_texts, offset)


def _sigmoid(images, texts, logit_scale, logit_bias, all_texts, *, offset, **options):
    partners, offset = (texts, None) if all_texts is None else (all_texts, offset)
    loss, (d_images, d_partners, *rest) = _pairs((logit_scale, logit_bias), images, partners, offset=offset, **options)
    d_texts, d_all_texts = (d_partners, None) if all_texts is None else (None, d_partners)
    return loss, (d_images, d_texts, *rest, d_all_texts)


# Scale and bias are in a tuple because they may be of another dtype than the features: float32 beside bfloat16.


@device.launches(name="contrastive_loss")
def _cross_entropy(scalars, features, partners, *, label_smoothing, chunk, gradients, offset=0, both=False):
    """Half the mean cross-entropy of the rows of logits, `both`: and of the columns: `chunked_loss._cross_entropy`."""
    chunked_loss.check(features, partners, None if both else offset, chunk)
    features, partners, options = _prepared(features, partners, scalars)
    (m_i, l_i), (m_j, l_j), right = _sums(features, partners, scalars, options, chunk, offset, both)
    scale = scalars[0].float().exp()
    mean = scale * features.mean(0, dtype=torch.float32) @ partners.mean(0, dtype=torch.float32)  # of all logits
    loss = sum(
        (torch.log(l) - (1 - label_smoothing) * (right - m) - label_smoothing * (mean - m)).mean()
        for m, l in ((m_i, l_i), (m_j, l_j))[: 1 + both]  # noqa: E741
    )
    if not gradients:
        return loss / 2, (None, None, None)
    d_features, d_partners, n, N = *_zeros(features, partners), len(features), len(partners)
    for rows, M, tiles in _chunks(n, N, chunk, options):
        g = torch.empty(M, N, dtype=features.dtype, device=features.device)
        _gradient_kernel[(math.prod(tiles),)](
            features[rows], partners, scalars[0], m_i[rows], l_i[rows], m_j, l_j, g, features.stride(0),
            partners.stride(0), M, N, features.shape[1], offset + rows.start, label_smoothing, COLUMNS=both, **options,
        )  # fmt: skip
        d_features[rows] = g @ partners
        d_partners += g.T @ features[rows]
    d_features *= scale / (2 * n)
    d_partners *= scale / (2 * n)
    return loss / 2, (d_features, d_partners, (features * d_features).sum())


def _sums(features, partners, scalars, options, chunk, offset, both):
    """The largest logit and the sum of exponentials of each row, and with `both` of each column; partners' logits.

    -> (m_i, l_i) (n,), (m_j, l_j) (N,) or None, right (n,): float32.
    """
    new = functools.partial(torch.empty, dtype=torch.float32, device=features.device)
    n, N = len(features), len(partners)
    of_rows, right = (new(n), new(n)), new(n)
    of_columns = (new(N), new(N)) if both else (None, None)
    for rows, M, (tiles_m, tiles_n) in _chunks(n, N, chunk, options):
        row_parts = new(tiles_n, M), new(tiles_n, M)
        column_parts = (new(tiles_m, N), new(tiles_m, N)) if both else (None, None)
        _sums_kernel[(tiles_m * tiles_n,)](
            features[rows], partners, scalars[0], *row_parts, *column_parts, right[rows], features.stride(0),
            partners.stride(0), M, N, features.shape[1], offset + rows.start, COLUMNS=both, **options,
        )  # fmt: skip
        _merge(row_parts, [x[rows] for x in of_rows], more=False)
        if both:
            _merge(column_parts, of_columns, more=rows.start > 0)
    return of_rows, of_columns, right


def _merge(parts, sums, *, more):
    """Merge the sums of all parts into `sums`; more: it has those of earlier parts already."""
    num_parts, N = parts[0].shape
    PARTS = min(128, triton.next_power_of_2(num_parts))
    _merge_kernel[(triton.cdiv(N, 32),)](*parts, *sums, N, num_parts, MORE=more, BLOCK_N=32, PARTS=PARTS)


@device.launches(name="sigmoid_loss")
def _pairs(scalars, features, partners, *, chunk, offset, gradients):
    """(loss, (∂ features, ∂ partners, ∂ logit_scale, ∂ logit_bias)): `chunked_loss.sigmoid_loss_and_gradients`."""
    chunked_loss.check(features, partners, offset, chunk)
    features, partners, options = _prepared(features, partners, scalars)
    d_features, d_partners, n, N = *_zeros(features, partners), len(features), len(partners)
    losses, sums = [], []
    for rows, M, tiles in _chunks(n, N, chunk, options):
        new = functools.partial(torch.empty, device=features.device)
        loss, d_bias = (new(math.prod(tiles), dtype=torch.float32) for _ in range(2))
        g = new(M, N, dtype=features.dtype) if gradients else None
        _sigmoid_kernel[(math.prod(tiles),)](
            features[rows], partners, *scalars, loss, d_bias, g, features.stride(0), partners.stride(0), M, N,
            features.shape[1], (offset or 0) + rows.start, GRADIENTS=gradients, **options,
        )  # fmt: skip
        losses.append(loss.sum())
        if gradients:
            sums.append(d_bias.sum())
            d_features[rows] = g @ partners
            d_partners += g.T @ features[rows]
    if not gradients:
        return sum(losses) / n, (None,) * 4
    scale = scalars[0].float().exp()
    d_features *= scale / n
    d_partners *= scale / n
    return sum(losses) / n, (d_features, d_partners, (features * d_features).sum(), sum(sums) / n)


def _prepared(features, partners, scalars):
    """Features whose rows are whole in memory, and the constants of their kernels."""
    device.expect_scalars(features, **dict(zip(("logit_scale", "logit_bias"), scalars)))
    features, partners = (x if x.stride(-1) == 1 else x.contiguous() for x in (features, partners))
    config = device.count_warps(FLOAT32_TILES if features.dtype == torch.float32 else device.choose(TILES, math.inf))
    whole = features.shape[1] % config["BLOCK_K"] == 0
    return features, partners, {"PRECISION": device.dot_precision(features.dtype), "WHOLE_E": whole, **config}


def _chunks(n, N, chunk, options):
    """(rows, their number, tiles downwards and across) of one chunk of n rows of N logits after the other."""
    chunk = chunk or max(LEAST_ROWS, LOGITS // N)
    for start in range(0, n, chunk):
        rows = slice(start, min(start + chunk, n))
        M = rows.stop - start
        yield rows, M, (triton.cdiv(M, options["BLOCK_M"]), triton.cdiv(N, options["BLOCK_N"]))


def _zeros(*tensors):
    return (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in tensors)


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, B, E, bias=False):
    """Features of about unit length, whose logits have a size for which float32 as three products of tf32 suffices."""
    features = {"images": new(B, E).mul_(E**-0.5), "texts": new(B, E).mul_(E**-0.5)}
    return {**features, "logit_scale": new().fill_(math.log(10)), **({"logit_bias": new().fill_(-3)} if bias else {})}


def contrastive_gradients(images, texts, logit_scale):
    """A step forward and one back: (∂ images, ∂ texts, ∂ logit_scale (1,), the loss (1,))."""
    options = {"label_smoothing": 0.0, "chunk": None, "offset": 0, "gradients": True}
    loss, (d_images, d_texts, d_scale, *_) = _contrastive(images, texts, logit_scale, None, None, **options)
    return *(x.to(images.dtype) for x in (d_images, d_texts, d_scale[None])), loss[None]


def sigmoid_gradients(images, texts, logit_scale, logit_bias):
    """A step forward and one back: (∂ images, ∂ texts, ∂ logit_scale (1,), ∂ logit_bias (1,), the loss (1,))."""
    options = {"chunk": None, "offset": 0, "gradients": True}
    loss, (d_images, d_texts, d_scale, d_bias, _) = _sigmoid(images, texts, logit_scale, logit_bias, None, **options)
    return *(x.to(images.dtype) for x in (d_images, d_texts, d_scale[None], d_bias[None])), loss[None]


contrastive_gradients.versions = sigmoid_gradients.versions = _cross_entropy.versions


def _plain(images, texts, logit_scale, logit_bias=None):
    with torch.enable_grad():
        tensors = [x.detach().requires_grad_() for x in (images, texts, logit_scale, logit_bias) if x is not None]
        logits = tensors[2].exp() * tensors[0] @ tensors[1].T
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if logit_bias is None:
            right = torch.arange(len(logits), device=logits.device)
            loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        else:
            signs = 2 * torch.eye(len(logits), device=logits.device) - 1
            loss = -F.logsigmoid(signs * (logits + tensors[3])).sum() / len(logits)
        found = torch.autograd.grad(loss, tensors)
        return *(x if x.ndim else x[None] for x in found), loss.detach()[None]


def _memeff(images, texts, logit_scale):
    from memeff.clip_loss import MemoryEfficientCLIPLoss  # if it is there: pip install memeff

    # `stable`, its default, multiplies the gradient by √(B · temperature)
    loss_of = MemoryEfficientCLIPLoss(math.exp(-logit_scale.item()), normalized_inputs=True, stable=False)
    with torch.enable_grad():
        tensors = [x.detach().requires_grad_() for x in (images, texts)]
        loss = loss_of(*tensors)
        d_images, d_texts = torch.autograd.grad(loss, tensors)
    d_scale = (images * d_images).sum(dtype=torch.float32)  # its temperature is not learned
    return d_images, d_texts, d_scale.to(images.dtype)[None], loss.detach()[None]


_SHARED = {
    "plain": _plain,
    "rows": (),  # every row's gradient depends on all rows
    "small": ({"B": 5, "E": 37}, {"B": 150, "E": 24}),
    "clip": ({"B": 16_384, "E": 512}, {"B": 8192, "E": 768}),
}
KERNELS = {
    "contrastive_gradients": ladder.Kernel(
        ours=contrastive_gradients,
        inputs=_inputs,
        work=lambda B, E: (6 * B * B * E, 4 * B * E + 2),
        peers={"memeff": _memeff},
        **_SHARED,
    ),
    "sigmoid_gradients": ladder.Kernel(
        ours=sigmoid_gradients,
        inputs=functools.partial(_inputs, bias=True),
        work=lambda B, E: (6 * B * B * E, 4 * B * E + 4),
        **_SHARED,
    ),
}

if __name__ == "__main__":
    ladder.show(KERNELS)
