"""What a student sees of the course, and the pay-off."""

import json
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from course import EXERCISES, each_exercise, mistaken, solution, write

from miniclip import cli
from miniclip.errors import InputError
from miniclip.kernels.device import INTERPRETING
from miniclip.learn import attempts, grading, laws, payoff, skeletons
from miniclip.ops import numpy_ops

# -------------------------------------------------------------------------------------------------- what a student sees


@each_exercise
def test_the_reference_handed_in_is_done(exercise, tmp_path):
    write(tmp_path, exercise, solution(exercise))
    result = grading.grade(exercise, tmp_path)
    assert (result.state, result.behaves_as) == ("done", None), result


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def softmax(x:\n", "SyntaxError"),
        ("def softmx(x): return x", "has no function softmax"),
        ("softmax = 3", "has no function softmax"),
        ("from miniclip.ops.numpy_ops import softmax", "is not written in softmax.py, it is imported from"),
        ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind' (softmax.py, line 1)"),
        ("raise SystemExit(0)", "raises SystemExit"),
        ("def softmax(x):\n    y = x\n    return y / z", "NameError: name 'z' is not defined (softmax.py, line 3)"),
        ("def softmax(x): x / 2", "returns None: is a `return` missing?"),
        ("def softmax(x): return x, x", "gives a tuple, expected an array"),
        ("def softmax(): return 1", "takes or gives something unexpected: TypeError: softmax() takes 0"),
        ("def softmax(x): return x.sum(-1)", "has the shape (), expected (5,)"),
        ("import os\ndef softmax(x): os._exit(3)", "ended Python, with code 3"),
        ("def softmax(x):\n    while True: pass", "was still running after 3 seconds"),
    ],
)  # fmt: skip
def test_whatever_is_handed_in_is_told_of_in_a_line(source, message, tmp_path):
    write(tmp_path, EXERCISES["softmax"], source)
    result = grading.grade(EXERCISES["softmax"], tmp_path, limits={"seconds": 3} if "while" in source else None)
    assert result.state == "partial"
    messages = [verdict.message for verdict in result.verdicts]
    assert any(message in told for told in messages), messages
    assert all(told.count("\n") == 0 for told in messages)


def test_an_array_in_the_place_of_a_list_is_told(tmp_path):
    encode = EXERCISES["bpe_encode"]
    write(tmp_path, encode, "import numpy as np\ndef encode(self, text): return np.zeros(3, int)\n")
    verdicts = grading.grade(encode, tmp_path).verdicts
    assert any(verdict.message.startswith("gives an array, expected [") for verdict in verdicts)


def test_prints_reach_the_student(tmp_path, capsys):
    write(tmp_path, EXERCISES["softmax"], "def softmax(x):\n    print('shape', x.shape)\n    return x\n")
    assert cli.main(["learn", "check", str(tmp_path), "softmax"]) == 1
    assert "it printed:\n    ...\n    shape (" in capsys.readouterr().out


def test_hints_come_one_an_attempt_and_then_the_reference(tmp_path, capsys):
    softmax = EXERCISES["softmax"]
    told = []
    known = "import numpy as np\ndef softmax(x): return np.exp(x) / np.exp(x).sum(-1, keepdims=True)\n"
    sources = [f"def softmax(x): return x * {attempt} + 0.5\n" for attempt in (0, 0, 1, 2, 3, 4)]
    for source in [known, *sources[:2], "def softmax(x:\n", known, *sources[2:]]:
        write(tmp_path, softmax, source)
        assert cli.main(["learn", "check", str(tmp_path), "softmax"]) == 1
        out = capsys.readouterr().out
        if source in sources:
            told.append(out)
        else:  # what is known by name, and what cannot be read at all, cost no hint
            assert "Hint" not in out and ("as if the maximum were not" in out or "SyntaxError" in out)
    for out, number in zip(told, (1, 1, 2, 3)):
        assert f"Hint {number} of 3: {softmax.hints[number - 1]}" in out
    path, line = skeletons.line_of(softmax)
    for out in told[4:]:
        assert f"The reference is in {path}, line {line}." in out and "Hint" not in out


