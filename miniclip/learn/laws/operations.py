"""The laws of the operations in `numpy_ops` that see each token by itself, for any backend."""

import math

import numpy as np

from miniclip.learn.laws import law, normal

# --------------------------------------------------------------------------------------------- softmax


@law("softmax")
def weights_are_positive_and_sum_to_one(softmax, rng):
    """the results are not negative and sum to one along the last axis"""
    p = softmax(normal(rng, 4, 9, scale=3))
    yield bool((p >= 0).all()), True
    yield p.sum(-1), np.ones(4)


@law("softmax")
def softmax_is_its_formula(softmax, rng):
    """exp(x_i) / Σ_j exp(x_j) along the last axis, of any number of axes"""
    for shape in [(5,), (3, 4), (2, 3, 7)]:
        x = normal(rng, *shape, scale=3)
        e = np.exp(x.astype(np.float64))
        yield softmax(x), e / e.sum(-1, keepdims=True)


@law("softmax")
def softmax_ignores_shifts(softmax, rng):
    """adding the same number to a whole row changes nothing"""
    x = normal(rng, 3, 6)
    yield softmax(x + rng.integers(-8, 9, (3, 1)).astype(np.float32)), softmax(x)


@law("softmax")
def softmax_survives_large_numbers(softmax, rng):
    """large numbers do not overflow, above zero or below: in every row the largest takes all"""
    x = rng.permuted(np.tile(np.arange(7, dtype=np.float32), (3, 1)), axis=1) * 1000  # (3, 7)
    want = (x == x.max(-1, keepdims=True)).astype(np.float64)
    yield softmax(x - np.array([[1e6], [0], [0]], np.float32)), want  # rows of very different size
    yield softmax(x - 1e5), want


@law("softmax")
def softmax_leaves_its_input(softmax, rng):
    """the input is not changed"""
    x = normal(rng, 4, 5)
    given = x.copy()
    softmax(given)
    yield given, x


# ------------------------------------------------------------------------------------------ quick-GELU


@law("quick_gelu")
def quick_gelu_is_its_formula(quick_gelu, rng):
    """x · σ(1.702 x), σ(z) = 1 / (1 + exp(-z))"""
    x = normal(rng, 3, 50, scale=3)
    wide = x.astype(np.float64)
    yield quick_gelu(x), wide / (1 + np.exp(-1.702 * wide))


@law("quick_gelu")
def quick_gelu_of_small_numbers(quick_gelu, rng):
    """near zero it is x / 2"""
    x = normal(rng, 50, scale=1e-6)
    yield quick_gelu(x), x.astype(np.float64) / 2


@law("quick_gelu")
def quick_gelu_at_the_ends(quick_gelu, rng):
    """x itself far above zero, and 0 far below"""
    yield quick_gelu(np.array([-1e30, 1e30], np.float32)), np.array([0, 1e30])
    yield quick_gelu(np.array([-300, 300], np.float32)), np.array([0.0, 300])


@law("quick_gelu")
def quick_gelu_leaves_its_input(quick_gelu, rng):
    """the input is not changed"""
    x = normal(rng, 4, 5)
    given = x.copy()
    quick_gelu(given)
    yield given, x


# ------------------------------------------------------------------------------------------ layer norm


def exact_layer_norm(x, weight, bias, eps):
    """Row by row, in float64."""
    out = np.zeros(x.shape)
    for row in np.ndindex(x.shape[:-1]):
        numbers = x[row].astype(np.float64)
        mean = sum(numbers) / len(numbers)
        variance = sum((n - mean) ** 2 for n in numbers) / len(numbers)
        out[row] = (numbers - mean) / math.sqrt(variance + eps) * weight + bias
    return out


def _norm_inputs(rng, *shape, scale=1.0):
    D = shape[-1]
    return normal(rng, *shape, scale=scale), normal(rng, D), normal(rng, D)


@law("layer_norm")
def layer_norm_is_its_formula(layer_norm, rng):
    """(x - mean) / √(variance + eps) · weight + bias along the last axis, of any number of axes"""
    for shape in [(2, 3, 8), (4, 5), (2, 3)]:
        x, weight, bias = _norm_inputs(rng, *shape, scale=2)
        yield layer_norm(x, weight, bias, eps=1e-5), exact_layer_norm(x, weight, bias, 1e-5)


@law("layer_norm")
def rows_have_mean_0_and_variance_1(layer_norm, rng):
    """with a weight of 1 and a bias of 0, every row has mean 0 and variance 1"""
    D = int(rng.integers(3, 60))
    y = layer_norm(normal(rng, 4, D, scale=5), np.ones(D, np.float32), np.zeros(D, np.float32), eps=1e-12)
    yield 1 + y.mean(-1), np.ones(4)
    yield np.square(y).mean(-1), np.ones(4)


