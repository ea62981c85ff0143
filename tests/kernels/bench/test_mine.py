"""`miniclip bench kernels --mine`: the laws find what breaks them, and what is refused is refused in one sentence."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from budget import DEVICE, DTYPES
from fake_gpu import ARGUMENTS, few, gpu, on_the_cpu  # noqa: F401

import miniclip
from miniclip.bench import records
from miniclip.cli import main
from miniclip.errors import WrongAnswer
from miniclip.kernels import ladder, laws
from miniclip.kernels.bench import cases, kernels, mine
from miniclip.kernels.table import KERNELS
from miniclip.ops import torch_ops

FILES = Path(__file__).parent / "mine"
NORM = {"rows": 5, "D": 37}


# ------------------------------------------------------------------------------------------------- the laws


@pytest.mark.parametrize("name", KERNELS)
def test_our_kernels_keep_the_laws(name):
    kernel = KERNELS[name]
    with torch.no_grad():
        laws.hold(kernel, kernel.ours, kernel.small[-1], DTYPES[-1], DEVICE)


def norm(x, weight, bias, *, eps):
    return torch_ops.layer_norm(x, weight, bias, eps=eps)


def in_place(x, weight, bias, *, eps):
    y = norm(x, weight, bias, eps=eps)
    x.zero_()
    return y


def never_twice(x, weight, bias, *, eps, calls=[]):  # noqa: B006
    calls.append(1)
    return norm(x, weight, bias, eps=eps) * (1 + 1e-7 * (len(calls) % 2))


def at(x, index):
    """The number at an index of x's memory, which may be beside x."""
    return x.as_strided((1,), (1,), x.storage_offset() + index)


def reads_beside(x, weight, bias, *, eps):
    there = x.storage_offset() + x.numel() < x.untyped_storage().nbytes() // x.element_size()
    return norm(x, weight, bias, eps=eps) + (at(x, x.numel()) if there else 0)


def writes_beside(x, weight, bias, *, eps):
    out = torch.empty_like(x).copy_(norm(x, weight, bias, eps=eps))
    if out.storage_offset():
        at(out, -1).zero_()
    return out


def unwritten(x, weight, bias, *, eps):
    out = torch.empty_like(x)
    if not out.storage_offset():
        return norm(x, weight, bias, eps=eps)
    out[:, 1:] = norm(x, weight, bias, eps=eps)[:, 1:]
    return out


def packed_rows(x, weight, bias, *, eps):
    return norm(x.as_strided(x.shape, (x.shape[1], 1)), weight, bias, eps=eps)


def aligned(x, weight, bias, *, eps):
    return norm(x if x.data_ptr() % 16 == 0 else x.roll(1), weight, bias, eps=eps)


def columns_side_by_side(x, weight, bias, *, eps):
    return norm(x if x.stride(1) == 1 else x.roll(1), weight, bias, eps=eps)


def squares_of_float16(x, weight, bias, *, eps):
    large = x.abs().max() > 16
    return norm(x, weight, bias, eps=eps) * (0 if large else 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x, **rest: 1.001 * norm(x, **rest),
            r"it is wrong by 1.0e-03 of the largest value, \d.\de-07 is allowed",
        ),
        (lambda x, **rest: norm(x, **rest)[:, :1], r"its shapes are \(5, 1\), not \(5, 37\)"),
        (lambda x, **rest: norm(x, **rest).double(), "it gives float64, not float32"),
        (lambda x, **rest: norm(x, **rest) / 0, "not all of its numbers are finite"),
        (lambda **inputs: None, "it returns None: is a `return` missing?"),
        (lambda **inputs: [norm(**inputs)], "it gives list, not tensors"),
        (lambda **inputs: norm(**inputs).cpu().numpy(), "it gives ndarray, not tensors"),
        (lambda **inputs: norm(**inputs).to("meta"), "it gives a tensor on meta, not on (cpu|cuda:0)"),
        (in_place, "it changes what it is given, x"),
        (never_twice, "different numbers in a second call"),
        (reads_beside, "it reads what is beside its inputs, or leaves a part of its result unwritten"),
        (writes_beside, "it writes beside its result"),
        (unwritten, "or leaves a part of its result unwritten"),
        (packed_rows, "if its inputs have rows that are apart in memory, it is wrong by"),
        (aligned, "if its inputs are not aligned to 16 bytes, it is wrong by"),
        (columns_side_by_side, "if its inputs have columns that are apart in memory, it is wrong by"),
        (squares_of_float16, "if its inputs are 8 times as large, it is wrong by"),
    ],
)
def test_each_law_finds_what_breaks_it(function, message):
    with pytest.raises(WrongAnswer, match=message):
        laws.hold(KERNELS["layer_norm"], function, NORM, torch.float32, DEVICE)


