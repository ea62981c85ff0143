"""What those who grade get: JSON, JUnit XML, Gradescope's results, a table of a folder, exit codes."""

import csv
import hashlib
import json
import xml.etree.ElementTree as ET

from course import EXERCISES, mistaken, solution, write

import miniclip
from miniclip import cli
from miniclip.errors import InputError
from miniclip.learn import grading
from miniclip.runtime.installation import install


def test_graders_get_json_and_junit_and_leave_nothing_behind(tmp_path, capsys):
    write(tmp_path, EXERCISES["softmax"], solution(EXERCISES["softmax"]))
    weights = EXERCISES["attention_weights"]
    write(tmp_path, weights, mistaken(weights, weights.mutants[0].as_if))
    junit = tmp_path.parent / f"{tmp_path.name}.xml"
    ids = ["softmax", "attention_weights", "layer_norm"]
    command = ["learn", "check", str(tmp_path), *ids, "--seed", "5", "--json", "--junit", str(junit)]
    assert cli.main(command) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["seed"], told["points"], told["of"]) == (5, 2, 9)
    assert [entry["state"] for entry in told["exercises"]] == ["done", "partial", "to do"]
    assert told["exercises"][1]["behaves_as_if"] == EXERCISES["attention_weights"].mutants[0].as_if
    assert {path.name for path in tmp_path.iterdir()} == {"softmax.py", "attention_weights.py"}
    assert told["version"] == miniclip.__version__
    source = (tmp_path / "softmax.py").read_bytes()
    assert told["exercises"][0]["sha256"] == hashlib.sha256(source).hexdigest()
    assert [entry["ended_from_outside"] for entry in told["exercises"]] == [False] * 3

    suites = {suite.get("name"): suite for suite in ET.parse(junit).getroot()}
    assert list(suites) == ids
    for entry in told["exercises"]:
        suite = suites[entry["id"]]
        failed = {case.get("name"): case.find("failure") is not None for case in suite}
        assert failed == {law["law"]: not law["passed"] for law in entry["laws"]}
        assert int(suite.get("failures")) == sum(failed.values()) and int(suite.get("tests")) == len(failed)


def test_json_has_what_was_printed(tmp_path, capsys):
    write(tmp_path, EXERCISES["softmax"], "print('hello')\n" + solution(EXERCISES["softmax"]))
    assert cli.main(["learn", "check", str(tmp_path), "softmax", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exercises"][0]["printed"] == "hello"


def test_gradescope_gets_its_results(tmp_path, capsys):
    write(tmp_path, EXERCISES["softmax"], solution(EXERCISES["softmax"]))
    write(
        tmp_path,
        EXERCISES["quick_gelu"],
        "from miniclip.ops.numpy_ops import silu\ndef quick_gelu(x): return silu(x)\n",
    )
    path = tmp_path / "results.json"
    ids = ["softmax", "quick_gelu", "layer_norm"]
    assert cli.main(["learn", "check", str(tmp_path), *ids, "--json", "--gradescope", str(path)]) == 1
    tests = json.loads(path.read_text())["tests"]
    assert [(test["number"], test["score"], test["max_score"], test["status"]) for test in tests] == [
        ("softmax", 2, 2, "passed"), ("layer_norm", 0, 3, "failed"), ("quick_gelu", 0, 1, "failed"),
    ]  # fmt: skip
    assert "It behaves as if it were SiLU" in tests[2]["output"] and "is missing" in tests[1]["output"]


def test_a_folder_of_submissions_becomes_one_table(tmp_path, capsys):
    softmax = EXERCISES["softmax"]
    for name, source in (("anna", solution(softmax)), ("ben, c", "def softmax(x): return x\n"), ("dora", None)):
        (tmp_path / "all" / name).mkdir(parents=True)
        if source:
            write(tmp_path / "all" / name, softmax, source)
    (tmp_path / "all" / "notes.txt").write_text("no submission")
    (tmp_path / "all" / ".git").mkdir()
    assert cli.main(["learn", "grade", str(tmp_path / "all"), "softmax", "--csv", str(tmp_path / "grades.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "grades.csv").read_text().splitlines()))
    assert [(row["submission"], row["softmax"], row["points"], row["of"], row["softmax state"]) for row in rows] == [
        ("anna", "2", "2", "2", "done"), ("ben, c", "0", "0", "2", "partial"), ("dora", "0", "0", "2", "to do"),
    ]  # fmt: skip
    assert [len(row["softmax sha256"]) for row in rows] == [64, 64, 0]
    assert capsys.readouterr().err.splitlines() == ["anna: 2 of 2", "ben, c: 0 of 2", "dora: 0 of 2"]


def test_one_submission_that_cannot_be_checked_stops_no_other(tmp_path, capsys, monkeypatch):
    def grade(exercise, directory, seed):
        if directory.name == "a":
            raise InputError("cannot be read")
        return grading.Result(exercise.id, "done")

    monkeypatch.setattr(grading, "grade", grade)
    for name in "ab":
        (tmp_path / name).mkdir()
    assert cli.main(["learn", "grade", str(tmp_path), "softmax"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == ["a,0,0,2,not checked,", "b,2,2,2,done,"]
    assert "softmax could not be checked: cannot be read" in err


def test_what_is_missing_is_told_as_it_can_be_installed(monkeypatch):
    monkeypatch.setattr(grading.importlib.util, "find_spec", lambda name: None)
    assert grading.why_not(EXERCISES["vector_add"]) == f"vector_add needs torch and triton: {install('gpu')}"


def test_junit_can_be_read_whatever_a_submission_says(tmp_path, capsys):
    write(tmp_path, EXERCISES["softmax"], "def softmax(x): raise ValueError('<a> \\x00 \\x1b')\n")
    junit = tmp_path / "grade.xml"
    assert cli.main(["learn", "check", str(tmp_path), "softmax", "--json", "--junit", str(junit)]) == 1
    (failure, *_) = ET.parse(junit).getroot().iter("failure")
    assert "<a> \ufffd \ufffd (softmax.py, line 1)" in failure.get("message")


def test_the_exit_code_is_0_where_all_that_was_named_is_done(tmp_path, capsys):
    write(tmp_path, EXERCISES["softmax"], solution(EXERCISES["softmax"]))
    assert cli.main(["learn", "check", str(tmp_path), "softmax"]) == 0
    assert cli.main(["learn", "check", str(tmp_path), "softmax", "layer_norm", "--json"]) == 1
