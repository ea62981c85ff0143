"""Which tensors kernels take, on which device they launch, and what torch.autocast changes: nothing."""

import contextlib

import pytest
import torch
from budget import DEVICE, normal

import miniclip
from miniclip.kernels import attention, device, layer_norm, offline, similarity, triton_ops, tuning
from miniclip.ops import _fastest as fastest

ROW = torch.ones(8)


def test_tensors_of_several_devices_are_refused_by_name():
    with pytest.raises(
        miniclip.InputError, match="layer_norm takes tensors of one device, not x on meta, weight on cpu"
    ):
        layer_norm.layer_norm(torch.ones(2, 8, device="meta"), ROW, ROW, eps=1e-5)
    q = torch.ones(2, 3, 1, 16, device="meta")
    with pytest.raises(miniclip.InputError, match="q on meta, k on meta, v on meta, lengths on cpu"):
        attention.attention(q, q, q, lengths=torch.tensor([1, 2]))
    x = torch.ones(2, 8, device="meta")
    with pytest.raises(miniclip.InputError, match="text_features on meta, logit_scale on cpu"):
        similarity.similarity(x, x, torch.tensor(1.0))


@pytest.mark.parametrize(("x", "dtype"), [(torch.ones(2, 8, dtype=torch.int64), "int64"), ([1.0], "what is no tensor")])
def test_what_is_no_floating_tensor_is_refused(x, dtype):
    with pytest.raises(miniclip.InputError, match=f"kernels take float32, .* not {dtype}"):
        triton_ops.relu(x)
    with pytest.raises(miniclip.InputError, match=f"not {dtype}"):
        attention.attention(x, x, x)


def test_kernels_launch_on_the_gpu_of_their_tensors(monkeypatch):
    """A fake of what torch does for a tensor on cuda:1."""
    current = []

    @contextlib.contextmanager
    def device_of(x):
        current.append(x)
        yield
        current.pop()

    @device.launches()
    def kernel(x, *, scale):
        return current[0] is x

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    assert kernel(ROW.to(DEVICE), scale=2) and not current


@pytest.mark.skipif(DEVICE != "cpu", reason="a GPU's autocast is float16")
def test_autocast_changes_nothing(model):
    """torch.autocast would multiply in bfloat16, which differs in the third digit."""
    images, x, weight = normal(0, 2, 3, 48, 48), normal(0, 4, 24), normal(1, 8, 24)
    pixels, patches = normal(2, 2, 3, 8, 8), normal(3, 24, 3, 4, 4)

    def results():
        with torch.no_grad():
            return [
                model.encode_image(images),
                model.encode_text(model.tokenize(["a red heart"])),
                triton_ops.linear(x, weight),
                triton_ops.linear(x, weight, activation="quick_gelu"),
                triton_ops.patch_embed(pixels, patches, normal(4, 24), normal(5, 5, 24)),
                triton_ops.conv2d(pixels, patches, stride=4),
            ]

    plain = results()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.nn.functional.linear(x, weight).dtype == torch.bfloat16
        cast = results()
    assert all(torch.equal(a, b) for a, b in zip(plain, cast))


def test_warps_are_counted_in_threads(monkeypatch):
    config = {"BLOCK_M": 64, "num_warps": 8}
    assert device.count_warps(config) == config
    monkeypatch.setattr(device, "INTERPRETING", False)
    monkeypatch.setattr(tuning, "_table", dict)
    for target, warps in ((90, 8), ("gfx942", 4), ("gfx1201", 8)):
        with offline.compiling(target):
            assert tuning.find("layer_norm", {"D": 768}, config)["num_warps"] == warps


@pytest.mark.parametrize(
    ("target", "amd", "row", "precision"),
    [
        (80, False, "a", "tf32x3"),
        (103, False, "b", "tf32x3"),
        ("gfx950", True, "a", "ieee"),
        ("gfx1201", True, "a", "bf16x6"),
    ],
)
def test_tables_and_products_by_vendor(target, amd, row, precision, monkeypatch):
    monkeypatch.setattr(device, "INTERPRETING", False)
    with offline.compiling(target):
        assert (device.capability(), device.amd()) == (target, amd)
        assert device.choose({(80, 10): "a", (90, 10): "b"}, 5) == row
        assert device.dot_precision(torch.float32) == precision
        assert device.dot_precision(torch.bfloat16) == "ieee"


def test_six_products_of_bfloat16_are_as_exact_as_float32():
    """Why AMD's GPUs without a matrix instruction for float32 take "bf16x6", and not "bf16x3"."""
    a, b = normal(0, 64, 768), normal(1, 768, 64)
    exact = a.double() @ b.double()

    def parts(x):
        for _ in range(3):
            yield (part := x.bfloat16().float())
            x = x - part

    def error(*pairs):
        As, Bs = list(parts(a)), list(parts(b))
        return (sum(As[i] @ Bs[j] for i, j in pairs).double() - exact).abs().max() / exact.abs().max()

    three = ((0, 1), (1, 0), (0, 0))
    usual = (a @ b - exact).abs().max() / exact.abs().max()
    assert error((0, 2), (1, 1), (2, 0), *three) <= 2 * usual < error(*three) / 5


@pytest.mark.parametrize(
    ("hip", "reason"), [(None, "it has compute capability 7.5, the kernels need 8.0"), ("7.0", None)]
)
def test_why_not_asks_no_gpu_of_amd_for_a_capability(hip, reason, monkeypatch):
    monkeypatch.setattr(device, "INTERPRETING", False)
    monkeypatch.setattr(torch.version, "hip", hip)
    for name, fake in {"is_available": True, "device_count": 1, "get_device_capability": (7, 5)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, fake=fake: fake)
    assert device.why_not("cuda:0") == reason
    assert fastest("cuda") == "torch"  # not there, or not tried there