def test_the_sea_is_only_inside():
    before = torch.empty, torch.empty_like
    with laws.sea() as seas:
        x = torch.empty(2, 3, device=DEVICE)
        y = torch.empty_like(x.T, dtype=torch.float16)
        assert x.isnan().all() and y.stride() == (1, 3) and y.dtype == torch.float16
        assert torch.empty(3, dtype=torch.int64).shape == (3,) and len(seas) == 2
    assert (torch.empty, torch.empty_like) == before


# ---------------------------------------------------------------------------------------------- the command


def bench(file, function, operation, *options):
    return main(["bench", "kernels", "--mine", f"{FILES / file}.py:{function}", "--as", operation, *options])


@on_the_cpu
@pytest.mark.parametrize("function", ["right", "slow"])
def test_a_right_kernel_is_checked_at_all_shapes(function, capsys):
    assert bench("layer_norm", function, "layer_norm") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "right:" in line]
    shapes = [NORM, *({"rows": 3, "D": D} for D in (768, 512, 1024))]
    assert [row for shape in shapes for row in rows if ladder.describe("layer_norm", shape) in row] == rows
    assert {row.split()[4] for row in rows} >= {"float32", "float16"}


@on_the_cpu
def test_a_right_attention_of_a_newcomer(capsys, monkeypatch):
    kernel = KERNELS["attention"]
    monkeypatch.setitem(KERNELS, "attention", kernel._replace(small=kernel.small[:1]))
    assert bench("attention", "right", "attention", "--seconds", "0") == 0
    printed = capsys.readouterr().out
    assert "right: attention B=2 T=21 H=2 K=24 causal=True float32" in printed
    assert "not checked, time is over: attention B=1 T=50 H=1 K=64; attention B=1 T=77" in printed


@pytest.mark.parametrize(
    ("operation", "shape", "mistake"),
    [
        ("attention", "attention B=2 T=21 H=2 K=24 causal=True", "unscaled: the scores are not divided by √K"),
        ("layer_norm", "layer_norm rows=5 D=37", None),
    ],
)
def test_a_wrong_kernel_is_refused_in_one_sentence(operation, shape, mistake, monkeypatch, capsys):
    monkeypatch.setattr(mine, "measure", None)
    monkeypatch.setattr(mine, "count", None)
    assert bench(operation, "wrong", operation) == 1
    error = capsys.readouterr().err
    assert f"{operation}.py:wrong is refused, and nothing is timed: {shape} float32: it is wrong by " in error
    assert error.count("\n") == 1 and "e-07 is allowed" in error
    assert error.endswith(f"; it behaves as if {mistake}\n") if mistake else "behaves" not in error


def test_common_mistakes_are_recognised():
    def of(function, operation, shape):
        return mine.looks_like(operation, function, shape, DEVICE)

    def first_is_last(q, k, v, *, causal):
        return torch_ops.attention(q, k, v)

    causal, rows = KERNELS["attention"].small[0], {"rows": 4, "D": 9}
    assert of(first_is_last, "attention", causal) == "`causal` were not passed on"
    assert of(lambda q, k, v, *, causal: v, "attention", causal) is None
    assert of(KERNELS["attention"].plain, "attention", causal) is None
    no_bias = partial(lambda x, weight, bias, *, eps: norm(x, weight, 0 * bias, eps=eps))
    assert of(no_bias, "layer_norm", rows) == "there were no bias"
    assert of(KERNELS["gelu"].plain, "gelu", {"rows": 4, "N": 9}) is None  # numpy_ops.gelu has no bias


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (None, "f", r"there is no file \S+mine.py$"),
        ("f = 1", "f", "has no function f; it has none"),
        ("def g(): pass", "f", "has no function f; it has g"),
        ("import nowhere", "f", r"cannot be imported: it raises ModuleNotFoundError: .*nowhere.*\(mine.py, line 1\)"),
        ("\ndef f(:", "f", r"cannot be imported: it raises SyntaxError: .*line 2"),
        ("exit(3)", "f", "cannot be imported: it raises SystemExit: 3"),
        ("def f(x, weight): pass", "f", r"cannot be called with \(x, weight, bias, eps\)"),
        ("def f(**inputs): pass", "f", "layer_norm rows=5 D=37 float32: it returns None"),
        ("def f(**inputs):\n    return 1 / 0", "f", r"it raises ZeroDivisionError: .* \(mine.py, line 2\)"),
        ("import triton\n@triton.jit\ndef f(x): pass", "f", "is a Triton kernel: name the function that launches it"),
    ],
)
def test_files_that_cannot_be_used(source, name, message, tmp_path):
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    with pytest.raises(miniclip.InputError, match=message):
        mine.run(f"{tmp_path / 'mine.py'}:{name}", "layer_norm")


