"""`miniclip bench kernels`: its timing, its checks of answers, and its errors. No test measures a speed."""

import contextlib
import itertools
import json
import subprocess
import sys
import types
import warnings
from functools import partial

import pytest
import torch

import miniclip
from miniclip.bench import records, session, timing
from miniclip.cli import main
from miniclip.kernels import device, layer_norm, linear, oracle, tuning
from miniclip.kernels.bench import autotune, cases, gpu_timing, kernels

on_the_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are only interpreted without a GPU")

CEILINGS = {"copy": 4300.0, "product": 790.0}
FACTS = {
    "device": "NVIDIA H200",
    "versions": {"miniclip": "0.1.0", "torch": "2.13.0", "driver": None},
    "date": "2026-01-31",
}
ARGUMENTS = {"rounds": 2, "ladder": False, "ceilings": {"float32": CEILINGS}, "facts": FACTS, "device": "cpu"}


# ----------------------------------------------------------------------------------------------- timing


class Machine:
    """A clock that only moves when something runs, and a list of the runs."""

    def __init__(self):
        self.now, self.ran = 0.0, []
        self.clock = timing.Clock(lambda: self.now, lambda a, b: b - a, lambda: None, lambda run: self.ran.append("|"))

    def takes(self, name, *microseconds):
        durations = itertools.cycle(microseconds)

        def run():
            self.ran.append(name)
            self.now += next(durations)

        return run


def test_the_limit_is_the_ceiling_that_takes_longer():
    assert timing.limit(0, 4.3e9, CEILINGS) == (pytest.approx(1000), "copy")
    assert timing.limit(7.9e12, 4.3e9, CEILINGS) == (pytest.approx(10_000), "product")


def test_runs_take_turns_and_medians_are_taken():
    machine = Machine()
    runs = {"a": machine.takes("a", 5, 1, 9, 2, 1000), "b": machine.takes("b", 7)}
    times, rounds = timing.medians(runs, machine.clock, 5)
    assert (times, rounds) == ({"a": 5, "b": 7}, 5)  # the first run is the warm-up; the median is of 1, 9, 2, 1000, 5
    assert machine.ran == ["a", "b"] * 6


def test_a_run_alone_is_prepared_for():
    machine = Machine()
    timing.medians({"a": machine.takes("a", 5)}, machine.clock, 2, alone=True)
    assert machine.ran == ["a", "|", "a", "|", "a"]


@pytest.mark.parametrize(("seconds", "expected"), [(0.01, 30), (0.2, 15), (10, 3)])
def test_what_takes_long_has_fewer_rounds(seconds, expected):
    machine = Machine()
    assert timing.medians({"a": machine.takes("a", seconds * 1e6)}, machine.clock, 30)[1] == expected


@pytest.fixture
def gpu(monkeypatch):
    """A fake of the parts of torch.cuda that the timing uses; its graphs advance a fake clock by the recorded time."""
    machine, events = Machine(), []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.moment = machine.now

        def elapsed_time(self, end):
            return (end.moment - self.moment) / 1e3  # milliseconds

    class Graph:
        def replay(self):
            machine.now += max(self.microseconds, 1)

    @contextlib.contextmanager
    def graph(it, pool, capture_error_mode):
        start, it.microseconds = machine.now, None
        machine.recording = True
        try:
            yield
        finally:
            machine.recording = False
        it.microseconds = machine.now - start

    machine.recording = False
    fakes = {
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": graph,
        "graph_pool_handle": lambda: (0, 1),
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda: None,
        "current_device": lambda: 0,
        "synchronize": lambda: events.append("wait"),
        "empty_cache": lambda: None,
        "get_device_properties": lambda device: types.SimpleNamespace(L2_cache_size=1000),
        "get_device_name": lambda: "NVIDIA H200",
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return machine


def test_kernels_are_timed_in_graphs_over_all_sets_of_inputs(gpu):
    def quick(x):
        gpu.ran.append(x)
        gpu.now += 10

    def not_recordable(x):
        assert not gpu.recording, "synchronises"
        gpu.now += 30

    times, rounds, launched = gpu_timing.kernel_medians(
        {"a": quick, "b": not_recordable}, [{"x": i} for i in range(4)], 7
    )
    assert (times, rounds, launched) == ({"a": 10, "b": 30}, 7, ["b"])
    assert gpu.ran == [0, 1, 2, 3] * 3  # at least ten calls, and every set equally often


def test_sets_of_inputs_exceed_the_cache_twice(gpu):
    inputs = {"x": torch.zeros(100), "eps": 1e-5}  # 400 bytes
    assert gpu_timing.how_many_sets(inputs) == 5
    assert gpu_timing.how_many_sets({"x": torch.zeros(10_000)}) == 2


# ---------------------------------------------------------------------------------------- the answer first


def few(name, **shape):
    return cases.Case(name, shape, "float32")


# The last small shape of each kernel, for which work is counted.
SMALL = {name: few(name, **kernel.small[-1]) for name, kernel in cases.KERNELS.items()}


def test_all_kernels_at_clips_shapes_are_measured():
    assert {(case.kernel, str(case.shape)) for case in cases.CASES if case.dtype == "bfloat16"} >= {
        (name, str(shape)) for name, kernel in cases.KERNELS.items() for shape in kernel.clip
    }
    ends, norms, gelus = {"patch_embed", "similarity"}, {"layer_norm", "add_layer_norm"}, {"quick_gelu", "gelu"}
    assert {case.kernel for case in cases.CASES} >= {"attention", "linear", *ends, *norms, *gelus}


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
    assert (record["name"], record["ours"]) == ("attention ladder", "version 4")
    assert list(record["times"]) == ["version 1", "version 2", "version 3", "version 4"]


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
        written = kernel.plain(**inputs)
        written = sum(x.numel() for x in written) if isinstance(written, tuple) else written.numel()
        assert numbers == pytest.approx(read + written, abs=1)  # the logit scale is not counted


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


# -------------------------------------------------------------------------------------------- autotune


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
