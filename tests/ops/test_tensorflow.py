"""TensorFlow: arrays, devices, 16 bits; towers compile once for all sizes; gradients are torch's."""

import copy
import pickle

import numpy as np
import pytest
import torch
from arithmetic import close, normal

import miniclip
from miniclip.ops import numpy_ops, select
from miniclip.zero_shot import classify

tf = pytest.importorskip("tensorflow")
ops = select("tensorflow")
PICTURES = "weights/example.png"


def test_a_tape_sees_a_model():
    (ours, preprocess), (theirs, _) = (miniclip.load(backend=backend) for backend in ("tensorflow", "torch"))
    images = tf.constant(preprocess([PICTURES]).numpy())
    with tf.GradientTape() as tape:
        tape.watch(images)
        features = ours.encode_image(images)
        total = tf.reduce_sum(features**2)
    tensors = torch.from_numpy(images.numpy().copy()).requires_grad_()
    (theirs.encode_image(tensors) ** 2).sum().backward()
    close(tape.gradient(total, images).numpy(), tensors.grad.numpy())


def test_towers_compile_for_one_shape_and_then_for_all_sizes():
    traced = []

    def encode(x, weight, trace=None):
        traced.append(x.shape)
        return ops.linear(x, weight)

    weight = ops.asarray(normal(0, 3, 4))
    run = ops.capture(encode, {"weight": weight})
    for size in (2, 2, 5, 7, 1, 9):
        x = normal(size, size, 4)
        close(run(x).numpy(), x @ weight.numpy().T)
    assert len(traced) <= 3 and traced[0] == (2, 4)
    assert run(np.zeros((0, 4), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_are_as_precise_as_torch_s(dtype):
    models = {b: miniclip.load(backend=b, dtype=d) for b, d in (("tensorflow", dtype), ("torch", dtype))}
    exact, preprocess = miniclip.load(backend="numpy", dtype="float64")
    images, tokens = preprocess([PICTURES]), exact.tokenize(["a red heart", "a small blue circle"])
    for encode, x in (("encode_image", images), ("encode_text", tokens)):
        expected, errors = getattr(exact, encode)(x), {}
        for backend, (model, _) in models.items():
            features = getattr(model, encode)(x.astype(np.float32) if encode == "encode_image" else x)
            found = np.asarray(model.ops.to_numpy(features), np.float64)
            errors[backend] = np.abs(found - expected).max() / np.abs(expected).max()
        assert errors["tensorflow"] < 2 * errors["torch"], encode
    model = models["tensorflow"][0]
    assert str(model.encode_text(tokens).dtype) == dtype and "float32" in str(model.logit_scale.dtype)


@pytest.mark.parametrize("device", ["cpu", "CPU:0", "/device:CPU:0", torch.device("cpu"), None])
def test_devices_have_tensorflow_s_names_or_torch_s(device):
    model, preprocess = miniclip.load(backend="tensorflow", device=device)
    assert model.device == ("CPU:0" if device is not None or not tf.config.list_logical_devices("GPU") else "GPU:0")
    assert classify(model, preprocess([PICTURES]), ["a red heart", "a blue circle"]).shape == (1, 2)


@pytest.mark.parametrize("device", ["cuda:7", "tpu", "gpu:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(miniclip.InputError, match=rf"cannot use the device '{device}': .* no such device, only CPU:0"):
        miniclip.load(backend="tensorflow", device=device)


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_arrays_do_not_share_an_ndarray_s_memory(dtype):
    x = np.arange(1 << 12, dtype=np.float32)
    ours = ops.asarray(x, dtype=dtype)
    x[:] = 0
    assert ours.numpy()[5] == 5
    back = ops.to_numpy(ours)
    back[:] = 0
    assert ours.numpy()[5] == 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_arrays_are_copied(dtype, again):
    x = ops.asarray([[1.5, 2], [3, 4]], dtype=dtype)
    assert again(x).dtype == x.dtype
    np.testing.assert_array_equal(again(x).numpy(), x.numpy())


def test_arrays_have_the_syntax_of_numpy_s():
    a, b = normal(0, 3, 4), normal(1, 3, 4)
    x, y = ops.asarray(a), ops.asarray(b)
    pairs = [(x + y, a + b), (2 - x, 2 - a), (b - x, b - a), (x / y, a / b), (1 / x, 1 / a), (x * 2, a * 2), (-x, -a)]
    pairs += [(x @ y.T, a @ b.T), (b.T @ x, b.T @ a), (x**2, a**2), (x[:, 1:3], a[:, 1:3]), (x[1], a[1])]
    pairs += [
        (x[:, None], a[:, None]),
        (x.reshape(2, -1), a.reshape(2, -1)),
        (x.mean(0), a.mean(0)),
        (x.sum(), a.sum()),
    ]
    pairs += [
        ((x == y) * 1, (a == b) * 1),
        (x.argmax(-1), a.argmax(-1)),
        ((x == a).all(), True),
        (x.astype("int32"), a.astype("i4")),
    ]
    for found, expected in pairs:
        assert type(found).__name__ == "Array" and found.shape == np.shape(expected)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert len(x) == 3 and x.ndim == 2 and x.size == 12 and float(x[0, 0]) == a[0, 0] and bool((x == a).all())
    np.testing.assert_array_equal(np.stack([row.numpy() for row in x]), a)
    np.testing.assert_allclose(tf.nn.softmax(x), numpy_ops.softmax(a), rtol=1e-5)
    assert np.isfinite(x).all() and "Array(<tf.Tensor" in repr(x)