def test_hints_follow_the_law_that_fails(tmp_path, capsys):
    """Overflow has a hint of its own, which comes first; another law that fails begins with another hint."""
    softmax, formula = EXERCISES["softmax"], "import numpy as np\ndef softmax(x): return np.clip({}, 0, 1) * {}\n"
    right = "np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)"
    large = "np.nan_to_num(np.exp(x) / np.exp(x).sum(-1, keepdims=True), nan=0.5)"
    assert softmax.about["softmax_survives_large_numbers"] == 2 and softmax.about["softmax_is_its_formula"] == 1
    told = []
    for source in (formula.format(large, 1), formula.format(right, 2), formula.format(large, 1.0)):
        write(tmp_path, softmax, source)
        cli.main(["learn", "check", str(tmp_path), "softmax"])
        told += [line.strip() for line in capsys.readouterr().out.splitlines() if "Hint" in line]
    second, first, _ = softmax.hints[1], *softmax.hints[::2]
    assert told == [f"Hint 1 of 3: {second}", f"Hint 1 of 3: {first}", f"Hint 2 of 3: {first}"]


def test_a_check_that_was_ended_from_outside_counts_as_no_attempt(tmp_path, capsys):
    softmax = EXERCISES["softmax"]
    write(tmp_path, softmax, "def softmax(x): return x\n")
    cli.main(["learn", "check", str(tmp_path), "softmax"])
    before = (tmp_path / attempts.FILE).read_text()
    write(tmp_path, softmax, "import os\nos.kill(os.getpid(), 9)\n")
    assert cli.main(["learn", "check", str(tmp_path), "softmax"]) == 1
    assert "something else ended it, and it counts as no attempt" in capsys.readouterr().out
    assert (tmp_path / attempts.FILE).read_text() == before


TEXTBOOK = """
def block(ops, x, ln_1, attention, ln_2, mlp, *, config, causal, lengths, keep, trace):
    def norm(x, weight, bias):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.eps) * weight + bias

    def linear(x, weight, bias):
        return x @ weight{} + bias

    def attend(x):
        B, T, D = x.shape
        q, k, v = np.split(linear(x, **attention["qkv"]), 3, axis=-1)
        q, k, v = (y.reshape(B, T, config.heads, -1) for y in (q, k, v))
        return linear(ops.attention(q, k, v, causal=causal, lengths=lengths).reshape(B, T, D), **attention["out"])

    x = x + attend(norm(x, **ln_1))
    return x + linear(ops.ACTIVATIONS[config.activation](linear(norm(x, **ln_2), **mlp["fc"])), **mlp["proj"])
"""


def test_a_textbook_block_has_all_points_except_one(tmp_path, capsys):
    """`keep` and `trace` are this library's own. The file says how weights are laid out, as no textbook does."""
    block = EXERCISES["block"]
    assert '"weight" (out, in)' in skeletons.skeleton(block) and "import numpy as np\n" in skeletons.skeleton(block)
    write(tmp_path, block, "import numpy as np\n" + TEXTBOOK.format(".T"))
    assert cli.main(["learn", "check", str(tmp_path), "block"]) == 1
    out = capsys.readouterr().out
    assert "5 of 7 laws hold" in out and "3 of 4 points: what fails is about `keep` and `trace` alone" in out
    assert out.splitlines()[-1].split() == ["3", "of", "4"]
    write(tmp_path, block, "import numpy as np\n" + TEXTBOOK.format(""))
    assert grading.grade(block, tmp_path).points(block) == 0


def test_each_law_has_a_hint_that_comes_first():
    for exercise in EXERCISES.values():
        if exercise.track == "numpy" or INTERPRETING:
            assert list(exercise.about) == [law.__name__ for law in laws.of(exercise)]
            assert set(exercise.about.values()) <= {1, 2, 3}