def test_what_the_emulator_does_not_know_is_not_called_wrong(tmp_path):
    source = "from miniclip.kernels.emulator.errors import Unknown\ndef f(**inputs): raise Unknown('no atom.add')"
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(miniclip.InputError, match=r"py:f cannot be checked in the emulator: .*; no atom.add$"):
        mine.run(f"{tmp_path / 'mine.py'}:f", "layer_norm")


def test_a_file_may_import_from_beside_it(tmp_path):
    (tmp_path / "beside_mine.py").write_text("from miniclip.ops.torch_ops import layer_norm")
    (tmp_path / "mine.py").write_text("from beside_mine import layer_norm as f")
    assert mine.load(f"{tmp_path / 'mine.py'}:f") is torch_ops.layer_norm


def test_options_that_do_not_fit(capsys):
    for options, message in {
        ("--mine", "x.py:f"): "--mine needs --as OPERATION",
        ("--mine", "x.py:f", "--as", "att"): "no operation 'att' for --as; choose one of attention, layer_norm",
        ("--mine", "x.py", "--as", "attention"): "--mine takes FILE.py:FUNCTION, not 'x.py'",
        ("--mine", "x.txt:f", "--as", "attention"): "there is no file x.txt",
        ("--as", "attention"): "pass it with --mine",
        ("--emulate",): "pass it with --mine",
    }.items():
        assert main(["bench", "kernels", *options]) == 1
        assert message in capsys.readouterr().err


@on_the_cpu
def test_on_a_gpu_it_is_timed_in_turns_with_ours_and_the_peers(gpu, monkeypatch, tmp_path, capsys):
    plain = KERNELS["layer_norm"].plain
    shape = few("layer_norm", rows=50, D=20)
    monkeypatch.setattr(cases, "MAIN", [shape])
    monkeypatch.setitem(KERNELS, "layer_norm", KERNELS["layer_norm"]._replace(ours=plain))
    monkeypatch.setattr(kernels, "measurer", lambda dtypes, **how: partial(kernels.measure, **{**ARGUMENTS, **how}))
    for out in (None, tmp_path):
        mine.measure("layer_norm", plain, quick=True, seconds=None, out=out)
    printed = capsys.readouterr().out
    assert re.search(r"your layer_norm  rows=50 D=20  float32\n  yours .*µs .*of the limit\n  miniclip .*µs", printed)
    assert "x the speed of the best peer" in printed
    (record,) = records.read(tmp_path)  # the first was not recorded
    assert (record["name"], record["ours"]) == ("your layer_norm", "yours")
    assert {"yours", "miniclip", "torch"} <= record["times"].keys()


@on_the_cpu
def test_what_is_wrong_at_clips_shapes_is_not_timed(gpu, monkeypatch):
    monkeypatch.setattr(cases, "MAIN", [few("layer_norm", rows=50, D=20)])
    monkeypatch.setattr(kernels, "measurer", lambda dtypes, **how: partial(kernels.measure, **{**ARGUMENTS, **how}))
    with pytest.raises(miniclip.InputError, match=r"no answer that can be timed: layer_norm rows=50 D=20 .*wrong by"):
        mine.measure("layer_norm", lambda x, **rest: norm(2 * x, **rest) * 2, quick=True, seconds=None, out=None)


@on_the_cpu
def test_without_a_gpu_it_is_emulated_and_counted():
    """Where Triton does not interpret, which is decided when it is imported: in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    target = f"{FILES / 'layer_norm.py'}:slow"
    command = [sys.executable, "-m", "miniclip", "bench", "kernels", "--mine", target, "--as", "layer_norm"]
    done = subprocess.run([*command, "--seconds", "0"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    checked, counted = done.stdout.split("\ncounted for compute capability 9.0 in bfloat16, not measured\n")
    assert "in the emulator, compiled for compute capability 9.0\n" in checked
    assert re.findall("right: layer_norm rows=5 D=37 ([a-z0-9]+) ", checked) == ["float32", "float16", "bfloat16"]
    shapes = KERNELS["layer_norm"].clip
    assert counted.count("layer_norm rows=50000") == len(shapes)
    line = r"[\d,]+ instructions, \d+ registers, 0 bytes spilled, [\d,]+ bytes shared, \d+ programs at once, "
    assert len(re.findall(rf"yours     _block_kernel: {line}[\d,]+ cycles a program by the model, ", counted)) == len(
        shapes
    )
    assert len(re.findall(rf"miniclip  \w+: {line}", counted)) == len(shapes)
