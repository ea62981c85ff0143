"""The backends that compile: ONNX Runtime and OpenVINO run what the towers recorded, and answer as NumPy does."""

import copy
import importlib.util
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from align_models import small  # noqa: F401

import miniclip
from miniclip.ops import compiled, onnx_ops, select
from miniclip.ops.graph import Graph
from miniclip.runtime import chunks, cpu

BACKENDS = ["onnxruntime", "openvino"]
TEXTS = ["a red heart", "", "a blue circle and a green square", "star"]


def need(name):
    if importlib.util.find_spec(name) is None:  # an import of openvino starts a process
        pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    need(request.param)
    return request.param


@pytest.fixture(scope="module")
def model(backend):
    return miniclip.load("shapes", backend)[0]


@pytest.fixture(scope="module")
def reference():
    return miniclip.load("shapes", "numpy")[0]


def images(B, seed=0):
    return np.random.default_rng(seed).standard_normal((B, 3, 48, 48), np.float32)


@pytest.mark.parametrize("B", [0, 1, 2, 3, 70])
def test_pictures_of_any_batch_size(model, reference, relative_error, B):
    ours = model.encode_image(images(B))
    assert isinstance(ours, np.ndarray) and ours.shape == (B, 128) and ours.dtype == np.float32
    assert B == 0 or relative_error(ours, reference.encode_image(images(B))) < 1e-5


def test_texts_are_sorted_and_cut_and_come_back_in_order(model, reference, relative_error, monkeypatch):
    monkeypatch.setattr(chunks, "share", lambda total, most, cores: 20)  # tokens in a chunk
    tokens = reference.tokenize(TEXTS * 9)
    assert relative_error(model.encode_text(tokens), reference.encode_text(tokens)) < 1e-5


def test_a_trace_sees_what_it_sees_on_numpy(model, reference):
    seen, expected = {}, {}
    model.encode_image(images(2), trace=lambda name, x: seen.update({name: x}))
    reference.encode_image(images(2), trace=lambda name, x: expected.update({name: x}))
    assert seen.keys() == expected.keys() and all(np.array_equal(seen[name], expected[name]) for name in seen)


def test_logits_are_those_of_numpy(model, reference):
    a, b = ((m.encode_image(images(3)), m.encode_text(m.tokenize(TEXTS))) for m in (model, reference))
    assert np.array_equal(model.logits(*b), reference.logits(*b))
    assert np.allclose(model.logits(*a), reference.logits(*b), atol=1e-4)


