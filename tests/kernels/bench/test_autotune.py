"""`miniclip bench kernels --autotune`: which tiles are recorded. No test measures a speed."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json

import pytest
import torch
from fake_gpu import few, gpu, on_the_cpu  # noqa: F401

from miniclip.errors import InputError
from miniclip.kernels import layer_norm, linear, tuning
from miniclip.kernels.bench import autotune, cases


@on_the_cpu
def test_the_fastest_tiles_that_are_right_are_recorded(gpu, monkeypatch, tmp_path, capsys):
    durations = {(1, 1): 50, (1, 2): 30, (2, 1): 20, (2, 2): 1, (4, 1): 1}

    def norm(x, weight, bias, eps, config):
        choice = config["BLOCK_M"], config["num_warps"]
        gpu.now += durations[choice]
        return cases.KERNELS["layer_norm"].plain(x, weight, bias, eps=eps) * (2 if choice == (2, 2) else 1)

    def add_norm(x, update, config, **rest):
        if config["BLOCK_M"] == 4:
            raise RuntimeError("out of resources")
        gpu.now += {2: 100, 1: 10}[config["BLOCK_M"]]  # with a sum, two rows are slow
        return cases.KERNELS["add_layer_norm"].plain(x, update, **rest)

    new = {"candidates": lambda: [{"BLOCK_M": rows, "num_warps": warps} for rows, warps in durations]}
    for name, ours in (("layer_norm", norm), ("add_layer_norm", add_norm)):
        monkeypatch.setitem(cases.KERNELS, name, cases.KERNELS[name]._replace(ours=ours, **new))
    monkeypatch.setattr(autotune, "input_sets", lambda case, device: cases.input_sets(case, "cpu"))
    shape = {"rows": 300, "D": 24}
    chosen = [cases.Case(name, shape) for name in ("layer_norm", "add_layer_norm")]
    autotune.run([*chosen, few("layer_norm", **shape)], 3, tmp_path / "tuned.json")
    (entry,) = json.loads((tmp_path / "tuned.json").read_text())
    assert entry["config"] == {"BLOCK_M": 1, "num_warps": 2}
    assert (entry["kernel"], entry["key"], entry["microseconds"]) == (
        "layer_norm",
        layer_norm.key(300, 24, torch.bfloat16),
        30,
    )
    assert entry.keys() >= {"capability", "device", "date"}
    assert "of 5 tiles" in capsys.readouterr().out


@on_the_cpu
@pytest.mark.parametrize(("library", "fused"), [(10, False), (30, True)])
def test_a_product_that_loses_to_the_librarys_is_not_fused(library, fused, gpu, monkeypatch, tmp_path):
    def ours(config, **inputs):
        gpu.now += 20
        return cases.KERNELS["linear"].plain(**inputs)

    def peer(**inputs):
        gpu.now += library
        return cases.KERNELS["linear"].plain(**inputs)

    monkeypatch.setitem(cases.KERNELS, "linear", cases.KERNELS["linear"]._replace(ours=ours, peers={"peer": peer}))
    monkeypatch.setattr(autotune, "input_sets", lambda case, device: cases.input_sets(case, "cpu"))
    autotune.run([cases.Case("linear", {"M": 50, "N": 16, "K": 32})], 3, tmp_path / "tuned.json")
    (entry,) = json.loads((tmp_path / "tuned.json").read_text())
    monkeypatch.setattr(tuning, "SHIPPED", tmp_path / "tuned.json")
    tuning._table.cache_clear()
    assert linear.pays(50, 16, 32, torch.bfloat16) is fused
    assert entry["config"]["fused"] is fused
    tuning._table.cache_clear()


def test_a_kernel_that_cannot_be_tuned_does_not_stop_the_others(monkeypatch, tmp_path, capsys):
    def tune(group, rounds):
        if group[0].kernel == "layer_norm":
            raise RuntimeError("out of memory")
        return None, 3

    monkeypatch.setattr(autotune, "tune", tune)
    chosen = [cases.Case("layer_norm", {"rows": 300, "D": 24}), cases.Case("linear", {"M": 50, "N": 16, "K": 32})]
    autotune.run(chosen, 3, tmp_path / "tuned.json")
    printed = capsys.readouterr().out
    assert "not tuned: RuntimeError: out of memory" in printed and "of 3 tiles none that runs" in printed
    monkeypatch.setattr(autotune.isolated, "usable", lambda: False)
    with pytest.raises(InputError, match="cannot be used any more"):
        autotune.run(chosen, 3, tmp_path / "tuned.json")