def test_the_table_says_what_is_done_and_what_is_next(tmp_path, capsys):
    ids = ["softmax", "attention_weights", "causal_mask", "attention", "quick_gelu"]
    assert cli.main(["learn", "start", str(tmp_path), *ids]) == 0
    write(tmp_path, EXERCISES["softmax"], solution(EXERCISES["softmax"]))
    write(tmp_path, EXERCISES["quick_gelu"], "def quick_gelu(x): return x / 2\n")
    capsys.readouterr()
    assert cli.main(["learn", "check", str(tmp_path)]) == 1
    table = capsys.readouterr().out.rpartition("exercise ")[2]
    states = {line.split()[0]: line.split(maxsplit=2)[2] for line in table.splitlines()[1:6]}
    assert states == {
        "softmax": "done",
        "attention_weights": "next",
        "causal_mask": "to do",
        "attention": "to do",
        "quick_gelu": "partial: 2 of 4 laws hold",
    }
    assert table.splitlines()[6].split() == ["2", "of", "12"]
    assert cli.main(["learn", "progress", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"exercise {table}"


def test_start_writes_over_nothing(tmp_path, capsys):
    softmax = write(tmp_path, EXERCISES["softmax"], "# mine\n")
    assert cli.main(["learn", "start", str(tmp_path), "softmax", "layer_norm"]) == 0
    assert softmax.read_text() == "# mine\n"
    assert {path.name for path in tmp_path.iterdir()} == {"softmax.py", "layer_norm.py", "README.md"}
    assert "2 files written" in capsys.readouterr().out
    assert cli.main(["learn", "start", str(tmp_path), "softmax", "layer_norm"]) == 0
    assert "has all of these files already" in capsys.readouterr().out


def test_start_on_a_full_disk_leaves_nothing_half_written(tmp_path):
    """A limit on the size of files instead of a full disk."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)); from miniclip import cli;"
        f"raise SystemExit(cli.main(['learn', 'start', {str(tmp_path)!r}, 'softmax']))"
    )
    full = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert full.returncode == 1 and "cannot be written" in full.stderr and full.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert cli.main(["learn", "start", str(tmp_path), "softmax"]) == 0
    assert (tmp_path / "softmax.py").read_text() == skeletons.skeleton(EXERCISES["softmax"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["start", "{}", "sotfmax"], "there is no exercise sotfmax; choose among bpe_train, "),
        (["start", "{}/file/below"], "cannot be written"),
        (["start", "{}/file"], "is a file; name a directory"),
        (["check", "{}/nowhere"], "no such directory; create it with `miniclip learn start"),
        (["check", "{}/file", "softmax", "--json"], "no such directory"),
        (["check", "{}", "--json"], "has no exercises; write them with `miniclip learn start"),
        (["check", "{}", "softmax", "--junit", "{}"], "is a directory; name a file"),
        (["check", "{}", "softmax", "--gradescope", "{}"], "is a directory; name a file"),
        (["grade", "{}/nowhere", "softmax"], "no such directory"),
        (["grade", "{}", "softmax"], "has no directories; expected one for each submission"),
        (["grade", "{}", "sotfmax"], "there is no exercise sotfmax"),
        (["progress", "{}"], "has no exercises"),
        (["payoff", "{}"], "has no exercises"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments, message, tmp_path, capsys):
    """`check` has 1 for what is not done: there it is 2, so that no grader takes the one for the other."""
    (tmp_path / "file").write_text("")
    code = cli.main(["learn", *(argument.format(tmp_path) for argument in arguments)])
    assert code == (2 if arguments[0] == "check" else 1)
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "null", "[" * 100_000, '{"a": 3}', '{"a": {"x": 1}}', '{"a": {"hints": "x"}}'),
        *('{"a": {"state": 5}}', '{"a": {"passed": "x"}}', '{"a": {"laws": -1}}', '{"a": {"digest": [1]}}'),
    ],
)
def test_a_broken_count_of_attempts_is_told_and_stops_no_grader(text, tmp_path, capsys):
    (tmp_path / attempts.FILE).write_text(text)
    with pytest.raises(InputError, match="delete it to start counting again"):
        attempts.Attempts(tmp_path)
    assert cli.main(["learn", "check", str(tmp_path), "softmax", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["exercises"][0]["state"] == "to do"


def test_a_relative_path_and_files_beside_it_change_nothing(tmp_path, monkeypatch):
    """The grader imports nothing that lies where it is called, and still tells the line of the student's file."""
    (tmp_path / "course").mkdir()
    for name in ("random", "json", "numpy", "miniclip"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not to be imported')\n")
    write(tmp_path / "course", EXERCISES["softmax"], "def softmax(x):\n    return npp.exp(x)\n")
    monkeypatch.chdir(tmp_path)
    result = grading.grade(EXERCISES["softmax"], "course")
    assert {v.message for v in result.verdicts} == {"raises NameError: name 'npp' is not defined (softmax.py, line 2)"}


def test_what_a_submission_leaves_running_holds_nobody_up(tmp_path):
    source = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    write(tmp_path, EXERCISES["softmax"], source + solution(EXERCISES["softmax"]))
    begin = time.monotonic()
    assert grading.grade(EXERCISES["softmax"], tmp_path).state == "done"
    assert time.monotonic() - begin < 50


def test_an_exercise_brings_the_file_that_it_goes_on_in(tmp_path, capsys):
    assert cli.main(["learn", "start", str(tmp_path), "causal_mask"]) == 0
    assert (tmp_path / "attention_weights.py").is_file()
    assert f"causal_mask continues in {tmp_path / 'attention_weights.py'}" in capsys.readouterr().out
    weights = EXERCISES["attention_weights"]
    write(tmp_path, weights, mistaken(weights, weights.mutants[0].as_if))
    assert cli.main(["learn", "check", str(tmp_path)]) == 1
    assert "causal_mask:" not in capsys.readouterr().out  # it waits until its file's first exercise is done


def test_two_mistakes_at_once_are_told_one_after_the_other(tmp_path):
    """eps outside the root, and statistics in float16, too: no known mistake gives all of that."""
    norm = EXERCISES["layer_norm"]
    outside, narrow = norm.mutants[1].as_if, norm.mutants[-1].as_if
    write(tmp_path, norm, mistaken(norm, outside, narrow))
    result = grading.grade(norm, tmp_path)
    assert result.behaves_as == f"{outside}; and something else is wrong, too"


# ---------------------------------------------------------------------------------------------------------- the pay-off


def test_the_payoff_runs_every_function_that_has_a_part_in_naming_pictures(tmp_path, monkeypatch):
    """Each is replaced by one that leaves a mark when it is called, and then does what the reference does."""
    parts = payoff.inference(EXERCISES.values())
    assert {e.id for e in EXERCISES.values() if e.track == "numpy"} - {e.id for e in parts} == {
        "bpe_train", "causal_mask", "contrastive_loss", "contrastive_gradient",
        "softmax_gradient", "layer_norm_gradient", "attention_weights_gradient", "attention_gradient",
    }  # fmt: skip
    marks = types.ModuleType("marks")
    marks.seen = set()
    monkeypatch.setitem(sys.modules, "marks", marks)
    for exercise in parts:
        source = solution(exercise)
        at = source.index('"""', source.index('"""', source.index("def ")) + 3) + 4
        write(tmp_path, exercise, f"import marks\n{source[:at]}    marks.seen.add({exercise.id!r})\n{source[at:]}")
    right = payoff.accuracy(parts, tmp_path)
    assert marks.seen == {exercise.id for exercise in parts}
    assert right == payoff.accuracy() > 0.9


def test_the_payoff_shows_what_a_mistake_costs(tmp_path):
    """Students' functions call each other in there: one that is wrong is felt, wherever it is called from."""
    softmax, weights = EXERCISES["softmax"], EXERCISES["attention_weights"]
    write(tmp_path, softmax, "import numpy as np\ndef softmax(x): return np.ones_like(x) / x.shape[-1]\n")
    write(tmp_path, weights, solution(weights))
    assert payoff.accuracy([softmax, weights], tmp_path) < 0.5


def test_functions_that_are_joined_call_each_other_and_change_no_module():
    before = dict(vars(numpy_ops))
    ops = payoff.joined(numpy_ops, {"softmax": np.zeros_like})
    ones = np.ones((1, 2, 1, 4))
    assert ops.attention(ones, ones, ones).max() == 0 and numpy_ops.attention(ones, ones, ones).min() == 1
    assert vars(numpy_ops) == before


def test_the_payoff_takes_only_what_is_done_and_unchanged(tmp_path, capsys):
    softmax = EXERCISES["softmax"]
    write(tmp_path, softmax, solution(softmax))
    assert cli.main(["learn", "payoff", str(tmp_path)]) == 1
    assert "found none of these done: bpe_encode, " in capsys.readouterr().err
    assert cli.main(["learn", "check", str(tmp_path)]) == 0
    assert cli.main(["learn", "payoff", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("yours: softmax\n")
    write(tmp_path, softmax, solution(softmax) + "\n# changed\n")
    capsys.readouterr()
    assert cli.main(["learn", "progress", str(tmp_path)]) == 0
    assert "done at the last check, but the file has changed since" in capsys.readouterr().out
    assert cli.main(["learn", "payoff", str(tmp_path)]) == 1
