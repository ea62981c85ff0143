"""`miniclip bench kernels`: its cases, its checks of answers, and its errors. No test measures a speed."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import itertools
import json
import subprocess
import sys
import warnings
from functools import partial

import pytest
import torch
from fake_gpu import ARGUMENTS, few, gpu, on_the_cpu  # noqa: F401

import miniclip
from miniclip.bench import records, session
from miniclip.cli import main
from miniclip.kernels import device, oracle
from miniclip.kernels.bench import cases, gpu_timing, kernels
from miniclip.kernels.float8 import Weight

# ----------------------------------------------------------------------------------------------------- the answer first


# The last small shape of each kernel, for which work is counted.
SMALL = {name: few(name, **kernel.small[-1]) for name, kernel in cases.KERNELS.items()}


def test_all_kernels_at_clips_shapes_are_measured():
    assert {(case.kernel, str(case.shape)) for case in cases.CASES if case.dtype == "bfloat16"} >= {
        (name, str(shape)) for name, kernel in cases.KERNELS.items() for shape in kernel.clip
    }
    ends, norms, gelus = {"patch_embed", "similarity"}, {"layer_norm", "add_layer_norm"}, {"quick_gelu", "gelu"}
    assert {case.kernel for case in cases.CASES} >= {"attention", "linear", *ends, *norms, *gelus}


def test_cases_come_in_the_order_of_the_targets():
    """A run of minutes reaches the first ones: attention at CLIP's five lengths, norms, products, patches."""
    first = [case.kernel for case in cases.CASES]
    assert first[:5] == ["attention"] * 5 and all(case.shape["B"] == 256 for case in cases.CASES[:5])
    assert list(dict.fromkeys(first))[:5] == ["attention", "layer_norm", "add_layer_norm", "linear", "patch_embed"]
    main = cases.CASES[: len(cases.MAIN)]
    assert set(first) == {case.kernel for case in main} == {name for name, k in cases.KERNELS.items() if k.clip}
    for case in main:  # what torch.compile fuses is measured against that, and not against separate kernels
        assert (cases.PLAIN in case.modes) is (cases.moves(case.kernel) or case.kernel == "similarity")
        assert cases.LONG not in case.modes
    modes = [cases.LONG in case.modes for case in cases.CASES]
    assert modes == sorted(modes) and any(modes)  # what takes minutes comes last


def test_the_ladder_has_all_versions_of_all_kernels_one_shape_of_each_first():
    several = {name for name, kernel in cases.KERNELS.items() if kernel.clip and len(kernel.versions) > 1}
    assert {case.kernel for case in cases.LADDERS[: len(several)]} == several
    assert {(case.kernel, str(case.shape)) for case in cases.LADDERS} == {
        (name, str(shape)) for name in several for shape in cases.KERNELS[name].clip
    }


def test_attention_has_every_kernel_of_torch_as_a_peer():
    assert {"SDPA, cuDNN", "SDPA, Flash", "SDPA, efficient"} == cases.KERNELS["attention"].peers.keys()


def test_the_limit_is_a_copy_of_as_many_bytes_in_the_same_graphs(gpu, monkeypatch):
    """A copy of a gigabyte has no gaps between calls: a kernel that moves less could not reach it."""

    def copies(size, count, device):
        def copy():
            gpu.now += size / 1000  # a gigabyte a second

        return dict.fromkeys(gpu_timing.COPIES, [copy] * count)

    def ours(**inputs):
        gpu.now += 10
        return norm.plain(**inputs)

    norm = cases.KERNELS["layer_norm"]
    monkeypatch.setitem(cases.KERNELS, "layer_norm", norm._replace(ours=ours))
    monkeypatch.setattr(gpu_timing, "copies", copies)
    record = kernels.measure(few("layer_norm", rows=50, D=20), **ARGUMENTS)
    assert record["bytes"] == 4 * (2 * 50 * 20 + 2 * 20)
    assert record["ceilings"]["copy"] == pytest.approx(1) and record["ceilings"]["product"] == 790
    assert record["share_of_limit"] == pytest.approx(record["bytes"] / 1000 / 10)
    assert not set(record["times"]) & set(gpu_timing.COPIES)


