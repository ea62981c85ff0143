"""What kernels know of the GPU that they are compiled for, of NVIDIA or of AMD."""

import pytest
import torch
from budget import normal

from miniclip.kernels import device, offline, tuning
from miniclip.ops import _fastest as fastest


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
