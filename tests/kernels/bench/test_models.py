"""`miniclip bench models`: whole encoders, and the least work that they need. No test measures a speed."""

import math
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import miniclip
from miniclip import CLIPConfig, TextConfig, VisionConfig, params
from miniclip.bench import records, session, timing
from miniclip.bench.work import work
from miniclip.cli import main
from miniclip.families.align.config import ALIGN_BASE, ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.clip.presets import PRESETS
from miniclip.kernels.bench import cases, models
from miniclip.ops import torch_ops
from miniclip.towers import efficientnet

TINY = CLIPConfig(VisionConfig(16, 8, 64, 2, 1, 96), TextConfig(12, 50_000, 64, 2, 1, 96), 16)
TINY_ALIGN = ALIGNConfig(
    EfficientNetConfig(33, 40, 1.0, 1.0, stages=((1, 16, 3, 2, 1), (2, 24, 3, 2, 6))),
    BertConfig(64, 90, width=8, layers=2, heads=2, mlp_width=16),
    embed_dim=24,
)
TOWERS = [("visual", "tiny"), ("text", "tiny")]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)
    monkeypatch.setattr(timing, "QUICK_ROUNDS", 1)
    return {"device": "cpu", "quick": True, "configs": {"tiny": TINY}, "towers": TOWERS, "batches": (1, 3)}


def test_models_on_the_cpu_from_end_to_end(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(models.run, "__kwdefaults__", models.run.__kwdefaults__ | tiny)
    assert main(["bench", "models", "--device", "cpu", "--quick", "--out", str(tmp_path)]) == 0
    found = records.read(tmp_path)
    assert [(r["name"], r["shape"], r["unit"]) for r in found] == [
        (name, {"B": B}, unit)
        for name, unit in (("encode_image tiny", "pictures/s"), ("encode_text tiny", "texts/s"))
        for B in (1, 3)
    ]
    for r in found:
        expected = {"numpy", "torch", "transformers"}
        assert set(r["times"]) == expected and not r["skipped"]
        assert (r["ours"], r["dtype"], r["share_of_limit"], r["ceilings"]) == ("numpy", "float32", None, None)
        assert r["value"] == pytest.approx(r["shape"]["B"] / r["times"]["numpy"] * 1e6)
    assert "pictures/s" in capsys.readouterr().out


def test_align_too(tiny, tmp_path):
    models.run(**{**tiny, "configs": {"tiny": TINY_ALIGN}}, out=tmp_path)
    found = records.read(tmp_path)
    assert [r["name"] for r in found] == ["encode_image tiny"] * 2 + ["encode_text tiny"] * 2
    assert not any(r["skipped"] for r in found), found
    assert all(set(r["times"]) == {"numpy", "torch", "transformers"} for r in found)


def test_the_work_of_align_base():
    """The image tower's FLOPs are those that torch counts and, at this picture size, those of a B7 in the paper."""
    flops, numbers = work(ALIGN_BASE, "visual", 1)
    parameters = sum(math.prod(shape) for shape in params.flatten(ALIGN_BASE.shapes()["visual"]).values())
    assert numbers == parameters + 3 * 289**2 + 640
    images, tree = torch.empty(1, 3, 289, 289, device="meta"), ALIGN_BASE.shapes()["visual"]
    tree = params.tree_map(lambda shape: torch.empty(shape, device="meta"), tree)
    with FlopCounterMode(display=False) as counter:
        efficientnet.encode_image(torch_ops, images, **tree, config=ALIGN_BASE.visual)
    assert flops == counter.get_total_flops()
    flops, _ = work(models.alone(ALIGN_BASE, "text"), "text", 1)
    adds = 11 * (64 * 12 * 768**2 + 2 * 64 * 64 * 768) + 64 * 2 * 768**2 + 10 * 768**2 + 2 * 64 * 768
    assert flops == 2 * adds


def test_one_model_alone_and_unknown_ones(tiny, tmp_path):
    with pytest.raises(miniclip.InputError, match="nothing to measure called 'ViT'; choose one of encode_image, tiny"):
        models.run(**tiny, out=tmp_path, only="ViT")
    with pytest.raises(miniclip.InputError, match="choose one of attention, layer_norm"):
        session.select(cases.CASES, "softmax", lambda case: [case.kernel])


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_a_model_that_attends_wrongly_is_not_timed(tower, tiny, tmp_path, monkeypatch):
    from miniclip.ops import numpy_ops

    right = numpy_ops.attention
    monkeypatch.setattr(numpy_ops, "attention", lambda q, k, v, **how: right(q, 0.5 * k, v, **how))
    with pytest.raises(miniclip.InputError, match=r"2 of 2 cases .* a cosine with float32's is"):
        models.run(**{**tiny, "towers": [(tower, "tiny")]}, out=tmp_path)
    assert all(r["times"] == {} and "wrong" in r["skipped"]["numpy"] for r in records.read(tmp_path))


def test_a_library_that_is_missing_is_listed(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    models.run(**{**tiny, "batches": (1,)}, out=tmp_path)
    assert all("transformers" in r["skipped"]["transformers"] for r in records.read(tmp_path))


def test_what_takes_long_to_prepare_comes_last():
    order = models.cases("cuda")
    compiled = [case.compiled for case in order]
    assert compiled == sorted(compiled) and any(compiled)
    assert [case.batch for case in order if case.name == "encode_text ViT-B/32"] == [1, 64, 256, 256, 1]


def test_the_work_of_vit_b_32():
    config = PRESETS["ViT-B/32"]
    flops, numbers = work(config, "visual", 1)
    # multiply-adds of 49 patches, 11 whole blocks, the last block's keys and values and one token, the projection
    adds = 49 * 768 * 3072 + 11 * (50 * 12 * 768**2 + 2 * 50 * 50 * 768)
    adds += 50 * 2 * 768**2 + 10 * 768**2 + 2 * 50 * 768 + 768 * 512
    assert flops == 2 * adds
    assert numbers == 87_849_216 + 3 * 224**2 + 512  # all parameters of its image tower
