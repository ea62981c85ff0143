"""`miniclip bench export`: what is written runs without miniclip, and says of right and wrong what our tests say.

The runners of GPU MODE and KernelBench are not packages, so these tests do what the runners do with the files.
"""

import importlib
import re
import sys

import pytest
import torch
from budget import DEVICE

from miniclip.cli import main
from miniclip.kernels import attention, layer_norm
from miniclip.kernels.bench import bundle, export
from miniclip.kernels.table import KERNELS

# How GPU MODE's eval.py reads a size of a test case: no digits and no underscores in names, no fractions.
SIZE = re.compile(r"\s*([a-zA-Z]+):\s*([a-zA-Z]+|[+-]?[0-9]+)\s*")
DTYPE = "float16"  # the interpreter has no bfloat16


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that exports an operation -> ({file: text}, imported) where `imported` imports a file by its name."""

    def write(operation, form):
        assert main(["bench", "export", operation, "--to", str(tmp_path), "--form", form, "--dtype", DTYPE]) == 0
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("task", "reference", "submission", "template", "model_new", "problem")
    yield write
    for name in names:
        sys.modules.pop(name, None)


def cases(task, section):
    """The test cases of a section of task.yml, as GPU MODE's runner writes and reads them: [{size: number}]."""
    lines = re.search(rf"^{section}:\n((?:  - .*\n)+)", task, re.MULTILINE)[1].splitlines()
    found = []
    for line in lines:
        fields = line.strip("- {}").replace('"', "").split(", ")
        assert all(SIZE.fullmatch(field) for field in fields), line
        found.append({SIZE.fullmatch(field)[1]: int(SIZE.fullmatch(field)[2]) for field in fields})
    return found


@pytest.mark.parametrize("operation", KERNELS)
def test_a_task_for_gpu_mode(operation, written):
    files = written(operation, "gpumode")
    assert set(files) == {"reference.py", "task.py", "task.yml", "template.py", "submission.py"}
    assert not any(re.search(r"(import|from) miniclip", text) for text in files.values())
    tests, benchmarks = cases(files["task.yml"], "tests"), cases(files["task.yml"], "benchmarks")
    assert len(benchmarks) == max(1, len(KERNELS[operation].clip))
    reference, submission, template = map(importlib.import_module, ("reference", "submission", "template"))
    data = reference.generate_input(**tests[0])
    data = {name: tuple(x) if isinstance(x, tuple) else x for name, x in data.items()}  # as the runner copies them
    with torch.no_grad():
        right = submission.custom_kernel(data)
        assert reference.check_implementation(data, right) == (True, "")
        assert reference.check_implementation(data, template.custom_kernel(data)) == (True, "")
    first = right[0] if isinstance(right, tuple) else right
    assert first.device.type == DEVICE
    for wrong, message in (
        (first + 0.01 * first.abs().max(), "wrong by "),
        (first.index_fill(0, torch.tensor([len(first) // 2], device=DEVICE), float("nan")), "wrong by nan"),
        (first[1:], "its shapes are "),
        (first.double(), "it gives [torch.float64"),
    ):
        good, said = reference.check_implementation(data, (wrong, *right[1:]) if isinstance(right, tuple) else wrong)
        assert not good and message in said, said


def test_a_seed_gives_one_input(written):
    written("attention", "gpumode")
    reference = importlib.import_module("reference")
    same, again, other = (reference.generate_input(B=2, T=3, H=1, K=4, causal=1, seed=seed)["q"] for seed in (1, 1, 2))
    assert torch.equal(same, again) and not torch.equal(same, other)
    assert reference.generate_input(B=2, T=3, H=1, K=4, causal=0, seed=1)["causal"] is False


@pytest.mark.parametrize("operation", [name for name, kernel in KERNELS.items() if not export.records(kernel)])
def test_problems_for_kernelbench(operation, written, tmp_path):
    files = written(operation, "kernelbench")
    problems = sorted(set(files) - {"model_new.py"})
    assert len(problems) == max(1, len(KERNELS[operation].clip))
    # Its static check refuses these words, also in docstrings. Comments may have them.
    code = "\n".join(line.partition("#")[0] for line in files["model_new.py"].splitlines())
    assert not re.search(r"\bpass\b|\btry\s*:|\bexcept\b", code)
    assert "@triton.jit" in code
    small = re.sub(r"\b(B|H|T|rows|M|N|K|D|E)=\d+", r"\1=16", files[problems[0]]).replace("size=224", "size=32")
    (tmp_path / "problem.py").write_text(re.sub(r"\b(B|H|rows|M)=16", r"\1=2", small))
    problem, new = importlib.import_module("problem"), importlib.import_module("model_new")
    inputs = [x.to(torch.float16).to(DEVICE) for x in problem.get_inputs()]
    with torch.no_grad():
        expected, given = (model(*problem.get_init_inputs())(*inputs) for model in (problem.Model, new.ModelNew))
    assert expected.shape == given.shape
    torch.testing.assert_close(given, expected, atol=1e-2, rtol=1e-2)  # KernelBench's, of 16 bits


def test_what_is_there_is_kept(tmp_path, capsys):
    export.run("relu", to=tmp_path)
    (tmp_path / "submission.py").write_text("mine")
    assert main(["bench", "export", "relu", "--to", str(tmp_path)]) == 1
    assert "pass --overwrite, or another folder with --to" in capsys.readouterr().err
    assert (tmp_path / "submission.py").read_text() == "mine"
    assert main(["bench", "export", "relu", "--to", str(tmp_path), "--overwrite"]) == 0
    assert "custom_kernel" in (tmp_path / "submission.py").read_text()


def test_export_names_what_it_cannot_use(tmp_path, capsys):
    assert main(["bench", "export", "nothing"]) == 1
    assert "no operation 'nothing'; choose one of attention, layer_norm" in capsys.readouterr().err
    assert main(["bench", "export", "packed_attention", "--form", "kernelbench"]) == 1
    assert "also texts of packed_attention: pass --form gpumode" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["bench", "export", "relu", "--to", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_of_two_definitions_with_one_name_both_are_in_the_file():
    scope = {}
    text = bundle.bundle([attention.tiles, layer_norm.tiles])
    exec(text, scope)
    assert scope["tiles"](50, 50, 64, torch.float16, False, False)["BLOCK_M"] == 64
    assert scope["LAYER_NORM_tiles"](5, 512, torch.float16) == layer_norm.tiles(5, 512, torch.float16)
    assert re.findall(r"^def (\w*key)\(", text, re.MULTILINE) == ["key", "LAYER_NORM_key"]
