"""Tuned configurations: recorded, found again for the same kernel, shape and GPU, and used."""

import json

import pytest
import torch

import miniclip
from miniclip.kernels import attention, device, layer_norm, linear, tuning
from miniclip.kernels.table import KERNELS

KEY = {"D": 768, "dtype": "float16", "large": True}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and none of what ships."""
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "SHIPPED", tmp_path / "shipped.json")
    tuning._table.cache_clear()
    yield tmp_path
    tuning._table.cache_clear()


def entry(config, kernel="layer_norm", key=KEY, capability=90, **more):
    return {"kernel": kernel, "capability": capability, "key": key, "config": config, **more}


def test_what_was_recorded_is_found_for_the_same_kernel_shape_and_gpu(cache):
    tuning.record([entry({"BLOCK_M": 8}), entry({"BLOCK_M": 4}, capability=80)])
    assert tuning.find("layer_norm", KEY) == {"BLOCK_M": 8}
    assert tuning.find("layer_norm", {**KEY, "D": 512}, "default") == "default"
    assert tuning.find("activation", KEY) is None


def test_the_later_one_counts_and_others_stay(cache):
    tuning.record([entry({"BLOCK_M": 8}), entry({"BLOCK_N": 1}, kernel="activation")])
    tuning.record([entry({"BLOCK_M": 2}, microseconds=3.5)])
    assert tuning.find("layer_norm", KEY) == {"BLOCK_M": 2}
    assert tuning.find("activation", KEY) == {"BLOCK_N": 1}
    assert len(json.loads(tuning.cached().read_text())) == 2


def test_the_cache_comes_before_what_ships(cache):
    tuning.record([entry({"BLOCK_M": 1})], tuning.SHIPPED)
    assert tuning.find("layer_norm", KEY) == {"BLOCK_M": 1}
    tuning.record([entry({"BLOCK_M": 2})])
    assert tuning.find("layer_norm", KEY) == {"BLOCK_M": 2}


def test_a_broken_file_is_refused_by_name(cache):
    tuning.SHIPPED.write_text("[{")
    with pytest.raises(miniclip.InputError, match=r"shipped.json is not a file of tuned configurations: .*; delete it"):
        tuning.find("layer_norm", KEY)


def test_kernels_use_what_was_recorded(cache):
    config = {"BLOCK_M": 16, "BLOCK_N": 32, "num_warps": 4, "num_stages": 1}
    key = attention.key(77, 77, 64, torch.float16, False, 1)
    product = linear.key(5000, 3072, 64, torch.float16)
    tuning.record(
        [
            entry(config, "attention", key),
            entry({"BLOCK_M": 8, "num_warps": 2}, "layer_norm", layer_norm.key(5000, 768, torch.float16)),
            entry({"fused": False, "version": 2}, "linear", product),
        ]
    )
    assert attention.tiles(77, 77, 64, torch.float16, False, False).items() >= config.items()
    assert attention.tiles(50, 50, 64, torch.float16, False, False)["BLOCK_M"] == 64
    assert layer_norm.tiles(5000, 768, torch.float16)["BLOCK_M"] == 8
    assert not linear.pays(5000, 3072, 64, torch.float16) and linear.pays(5000, 3072, 128, torch.float16)


def test_what_ships_is_for_kernels_that_are_there():
    kernels = {kernel.tuned for kernel in KERNELS.values()} - {""}
    assert kernels == {"attention", "layer_norm", "activation", "linear", "patch_embed", "similarity"}
    assert all(found["kernel"] in kernels for found in json.loads(tuning.SHIPPED.read_text()))


@pytest.mark.parametrize(("capability", "size", "chosen"), [(80, 5, "a"), (90, 11, "c"), (86, 11, "b"), (100, 10, "a")])
def test_tables_are_read_by_size_and_then_by_device(capability, size, chosen, monkeypatch):
    monkeypatch.setattr(device, "capability", lambda: capability)
    assert device.choose({(80, 10): "a", (80, 20): "b", (90, 20): "c"}, size) == chosen
