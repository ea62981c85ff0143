"""int8: the arithmetic of its products, how near its features are to float32, and what it does not change."""

import functools
import importlib.util

import numpy as np
import pytest

if not all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "openvino"))):
    pytest.skip("the backends that have int8 are not installed", allow_module_level=True)

import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from trained_like import trained_like

import miniclip
from miniclip import identity
from miniclip.bench.measurement import random_parameters
from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.align.model import ALIGN
from miniclip.model import CLIP
from miniclip.ops import compiled, numpy_ops, onnx_int8, onnx_ops, onnxruntime_ops, openvino_ops
from miniclip.ops.graph import Graph
from miniclip.train import evaluation, shapes

BACKENDS = [onnxruntime_ops, openvino_ops]
CONFIG = CLIPConfig(VisionConfig(64, 16, 128, 4, 2, 512), TextConfig(20, 300, 128, 4, 2, 512), 64)

each_backend = pytest.mark.parametrize("ops", BACKENDS, ids=lambda ops: ops.NAME)


def cosines(ours, exact):
    ours, exact = numpy_ops.l2_normalize(ours), numpy_ops.l2_normalize(exact)
    return (ours * exact).sum(-1)  # (n,)


def w8a8(x, weight):
    """x @ weight.T with both rounded to 127 steps: a scale for each row of x and for each output channel."""
    a, w = (np.maximum(np.abs(y).max(-1, keepdims=True), 1e-30).astype(np.float64) / 127 for y in (x, weight))
    return (np.rint(x / a) @ np.rint(weight / w).T) * a * w.T


def inputs(B=5):
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 298, (B, 20))
    tokens[:, 0], tokens[np.arange(B), np.arange(B) + 5] = 298, 299
    return rng.standard_normal((B, 3, 64, 64), np.float32), tokens


def computed_by_onnx(graph, y, x):
    """The result of ONNX's own definitions of the nodes, in NumPy; FloatingPointError if one divides 0 by 0."""
    with np.errstate(invalid="raise"):
        return ReferenceEvaluator(graph.model({"y": y})).run(None, {"x": x})[0]


@pytest.mark.parametrize("compute", [computed_by_onnx, *BACKENDS], ids=["onnx", "onnxruntime", "openvino"])
def test_a_product_is_that_of_rounded_numbers(compute):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((3, 7, 48), np.float32), rng.standard_normal((32, 48), np.float32)
    x *= np.float32(10.0) ** rng.integers(-3, 4, (3, 7, 1))  # rows of very different sizes
    weight *= np.float32(10.0) ** rng.integers(-3, 4, (32, 1))
    x[1, 2] = 0  # a row without a largest value
    bias = rng.standard_normal(32, np.float32)
    graph = Graph("int8")
    parameters = graph.parameters({"weight": weight.view(onnx_int8.Weight), "bias": bias})
    y = onnx_ops.linear(graph.input("x", "float32", 3, 7, 48), **parameters)
    by_onnx = compute is computed_by_onnx
    found = compute(graph, y, x) if by_onnx else compute.RUNTIME.compile(graph, y, "int8")({"x": x})
    exact = w8a8(x, weight) + bias
    size = np.abs(x).max(-1, keepdims=True) * np.abs(weight).max(-1) + np.abs(bias)
    assert (np.abs(found - exact) / size).max() < 1e-4  # a step of one number would be 1 / 127
    assert (np.abs(found - (x @ weight.T + bias)) / size).max() > 1e-2  # and these are not the products of float32


def test_factors_of_channels_change_nothing_but_the_rounding():
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((40, 64), np.float32), rng.standard_normal((16, 64), np.float32)
    x[:, 5] *= 50
    factors = onnx_int8._factors(np.abs(x).max(0), np.abs(weight).max(0))
    exact = x @ weight.T
    np.testing.assert_allclose((x / factors) @ (weight * factors).T, exact, atol=1e-4)
    plain, better = (np.abs(y - exact).mean() for y in (w8a8(x, weight), w8a8(x / factors, weight * factors)))
    assert better < plain / 2


@pytest.mark.parametrize("seed", range(2))
def test_features_with_outliers_are_within_the_contract_on_every_row(seed):
    tree, (images, tokens) = trained_like(CONFIG, seed), inputs()
    reference = CLIP(CONFIG, tree, numpy_ops)
    for ops in BACKENDS:
        model = CLIP(CONFIG, tree, ops, dtype="int8")
        assert cosines(model.encode_image(images), reference.encode_image(images)).min() > 0.999
        assert cosines(model.encode_text(tokens), reference.encode_text(tokens)).min() > 0.999


def test_outliers_need_the_factors(monkeypatch):
    tree, (images, _) = trained_like(CONFIG), inputs()
    monkeypatch.setattr(onnx_int8, "_factors", lambda x, weight: np.ones_like(x))
    found = CLIP(CONFIG, tree, onnxruntime_ops, dtype="int8").encode_image(images)
    assert cosines(found, CLIP(CONFIG, tree, numpy_ops).encode_image(images)).min() < 0.995