def test_ceilings_that_cannot_be_measured_cost_only_the_shares(gpu, monkeypatch, capsys):
    monkeypatch.setattr(oracle, "SLACK", 50)

    def fails(dtype):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpu_timing, "ceilings", fails)
    monkeypatch.setitem(
        cases.KERNELS, "layer_norm", cases.KERNELS["layer_norm"]._replace(ours=cases.KERNELS["layer_norm"].plain)
    )
    measure = kernels.measurer(["float32"], rounds=2, ladder=False, facts=ARGUMENTS["facts"], device="cpu")
    record = measure(SMALL["layer_norm"])
    assert record["value"] and record["share_of_limit"] is None
    assert "ceilings are not known: RuntimeError: out of memory" in capsys.readouterr().err


@on_the_cpu
@pytest.mark.parametrize(
    "case", [*SMALL.values(), few("attention", B=1, T=5, H=2, K=16, causal=True)], ids=cases.describe
)
def test_each_kernel_goes_from_its_check_to_its_record(case, gpu, monkeypatch):
    monkeypatch.setattr(oracle, "SLACK", 50)  # in float32 on the CPU, torch's own error can be almost 0
    record = kernels.measure(case, **ARGUMENTS)
    json.dumps(record)
    assert {"miniclip", "torch"} <= record["times"].keys()
    assert record["error"] <= record["allowed_error"] < 1e-4
    assert set(records.REPORTED) <= record.keys() and records.summary(record)


@on_the_cpu
def test_the_ladder_measures_versions(gpu, monkeypatch):
    monkeypatch.setattr(oracle, "SLACK", 50)
    monkeypatch.setattr(gpu_timing, "CALLS", 1)
    record = kernels.measure(SMALL["attention"], **{**ARGUMENTS, "ladder": True})
    assert (record["name"], record["ours"]) == ("attention ladder", "version 6")
    assert list(record["times"]) == [f"version {i}" for i in range(1, 7)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x.index_fill(0, torch.tensor([0]), 0), "wrong by"),
        (lambda x: x.index_fill(0, torch.tensor([299]), 0), "wrong by"),
        (lambda x: 1.001 * x, "wrong by"),
        (lambda x: x[:, :1], "its shapes are"),
        (lambda x: x.index_fill(0, torch.tensor([150]), float("nan")), "not all of its numbers are finite"),
    ],
)
def test_a_wrong_answer_is_not_timed_and_fails_the_run(wrong, message, gpu, monkeypatch, tmp_path, capsys):
    norm = cases.KERNELS["layer_norm"]
    calls = norm._replace(ours=lambda **inputs: wrong(norm.plain(**inputs)))
    monkeypatch.setitem(cases.KERNELS, "layer_norm", calls)
    case = few("layer_norm", rows=300, D=24)

    monkeypatch.setattr(kernels, "PEERS_SLACK", 1e9)  # only for peers, not for ours
    gelu = cases.KERNELS["gelu"]
    monkeypatch.setitem(cases.KERNELS, "gelu", gelu._replace(ours=gelu.plain))
    pair = [case, few("gelu", rows=30, N=8)]
    with pytest.raises(miniclip.InputError, match=f"1 of 2 cases .*layer_norm rows=300 D=24 float32: .*{message}"):
        session.run(pair, partial(kernels.measure, **ARGUMENTS), cases.describe, tmp_path)
    bad, good = records.read(tmp_path)
    assert bad["times"] == {} and bad["value"] is bad["share_of_limit"] is bad["best_peer"] is None
    assert message in bad["skipped"]["miniclip"] and message in capsys.readouterr().out
    assert good["name"] == "gelu" and good["value"]  # the other cases are measured


def test_a_provider_that_raises_is_listed_with_its_reason(gpu, monkeypatch):
    def unsupported(**inputs):
        warnings.warn("heads are too narrow", stacklevel=1)
        raise RuntimeError("no kernel\nfor this")

    norm = cases.KERNELS["layer_norm"]
    calls = norm._replace(ours=norm.plain, peers={"their best": unsupported})
    monkeypatch.setitem(cases.KERNELS, "layer_norm", calls)
    record = kernels.measure(SMALL["layer_norm"], **ARGUMENTS)
    assert record["skipped"] == {"their best": "RuntimeError: no kernel / heads are too narrow"}
    assert "their best" in records.summary(record) and "heads are too narrow" in records.summary(record)