@law("layer_norm")
def layer_norm_ignores_shift_and_scale(layer_norm, rng):
    """x and 4·x + 2 have the same norm"""
    x, weight, bias = _norm_inputs(rng, 3, 16)
    yield layer_norm(4 * x + 2, weight, bias, eps=1e-12), layer_norm(x, weight, bias, eps=1e-12)


@law("layer_norm")
def eps_stands_below_the_root(layer_norm, rng):
    """if all numbers are small, eps decides: it is added to the variance, not to its square root"""
    x, weight, bias = _norm_inputs(rng, 3, 16, scale=1e-2)
    yield layer_norm(x, weight, bias, eps=1e-2), exact_layer_norm(x, weight, bias, 1e-2)


def far_from_zero(rng, D):
    """Rows (3, D) of c - 1 and c + 1, c of several thousands: c² + 1 is no float32, but (c ± 1 - c)² is 1."""
    signs = rng.permuted(np.tile(np.arange(D, dtype=np.float32) % 2 * 2 - 1, (3, 1)), axis=1)
    return signs + 1000 * rng.integers(5, 10, (3, 1)).astype(np.float32)


@law("layer_norm")
def layer_norm_of_rows_far_from_zero(layer_norm, rng):
    """rows far from zero: the mean is subtracted first and squared after that, or their variance is lost"""
    x, weight, bias = far_from_zero(rng, 64), normal(rng, 64), np.full(64, 1e3, np.float32)  # 1000: within 0.01
    yield layer_norm(x, weight, bias, eps=1e-5), exact_layer_norm(x, weight, bias, 1e-5)


@law("layer_norm")
def layer_norm_of_float16(layer_norm, rng):
    """float16 stays float16, but its statistics are computed in float32: 300² overflows float16"""
    x = np.full((1, 512), 300, np.float16)
    x[0, rng.permutation(512)[:256]] = -300
    y = layer_norm(x, np.ones(512, np.float16), np.zeros(512, np.float16), eps=1e-5)
    yield y.dtype.name, "float16"
    yield y, np.sign(x).astype(np.float64)


@law("layer_norm")
def layer_norm_leaves_its_inputs(layer_norm, rng):
    """the inputs are not changed"""
    arguments = _norm_inputs(rng, 3, 8)
    given = [x.copy() for x in arguments]
    layer_norm(*given, eps=1e-5)
    yield from zip(given, arguments)


# ------------------------------------------------------------------------------------- patch embedding


def strided_convolution(images, weight):
    """Patch by patch, in float64: (B, C, height, width), (D, C, P, P) -> (B, Gy·Gx, D)."""
    B, _, height, width = images.shape
    D, _, P, _ = weight.shape
    corners = [(y, x) for y in range(0, height - P + 1, P) for x in range(0, width - P + 1, P)]
    out = np.zeros((B, len(corners), D))
    for t, (y, x) in enumerate(corners):
        patches = images[:, :, y : y + P, x : x + P].astype(np.float64)  # (B, C, P, P)
        out[:, t] = np.einsum("bcij,dcij->bd", patches, weight)
    return out


def _patches(rng, rest=(0, 0)):
    """images, weight, class token, positions; the last `rest` rows and columns of pixels are no whole patch."""
    P = int(rng.integers(max(2, *rest), 4)) + 1
    Gy, Gx = rng.permutation([2, 3])
    C, D, T = int(rng.choice([1, 3, 4])), 5, 1 + Gy * Gx
    shapes = (2, C, Gy * P + rest[0], Gx * P + rest[1]), (D, C, P, P), (D,), (T, D)
    return [normal(rng, *shape) for shape in shapes]


@law("patch_embed")
def patch_embedding_is_a_strided_convolution(patch_embed, rng):
    """after the class token, token t is the dot product of patch t with each filter, patches row by row"""
    images, weight, class_token, positions = _patches(rng)
    tokens = patch_embed(images, weight, class_token, 0 * positions)
    yield tokens[:, 1:], strided_convolution(images, weight)


@law("patch_embed")
def the_class_token_comes_first(patch_embed, rng):
    """token 0 of every picture is the class token and its position"""
    images, weight, class_token, positions = _patches(rng)
    tokens = patch_embed(images, weight, class_token, positions)
    yield tokens[:, 0], np.stack([class_token + positions[0]] * len(images))


@law("patch_embed")
def every_token_has_its_position(patch_embed, rng):
    """black pictures become the positions alone"""
    images, weight, class_token, positions = _patches(rng)
    tokens = patch_embed(0 * images, weight, 0 * class_token, positions)
    yield tokens, np.stack([positions] * len(images))


@law("patch_embed")
def a_rest_narrower_than_a_patch_is_not_seen(patch_embed, rng):
    """pixels at the right and at the bottom that are no whole patch change nothing"""
    rest = rng.permutation([1, 2])
    images, weight, class_token, positions = _patches(rng, rest)
    tokens = patch_embed(images, weight, class_token, 0 * positions)
    yield tokens[:, 1:], strided_convolution(images[:, :, : -rest[0], : -rest[1]], weight)
