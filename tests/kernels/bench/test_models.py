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
from miniclip.families.siglip.config import SIGLIP_BASE
from miniclip.kernels.bench import cases, models
from miniclip.ops import torch_ops
from miniclip.towers import efficientnet, siglip_image

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


def test_the_work_of_siglip_base():
    """Its image tower's FLOPs are those that torch counts, without what the pool makes and does not use."""
    images, config = torch.empty(1, 3, 224, 224, device="meta"), SIGLIP_BASE.visual
    shapes = SIGLIP_BASE.shapes()["visual"]
    tree = params.tree_map(lambda shape: torch.empty(shape, device="meta"), shapes)
    with FlopCounterMode(display=False) as counter:
        siglip_image.encode_image(torch_ops, images, **tree, config=config)
    not_needed = 2 * (196 + 2) * config.width**2  # the tokens' queries in the pool, the probe's key and value
    assert work(SIGLIP_BASE, "visual", 1)[0] == counter.get_total_flops() - not_needed


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


def test_cases_come_in_the_order_of_the_targets():
    """A run of minutes reaches the first: B = 256 and 1 of the four towers, then those of 256 beside torch.compile."""
    order, towers = models.cases("cuda"), ["ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"]
    assert [(case.name, case.batch, case.modes) for case in order[:8]] == [
        (f"encode_image {tower}", B, ()) for tower in towers for B in (256, 1)
    ]
    assert [(case.name, case.batch, case.modes) for case in order[8:12]] == [
        (f"encode_image {tower}", 256, (models.PLAIN,)) for tower in towers
    ]
    assert {case[:3] for case in order} == {
        (*tower, B) for tower in models.TOWERS for B in models.BATCHES["cuda", tower[0]]
    }
    modes = [models.LONG in case.modes for case in order]
    assert modes == sorted(modes) and any(modes)  # what takes minutes comes last
    assert [case.batch for case in models.cases("cpu", TOWERS)] == [1, 8, 1, 8]  # a model's are built once


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_moving_texts_to_the_device_is_part_of_everybodys_time(tower):
    """Ours take tokens from the tokenizer: so do the peers."""
    prepared = models.prepare(TINY, tower, "cpu", 2)
    moved = []

    class Tokens(torch.Tensor):
        def to(self, *arguments):
            moved.append(arguments)
            return torch.Tensor.to(self, *arguments).as_subclass(torch.Tensor)

    encode, ready = prepared.encoders["transformers"]
    inputs = ready(prepared.inputs.as_subclass(Tokens))
    before = len(moved)
    assert encode(inputs).shape == prepared.reference.shape
    assert len(moved) - before == (tower == "text")


def test_transformers_compiled_is_a_peer_in_each_mode(monkeypatch):
    """It computes with the same model, and is listed with its reason if it cannot be compiled."""
    modes = []

    def compiled(encode, mode, dynamic):
        modes.append(mode)
        if mode == models.LONG:
            raise RuntimeError("no compiler")
        return encode

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(timing, "PAUSE", 0)
    case = models.Case("text", "tiny", 2, (models.PLAIN, models.LONG))
    facts = {"dtype": "float32", "device": "a CPU", "versions": {}, "date": "2026-01-31", "ceilings": None}
    with torch.no_grad():
        record = models.measure(case, TINY, models.prepare(TINY, "text", "cpu", 2), "cpu", 2, facts)
    assert modes == ["default", "max-autotune"]
    assert {"transformers", "transformers, compiled"} <= record["times"].keys()
    assert record["skipped"] == {"transformers, compiled with max-autotune": "RuntimeError: no compiler"}


def test_a_case_that_could_not_be_measured_has_a_record_of_why(tmp_path):
    facts = {"dtype": "bfloat16", "device": "NVIDIA H200", "versions": {}, "date": "2026-01-31"}
    case = models.Case("visual", "ViT-B/32", 256)
    for each in (case, case._replace(modes=(models.PLAIN,))):
        records.append(tmp_path, models.failed(each, "Lost: no result", facts, "cuda"))
    plain, compiled = records.read(tmp_path)
    assert plain["skipped"] == {"triton": "Lost: no result"} and plain["name"] == "encode_image ViT-B/32"
    assert compiled["name"] == "encode_image ViT-B/32 with torch.compile"  # does not replace the other


def test_the_work_of_vit_b_32():
    config = PRESETS["ViT-B/32"]
    flops, numbers = work(config, "visual", 1)
    # multiply-adds of 49 patches, 11 whole blocks, the last block's keys and values and one token, the projection
    adds = 49 * 768 * 3072 + 11 * (50 * 12 * 768**2 + 2 * 50 * 50 * 768)
    adds += 50 * 2 * 768**2 + 10 * 768**2 + 2 * 50 * 768 + 768 * 512
    assert flops == 2 * adds
    assert numbers == 87_849_216 + 3 * 224**2 + 512  # all parameters of its image tower