@pytest.mark.parametrize(
    ("name", "shape", "gflop", "megabytes"),
    [
        ("attention", {"B": 256, "T": 50, "H": 12, "K": 64}, 1.966, 78.6),
        ("attention", {"B": 256, "T": 77, "H": 8, "K": 64, "causal": True}, 1.574, 80.7),
        ("attention", {"B": 256, "T": 197, "H": 12, "K": 64}, 30.5, 310),
        ("attention", {"B": 256, "T": 257, "H": 16, "K": 64}, 69.3, 539),
        ("attention", {"B": 256, "T": 577, "H": 16, "K": 64}, 349, 1210),
        ("layer_norm", {"rows": 50_000, "D": 768}, 0, 153.6),
        ("add_layer_norm", {"rows": 50_000, "D": 768}, 0, 307.2),
        ("gelu", {"rows": 65_792, "N": 4096}, 0, 2 * 539),
        ("linear", {"M": 65_792, "N": 4096, "K": 1024}, 552, 135 + 8.4 + 539),
        ("patch_embed", {"B": 256, "P": 32, "D": 768, "size": 224}, 59.2, 77.1 + 4.7 + 19.7),
        ("similarity", {"B": 256, "N": 1000, "E": 512}, 0.262, 1.8),
    ],
)
def test_work_is_what_one_counts_by_hand(name, shape, gflop, megabytes):
    flops, numbers = cases.KERNELS[name].work(**shape)
    assert flops / 1e9 == pytest.approx(gflop, rel=5e-3)
    assert numbers * 2 / 1e6 == pytest.approx(megabytes, rel=5e-3)


@pytest.mark.parametrize("name", cases.KERNELS)
def test_work_counts_what_is_read_and_written(name):
    kernel = cases.KERNELS[name]
    for shape in (*kernel.clip, kernel.small[-1]):
        _, numbers = kernel.work(**shape)
        inputs = kernel.inputs(lambda *shape: torch.empty(shape, dtype=torch.bfloat16, device="meta"), **shape)
        read = sum(x.numel() for x in inputs.values() if isinstance(x, torch.Tensor))
        read += sum(
            x.numel() * x.itemsize // 2 for weight in inputs.values() if isinstance(weight, Weight) for x in weight
        )
        written = kernel.plain(**inputs)
        written = sum(x.numel() for x in written) if isinstance(written, tuple) else written.numel()
        assert numbers == pytest.approx(read + written, abs=1)  # the logit scale is not counted


# ---------------------------------------------------------------------------------------------------------- the command


def test_bench_kernels_needs_a_gpu(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(device, "INTERPRETING", False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for extra in (["--out", str(tmp_path)], ["--autotune"], ["--ladder"]):
        assert main(["bench", "kernels", *extra]) == 1
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        assert "needs an NVIDIA GPU" in printed.err and "bench models --device cpu" in printed.err
    monkeypatch.setattr(device, "INTERPRETING", True)
    assert main(["bench", "kernels"]) == 1
    assert "TRITON_INTERPRET" in capsys.readouterr().err
    assert main(["bench", "models", "--out", str(tmp_path)]) == 1
    assert "--device cpu" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_bench_kernels_refuses_what_is_not_there_before_it_looks_for_a_gpu(capsys):
    assert main(["bench", "kernels", "--only", "nonsense"]) == 1
    assert "choose one of attention, layer_norm" in capsys.readouterr().err
    assert main(["bench", "kernels", "--autotune", "--out", "anywhere"]) == 1
    assert "--out is for records" in capsys.readouterr().err


def test_what_time_does_not_suffice_for_is_named(capsys, monkeypatch):
    ticks = itertools.count(0, 10)
    monkeypatch.setattr(session.time, "monotonic", lambda: next(ticks))
    assert list(session.within(25, "abcd", str.upper)) == ["a", "b"]
    assert capsys.readouterr().err == "25 s are over, not measured: C; D\n"


def test_help_imports_neither_torch_nor_triton():
    code = """
import sys
from miniclip.cli import main
for arguments in (["--help"], ["bench", "--help"], ["bench", "kernels", "--help"], ["bench", "report", "--json"]):
    try:
        main(arguments)
    except SystemExit:
        pass
assert not {"torch", "triton", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("missing", ["torch", "triton"])
def test_what_is_not_installed_is_named(missing, monkeypatch, capsys):
    monkeypatch.setattr(miniclip, "kernels", miniclip.kernels)  # restored after the test
    for name in [name for name in sys.modules if name.startswith("miniclip.kernels")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["bench", "kernels"]) == 1
    assert f"bench kernels needs {missing}" in capsys.readouterr().err
