"""The steps of `make gpu`: limits, results that are copied out, and what a machine with a GPU may lack."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import ROOT

from miniclip.kernels.bench import cases, counters, steps

STEP = steps.Step("a", 20, ["-c", "print('hello')"])


def test_all_steps_fit_eight_minutes_and_the_kernels_come_before_the_models():
    names = [step.name for step in steps.STEPS]
    assert sum(step.seconds for step in steps.STEPS) <= 480
    assert names[:6] == ["check", "compile", "tests-of-kernels", "kernels", "models", "versions"]
    assert names[6:] == ["report", "tests-of-operations", "counters"]
    for step in steps.STEPS:  # a benchmark ends by itself, with its records: cases end within 15 seconds after the time
        if "--seconds" in step.command:
            assert int(step.command[step.command.index("--seconds") + 1]) + 15 <= step.seconds
        assert all(Path(ROOT, part).exists() for part in step.command if part.startswith("tests/"))


def test_a_step_that_fails_or_hangs_does_not_stop_the_others(tmp_path, capsys):
    hang = "import time; print('begun', flush=True); time.sleep(60)"
    results = steps.run(
        [
            STEP._replace(name="fails", command=["-c", "raise SystemExit(3)"]),
            STEP._replace(name="hangs", seconds=1, command=["-c", hang]),
            STEP,
        ],
        os.environ, tmp_path,
    )  # fmt: skip
    assert results == ["fails", "hangs"]
    printed = capsys.readouterr().out
    assert "fails: 0 of 20 s, FAILED (3)" in printed and "FAILED (124)" in printed and "begun\n" in printed
    assert printed.endswith("41 s\n") and printed == (tmp_path / "steps.log").read_text()


def test_results_are_copied_out_after_every_step(tmp_path, monkeypatch):
    """The next step may be the last that a borrowed machine sees."""
    monkeypatch.setattr(steps, "ROOT", tmp_path / "checkout")
    (tmp_path / "checkout/kernels/bench/results").mkdir(parents=True)
    write = "open('kernels/bench/results/gpu.jsonl', 'a').write('{}'); open('kernels/README.md', 'w').write('new')"
    look = f"assert open({str(tmp_path / 'out/gpu.jsonl')!r}).read() == '{{}}', 'not there yet'"
    run = [STEP._replace(command=["-c", write]), STEP._replace(command=["-c", look])]
    assert steps.run(run, os.environ, tmp_path / "out") == []
    assert (tmp_path / "out/README.md").read_text() == "new" and "hello" not in (tmp_path / "out/steps.log").read_text()


def test_tests_begin_only_while_there_is_time_and_end_with_a_summary(tmp_path):
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_slow.py").write_text(
        "import pytest\n@pytest.mark.parametrize('i', range(9))\ndef test(i): pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-c", os.devnull, str(tmp_path)]
    for end, result in ((0, "9 skipped"), (time.time() + 600, "9 passed")):
        environment["MINICLIP_TESTS_END"] = str(end)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == (end == 0) and result in done.stdout, done.stdout
        assert ("not run: the time for the tests is over" in done.stdout) is (end == 0)


def test_the_environment_leaves_out_what_a_gpu_machine_has_too_much_of():
    assert steps.ENVIRONMENT["MINICLIP_WITHOUT"] == "jax,tensorflow"
    assert steps.ENVIRONMENT["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    for step in steps.STEPS:
        if "pytest" in step.command:
            assert step.command[step.command.index("-k") + 1] == "not jax and not tensorflow"


def test_the_rehearsal_blocks_what_such_a_machine_may_lack(tmp_path):
    import rehearsal

    missing = rehearsal.missing_there()
    assert {"ftfy", "wcwidth", "open_clip", "clip"} <= set(missing)
    assert not {"torch", "triton", "numpy", "transformers", "pytest", "hypothesis", "jax"} & set(missing)
    (tmp_path / "sitecustomize.py").write_text(rehearsal.SITE.format(modules=missing))
    code = "import importlib.util, torch; assert not importlib.util.find_spec('ftfy'); import ftfy"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "No module named 'ftfy'" in done.stderr


@pytest.mark.parametrize(
    ("shares", "slowest"), [({50: 0.8, 197: 0.5, 577: 0.6}, 197), ({257: 0.2, 50: 0.3}, 257), ({}, 197)]
)
def test_counters_are_of_the_slowest_attention(shares, slowest):
    found = [
        {"name": "attention", "shape": shape, "dtype": "bfloat16", "share_of_limit": shares.get(shape["T"])}
        for shape in cases.TOKENS
    ]
    assert counters.slowest([*found, {"name": "gelu", "shape": {}}])["T"] == slowest
    json.dumps(counters.slowest(found))  # it is passed to the process that ncu starts


def test_the_rehearsal_fails_when_a_step_would(monkeypatch, tmp_path, capsys):
    """Its processes believe in a GPU that they do not have, and lack what a machine with one may lack."""
    import rehearsal

    if not rehearsal.TRITON.is_dir():
        pytest.skip(f"{rehearsal.TRITON} is not installed")
    believes = "import torch, triton; print(torch.cuda.get_device_name(), torch.ones(2, device='cuda').device.type)"
    chosen = [
        STEP._replace(name="believes", command=["-c", believes]),
        STEP._replace(name="asks", command=["-c", "import ftfy"]),
    ]
    monkeypatch.setattr(steps, "STEPS", chosen)
    monkeypatch.setattr(sys, "argv", ["rehearsal.py"])
    with pytest.raises(SystemExit, match=r"failed: asks$"):
        rehearsal.main()
    printed = capsys.readouterr().out
    assert "NVIDIA H200 meta" in printed and "No module named 'ftfy'" in printed


def test_the_rehearsals_report_does_not_touch_the_page(monkeypatch):
    import rehearsal

    if not rehearsal.TRITON.is_dir():
        pytest.skip(f"{rehearsal.TRITON} is not installed")
    page = ROOT / "kernels/README.md"
    before = page.stat().st_mtime_ns
    monkeypatch.setattr(sys, "argv", ["rehearsal.py", "report"])
    with pytest.raises(SystemExit) as ended:
        rehearsal.main()
    assert ended.value.code is None and page.stat().st_mtime_ns == before