def test_many_threads_share_a_model(model, reference, relative_error):
    answers = {}

    def work(i):
        answers[i] = model.encode_image(images(5, seed=i)), model.encode_text(reference.tokenize(TEXTS[i % 4 :]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, (pictures, texts) in answers.items():
        assert relative_error(pictures, reference.encode_image(images(5, seed=i))) < 1e-5
        assert relative_error(texts, reference.encode_text(reference.tokenize(TEXTS[i % 4 :]))) < 1e-5


def test_copies_compile_again(model):
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.backend == model.backend
        assert np.allclose(again.encode_image(images(2)), model.encode_image(images(2)), atol=1e-6)


def test_types_of_tokens_are_an_input_of_their_own(backend, small, relative_error):  # noqa: F811
    ours, reference = (miniclip.load(small, name)[0] for name in (backend, "numpy"))
    tokens = np.array([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
    types = np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    for given in ({}, {"token_types": types}):
        expected = reference.encode_text(tokens, **given)
        assert relative_error(ours.encode_text(tokens, **given), expected) < 1e-5
    assert relative_error(reference.encode_text(tokens), expected) > 1e-3


# ------------------------------------------------------------------------------------------- settings


CTRL_C = """
import faulthandler, signal, miniclip
faulthandler.enable()  # with a stack for signals, as pytest does
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
models = [miniclip.load("shapes", "openvino")[0] for _ in range(2)]
for model in models:
    model.encode_text(model.tokenize("a red heart"))
del model, models[0], models[0]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_models_of_openvino_have_ended():
    need("openvino")
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True)
    assert done.stdout == "interrupted\n" and done.returncode == 0, done.stderr


def test_as_many_threads_as_numpys_products(backend, monkeypatch):
    asked = []
    monkeypatch.setattr(cpu, "threads", lambda: asked.append(3) or 3)
    miniclip.load("shapes", backend)[0].encode_image(images(1))
    assert asked


def test_openvino_computes_in_the_dtype_that_is_asked_for_and_not_in_its_own(reference):
    need("openvino")
    exact = reference.encode_image(images(4))
    errors = {}
    for dtype in ("float32", "bfloat16"):
        ours = miniclip.load("shapes", "openvino", dtype=dtype)[0].encode_image(images(4))
        errors[dtype] = np.abs(ours - exact).max() / np.abs(exact).max()
    assert errors["float32"] < 1e-5
    if cpu.has("avx512_bf16") or cpu.has("amx_bf16"):
        assert 1e-4 < errors["bfloat16"] < 5e-2


@pytest.mark.parametrize(
    "options", [{"batch_invariant": True}, {"compile": True}, {"device": "cuda"}, {"dtype": "float16"}]
)
def test_what_they_do_not_have_is_refused(backend, options):
    with pytest.raises(miniclip.InputError, match=f"{backend}.*backend="):
        if "compile" in options:
            select(backend).capture(None, {}, **options)
        else:
            miniclip.load("shapes", backend, **options)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_missing_package_is_named_with_the_command_that_installs_it(name):
    code = f"import sys; sys.modules['{name}'] = None; import miniclip; miniclip.load('shapes', '{name}')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"the {name} backend needs {name}: " in done.stderr and f"[{name}]" in done.stderr


def test_what_the_runtime_refuses_is_one_error(backend):
    def wrong(images):
        return images.node("NoSuchOperation", shape=images.shape)

    run = compiled.captured(select(backend).RUNTIME, wrong, {}, None)
    with pytest.raises(
        miniclip.InputError, match=r"refuses the model or its input: .*NoSuchOperation.*pass backend='numpy'"
    ):
        run(images(1))


def test_importing_openvino_through_miniclip_starts_no_process():
    need("openvino")
    code = """
import os, sys
os.register_at_fork(before=lambda: print("forked"))
from miniclip.ops import openvino_ops
import importlib.util
print("openvino" in sys.modules, "openvino_telemetry" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


# --------------------------------------------------------------------------------------------- the graph


def test_the_same_node_is_recorded_once_and_unused_nodes_are_left_out():
    graph = Graph()
    x = graph.input("x", "float32", "B", 4)
    first, second = onnx_ops.relu(x), onnx_ops.relu(x)
    onnx_ops.tanh(x)
    assert first.name == second.name
    assert [node.op_type for node in graph.model({"y": first + second}).graph.node] == ["Relu", "Add", "Identity"]


def test_a_part_of_a_product_is_a_product_with_a_part_of_the_weights():
    graph = Graph()
    weight, bias = np.arange(24, dtype=np.float32).reshape(12, 2), np.arange(12, dtype=np.float32)
    x = graph.input("x", "float32", "B", 5, 2)
    p = graph.parameters({"weight": weight, "bias": bias})
    packed = onnx_ops.linear(x, **p).reshape("B", 5, 3, 2, 2)
    q, v = packed[:, :, 0], packed[:, :, 2]
    assert q.shape == v.shape == ("B", 5, 2, 2)
    made = graph.model({"q": q, "v": v})
    constants = {tensor.name: tensor.dims for tensor in made.graph.initializer}
    assert sorted(tuple(dims) for dims in constants.values() if len(dims) == 2) == [(4, 2), (4, 2)]


def test_sizes_with_names_stay_in_their_places():
    x = Graph().input("x", "float32", "B", "T", 8)
    assert x.reshape("B", "T", 2, 4).shape == ("B", "T", 2, 4)
    with pytest.raises(miniclip.InputError, match="must stay in their places"):
        x.reshape("T", "B", 8)