@each_backend
def test_the_built_in_model_names_the_same(ops):
    reference, prepare = miniclip.load("shapes", "numpy")
    model, _ = miniclip.load("shapes", ops.NAME, dtype="int8")
    rng = np.random.default_rng(0)
    scenes = [shapes.one_object(rng, shapes.PAIRS[rng.integers(len(shapes.PAIRS))]) for _ in range(200)]
    images, tokens = prepare([shapes.draw(scene, rng) for scene in scenes]), model.tokenize(evaluation.LABELS)
    features, texts = reference.encode_image(images), reference.encode_text(tokens)
    found, found_texts = model.encode_image(images), model.encode_text(tokens)
    assert cosines(found, features).min() > 0.999
    assert cosines(found_texts, texts).min() > 0.999
    exact = reference.logits(features, texts)
    best, second = np.sort(exact)[:, -1], np.sort(exact)[:, -2]
    same = model.logits(found, found_texts).argmax(-1) == exact.argmax(-1)
    assert same[best - second > 0.5].all()  # logits that are nearer may change places
    assert same.mean() >= 0.995


@each_backend
def test_zero_shot_figures_are_the_same_within_half_a_point(ops):
    figures = []
    for backend, dtype in (("numpy", None), (ops.NAME, "int8")):
        model, prepare = miniclip.load("shapes", backend, dtype=dtype)
        figures.append(evaluation.one_object(model, prepare, shapes.HELD_OUT, 400)[0])
    assert abs(figures[0] - figures[1]) <= 0.005


@each_backend
def test_a_feature_does_not_depend_on_the_batch(ops):
    images, tokens = inputs()
    images[0] *= 9
    model = CLIP(CONFIG, trained_like(CONFIG), ops, dtype="int8")
    alone, together = model.encode_image(images[1:2]), model.encode_image(images)[1:2]
    np.testing.assert_allclose(alone, together, atol=1e-5 * np.abs(together).max())
    alone, together = model.encode_text(tokens[:1]), model.encode_text(tokens)[:1]
    np.testing.assert_allclose(alone, together, atol=1e-5 * np.abs(together).max())


def test_both_runtimes_multiply_integers(tmp_path):
    # 1 of the patches, and in each of 4 blocks q, k, v, out, fc and proj
    visual = trained_like(CONFIG)["visual"]
    function = functools.partial(CONFIG.visual.tower.encode_image, onnx_ops, config=CONFIG.visual)
    graph, features = compiled.record(function, visual, inputs(1)[:1], {}, "int8")
    model = graph.model({"features": features})
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 25
    assert "DequantizeLinear" not in kinds
    core = openvino_ops.core()
    program = core.compile_model(core.read_model(model.SerializeToString()), "CPU")
    facts = [node.get_rt_info() for node in program.get_runtime_model().get_ops()]
    products = [x["runtimePrecision"].astype(str) for x in facts if x["layerType"].astype(str) == "FullyConnected"]
    assert products.count("u8") == 25


@each_backend
def test_convolutional_towers_are_computed_in_float32(ops):
    resnet = CLIPConfig(ResNetConfig(64, 8, (1, 1, 1, 1), heads=4), None, 32)
    efficientnet = EfficientNetConfig(64, 80, width_coefficient=0.25, depth_coefficient=0.1)
    for config, kind in ((resnet, CLIP), (ALIGNConfig(efficientnet, None, efficientnet.width), ALIGN)):
        tree = random_parameters(config, np.random.default_rng(0))
        exact = kind(config, tree, numpy_ops).encode_image(inputs()[0])
        found = kind(config, tree, ops, dtype="int8").encode_image(inputs()[0])
        np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max())


@each_backend
def test_layer_norms_after_the_sum_keep_their_own_result(ops):
    # ALIGN's: the sum that comes next needs what is not divided by factors
    config = ALIGNConfig(None, BertConfig(100, 300, 128, 3, 2, 512), 64)
    tree, tokens = random_parameters(config, np.random.default_rng(0)), inputs()[1]
    exact = ALIGN(config, tree, numpy_ops).encode_text(tokens)
    assert cosines(ALIGN(config, tree, ops, dtype="int8").encode_text(tokens), exact).min() > 0.999


def test_it_is_the_same_model_by_name():
    plain, model = miniclip.load("shapes", "numpy")[0], miniclip.load("shapes", "onnxruntime", dtype="int8")[0]
    assert model.dtype == "int8"
    assert identity.same(identity.of(plain), identity.of(model))
    images = np.zeros((2, 3, 48, 48), np.float32)
    assert model.encode_image(images).dtype == np.float32
    seen = []
    traced = model.encode_image(images, trace=lambda name, value: seen.append(name))  # computed by NumPy, in float32
    assert seen
    assert np.array_equal(traced, plain.encode_image(images, trace=lambda name, value: None))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_other_backends_say_which_has_it(backend):
    with pytest.raises(miniclip.InputError, match=f"{backend} backend does not compute in int8; .*'onnxruntime'"):
        miniclip.load("shapes", backend, dtype="int8")
