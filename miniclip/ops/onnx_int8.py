"""Products of 8-bit integers, recorded: weights are rounded once, activations as they come.

Builds on `graph`; `compiled` calibrates weights for "int8", and `onnx_ops` records these products for them. As in
LLM.int8() (Dettmers et al., 2022, sec. 2.1.1), every row of x and every output channel has a scale of its own:

    x @ weight.T ≈ (round(127 x / a) @ round(127 weight / w).T) · a w / 127²,    a = max |x| of a row, w = max |weight|

So a token's result depends on no other token, and a picture's feature on no other picture of the batch. A channel that
is 50 times as large as the others would leave those only a few of the 255 steps. As in SmoothQuant (Xiao et al., 2023,
eq. 4), it gives half of that to its weights, which changes nothing in exact arithmetic:

    x @ weight.T = (x / f) @ (weight · f).T,    f = √(max |x| / max |weight|) of each input channel

max |x| comes from a calibration. The nodes are ONNX's own. ONNX Runtime joins QuantizeLinear, DequantizeLinear and
MatMul to MatMulIntegerToFloat, and OpenVINO to a product of integers; both are fastest with activations in uint8.
"""

import numpy as np

from miniclip import params
from miniclip.ops.graph import Value

STEP = np.float32(1 / 127)
ZERO = np.uint8(128)  # where 0 is in the activations' uint8
WHITE = 2.0  # about what a white pixel becomes when a picture is prepared
LONG = 77  # tokens, of a text that calibrates: as many as in CLIP
SMALLEST = np.float32(1e-30)  # largest value, so that a row of zeros is not divided by 0
NARROWEST = 1e-5  # of a channel's largest value, as a part of the largest of all channels


class Weight(np.ndarray):
    """A weight (out, in) whose products are to be of 8-bit integers; its rows are Weights with the same `factors`.

    It observes what it is multiplied with.

    largest  (in,) of each input channel the largest absolute value that there was
    factors  (in,) what inputs are divided by, and weights multiplied; None: not calibrated
    """

    largest, factors = np.float32(0), None

    def __array_finalize__(self, whole):
        self.factors = getattr(whole, "factors", None)

    def __matmul__(self, columns):
        self.largest = np.maximum(self.largest, _largest(columns, 1))
        return np.asarray(self) @ columns


def calibrated(function, parameters, shape=None):
    """A tower's parameters, with Weights that have factors. This takes about as long as two pictures in NumPy.

    function(*inputs, **parameters) computes the tower in NumPy: for two pictures of this `shape`, (C, height, width),
    one of noise and one all white; if it is None, for texts of random tokens. They are the same each time.
    A convolutional tower gets no Weights: it is computed in float32.
    """
    flat = {name: np.asarray(x, np.float32) for name, x in params.flatten(parameters).items()}
    if any(x.ndim == 4 and not name.startswith("patch_embed") for name, x in flat.items()):
        return parameters
    weights = {name: x.view(Weight) for name, x in flat.items() if name.endswith("weight") and x.ndim > 1}
    parameters = params.unflatten({**flat, **weights})
    function(*_texts(parameters, function.keywords["config"]) if shape is None else _pictures(shape), **parameters)
    for weight in weights.values():
        if weight.largest.ndim:  # it was used as it is; that of patches was reshaped, and has no factors
            weight.factors = _factors(weight.largest, _largest(np.asarray(weight), 0))
    return parameters


def _pictures(shape):
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    return (np.stack([noise, np.full_like(noise, WHITE)]),)


def _texts(parameters, config):
    V, T = len(parameters["embed"]["table"]), min(config.context_length, LONG)
    tokens = np.random.default_rng(0).integers(0, V, (4, T))
    tokens[:, [0, -1]] = V - 2, V - 1  # in CLIP's vocabularies the start and the end of a text
    return tokens, np.full(4, T - 1)


def _factors(x, weight):
    """√(x / weight) of each channel, from the largest values of inputs and weights, with the mean 1; all are (in,)."""
    x, weight = (np.maximum(largest, max(NARROWEST * largest.max(), SMALLEST)) for largest in (x, weight))
    factors = np.sqrt(x / weight)
    return factors / factors.mean()


# ------------------------------------------------------------------------------------------- nodes


def rounds(x, weight):
    """Whether `linear` is to compute x @ weight.T. Not for features, (B, D): with so few rows nothing is gained."""
    return isinstance(weight.graph.constants.get(weight.name), Weight) and len(x.shape) > 2


def linear(x, weight, bias=None):
    """x @ weight.T + bias with a product of 8-bit integers: x (..., in), a Value, weight (out, in) -> (..., out)."""
    graph, w = x.graph, weight.graph.constants[weight.name]
    factors, w = w.factors, np.asarray(w)
    if factors is not None:
        x, w = _divided(x, factors), w * factors
    # activations: each row divided by its largest value, in steps of 1 / 127
    largest = x.node("Abs").node("ReduceMax", np.array([-1], np.int64), shape=(*x.shape[:-1], 1)).node("Max", SMALLEST)
    x = (x / largest).node("QuantizeLinear", STEP, ZERO, dtype="uint8")
    x = x.node("DequantizeLinear", STEP, ZERO, dtype="float32")
    # weights: a scale for each output channel
    rounded, scale = quantize(w)
    rounded = graph.constant(np.ascontiguousarray(rounded.T), f"{weight.name}.int8")  # (in, out)
    w = rounded.node("DequantizeLinear", graph.constant(scale, f"{weight.name}.scale"), dtype="float32", axis=1)
    x = (x @ w) * largest
    return x if bias is None else x + bias


def quantize(weight):
    """(int8 (out, in), scale (out,)) with weight ≈ int8 · scale, from -127 to 127 in each row."""
    scale = np.maximum(_largest(weight, 1), SMALLEST) * STEP
    steps = weight / scale[:, None]
    return np.rint(steps, out=steps).astype(np.int8), scale


def _largest(x, axis):
    """max |x| along an axis, without a copy of x."""
    return np.maximum(x.max(axis), -x.min(axis))


def _divided(x, factors):
    """x / factors. If x comes from a layer norm, that is recorded again with its gain and bias divided."""
    graph = x.graph
    node = next((node for node in graph.nodes if x.name in node.output), None)
    if node is None or node.op_type != "LayerNormalization":
        return x * graph.constant(1 / factors)
    before, *parameters = node.input
    parameters = [graph.constant(graph.constants[name] / factors) for name in parameters]
    attributes = {x.name: x.f if x.type == x.FLOAT else x.i for x in node.attribute}
    return Value(graph, before, x.dtype, x.shape).node("LayerNormalization", *parameters, **attributes)


def patches(images, weight):
    """A convolution whose patches do not overlap as a product: the patches as rows, and the weight as a matrix.

    images (B, C, height, width), weight (D, C, P, P) -> (B, Gy·Gx, C·P·P), (D, C·P·P)
    """
    B, C, height, width = images.shape
    D, _, P, _ = weight.shape
    Gy, Gx = height // P, width // P
    if (height, width) != (Gy * P, Gx * P):  # pixels beyond the last whole patch are not seen
        images = images[:, :, : Gy * P, : Gx * P]
    x = images.reshape(B, C, Gy, P, Gx, P).transpose(0, 2, 4, 1, 3, 5).reshape(B, Gy * Gx, C * P * P)
    return x, weight.graph.constant(weight.graph.constants[weight.name].reshape(D, -1), f"{weight.name}.rows")
