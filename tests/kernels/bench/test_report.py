"""The benchmarks' records: figures from times, files, tables and pictures."""

import itertools
import json
import re
import sys

import pytest

import miniclip
from miniclip.bench import records
from miniclip.cli import main
from miniclip.kernels.bench import cases, models, report

FACTS = {
    "device": "NVIDIA H200",
    "versions": {"miniclip": "0.1.0", "torch": "2.13.0", "driver": None},
    "date": "2026-01-31",
}


def made_up(name="attention", shape=None, times=None, *, ours="miniclip", share=0.8, **facts):
    """A record as a run writes it, with invented times."""
    times = {"miniclip": 20.0, "torch": 50.0, "SDPA, cuDNN": 30.0} if times is None else times
    return {
        "name": name,
        "shape": shape or {"B": 256, "T": 50, "H": 12, "K": 64},
        "dtype": "bfloat16",
        **FACTS,
        "ours": ours,
        "times": times,
        "skipped": {},
        "value": 3932.0 if ours in times else None,
        "unit": "GB/s",
        **records.figures(times, ours, share * times[ours] if ours in times else None),
        **facts,
    }


# ---------------------------------------------------------------------------------------------- records


def test_shares_and_ratios_follow_from_times():
    figures = records.figures({"miniclip": 20.0, "a": 50.0, "b": 30.0}, "miniclip", limit=15.0)
    assert figures == {"share_of_limit": 0.75, "best_peer": "b", "ratio_to_best_peer": 1.5}
    alone = {"share_of_limit": None, "best_peer": None, "ratio_to_best_peer": None}
    assert records.figures({"miniclip": 20.0}, "miniclip") == alone
    assert records.figures({"a": 20.0}, "miniclip", limit=15.0) == alone  # ours was wrong


def test_the_newest_record_of_each_thing_is_reported_as_json(tmp_path, capsys):
    other_day = made_up(date="2026-02-01", times={"miniclip": 10.0, "torch": 12.0})
    other_shape = made_up(shape={"B": 1, "T": 50, "H": 12, "K": 64})
    cpu = made_up(device="CPU (R) x/2", share=0.5)
    for record in (made_up(), other_day, made_up(date="2026-01-01"), other_shape, cpu):
        records.append(tmp_path, record)
    assert {path.name for path in tmp_path.iterdir()} == {"nvidia-h200.jsonl", "cpu-r-x-2.jsonl"}
    assert len((tmp_path / "nvidia-h200.jsonl").read_text().splitlines()) == 4
    assert main(["bench", "report", "--json", "--results", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert sorted(r["device"] for r in printed) == ["CPU (R) x/2", "NVIDIA H200", "NVIDIA H200"]
    assert [r for r in printed if r["device"] == "NVIDIA H200" and r["shape"]["B"] == 256] == [
        {
            "name": "attention",
            "shape": {"B": 256, "T": 50, "H": 12, "K": 64},
            "dtype": "bfloat16",
            "device": "NVIDIA H200",
            "value": 3932.0,
            "unit": "GB/s",
            "share_of_limit": 0.8,
            "best_peer": "torch",
            "ratio_to_best_peer": 1.2,
        }
    ]


def test_nothing_recorded_is_an_empty_list(tmp_path, capsys):
    assert main(["bench", "report", "--json", "--results", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_directory_of_records_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["bench", "report", "--write", "--results", str(tmp_path / "none")]) == 1
    assert "there is no directory" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_a_line_that_is_no_record_is_named(tmp_path, capsys):
    records.append(tmp_path, made_up())
    with open(tmp_path / "nvidia-h200.jsonl", "a") as file:
        file.write('{"name": "attention"}\n')
    assert main(["bench", "report", "--results", str(tmp_path)]) == 1
    assert "nvidia-h200.jsonl, line 2" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["bench", "models", "--device", "cpu", "--out", str(tmp_path / "file" / "here")]) == 1
    assert "--out" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- report


def a_whole_run():
    """Records of every case with a target, and of those in the pictures."""
    for B, (i, shape) in itertools.product((1, 8, 64, 256), enumerate(cases.TOKENS)):
        times = {"miniclip": 20.0 + i, "torch": 30.0 + B / 8, "SDPA, cuDNN": 26.0 + 4 * i, "SDPA, Flash": 33.0}
        yield made_up(shape={**shape, "B": B}, times=times, share=0.9 - 0.1 * i)
    yield made_up("layer_norm", {"rows": 50_000, "D": 768}, {"miniclip": 40.0, "torch": 60.0}, share=0.89)
    yield made_up("layer_norm", {"rows": 50_000, "D": 512}, {})
    for (i, (model, *_)), B in itertools.product(enumerate(report.ENCODERS), (1, 8, 64, 256)):
        times = {"triton": 400.0 + 60 * B * 4**i / 4}
        times |= {"torch": 2.0 * times["triton"], "transformers": 1.5 * times["triton"] + 2000}
        if B in (1, 256):
            times["transformers, compiled"] = 1.06 * times["triton"]
        rate = {"value": B / times["triton"] * 1e6, "unit": "pictures/s"}
        yield made_up(f"encode_image {model}", {"B": B}, times, ours="triton", **rate)


def test_without_records_the_report_says_so_and_lists_no_targets(tmp_path, capsys):
    assert main(["bench", "report", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Nothing has been measured yet.") and "make gpu" in printed
    assert "at least" not in printed and "|" not in printed


def test_targets_are_held_against_any_hopper_alone():
    text = report.section(list(a_whole_run()))
    assert text.count("| at least ") == len(report.TARGETS) == 18
    assert (
        "| attention, B = 256, T = 50, H = 12, K = 64 | at least 1.30x the best peer | 1.300x SDPA, cuDNN | yes |"
        in text
    )
    assert "T = 577, H = 16, K = 64 | at least 1.10x the best peer | 1.375x SDPA, Flash | yes |" in text
    assert "| layer_norm, rows = 50,000, D = 768 | at least 95% of the limit | 89.0% | no |" in text
    compiled = "transformers, compiled | 1.060x transformers, compiled"
    assert f"| encode_image ViT-B/32, B = 256 | at least 1.05x {compiled} | yes |" in text
    assert f"| encode_image ViT-L/14, B = 256 | at least 1.05x {compiled} | yes |" in text
    assert "| layer_norm | rows = 50,000, D = 512 | bfloat16 | failed |" in text
    one = report.section([made_up()])
    assert (
        one.count("| at least ") == 1
        and "T = 50, H = 12, K = 64 | at least 1.30x the best peer | 1.500x SDPA, cuDNN | yes |" in one
    )
    both = report.section([made_up(device=f"NVIDIA {name}") for name in ("H100 80GB HBM3", "H200")])
    for device in ("NVIDIA H100 80GB HBM3", "NVIDIA H200"):
        assert f"The targets, on {device} in bfloat16:" in both and f"### {device}" in both
    assert both.count("| at least ") == 2
    elsewhere = report.section([made_up(device="NVIDIA A10")])
    assert "The targets" not in elsewhere and "at least" not in elsewhere and "### NVIDIA A10" in elsewhere


def test_of_several_modes_of_torch_compile_the_fastest_counts():
    times = {"triton": 100.0, "transformers": 300.0, "transformers, compiled": 110.0}
    target = report.Target("encode_image ViT-B/32", {"B": 256}, "transformers, compiled", 1.1)
    record = made_up("encode_image ViT-B/32", {"B": 256}, times, ours="triton")
    assert report.measured(target, [record]) == (1.1, "transformers, compiled")
    best = "transformers, compiled with max-autotune"
    record = made_up("encode_image ViT-B/32", {"B": 256}, {**times, best: 90.0}, ours="triton")
    assert report.measured(target, [record]) == (0.9, best)
    assert report.measured(target._replace(against="transformers"), [record]) == (3.0, "transformers")


def test_what_failed_is_no_target_that_was_measured():
    assert not any(report.measured(target, [made_up(times={})]) for target in report.TARGETS)


def test_every_target_is_among_the_first_cases():
    """A run of minutes must reach them."""
    first = {(case.kernel, str(case.shape), case.dtype) for case in cases.MAIN}
    first |= {(case.name, str({"B": case.batch}), "bfloat16") for case in models.cases("cuda")[:12]}
    assert {(target.name, str(target.shape), report.DTYPE) for target in report.TARGETS} <= first


def test_tables_and_pictures_go_between_the_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert report.write(list(a_whole_run()), tmp_path / "bench" / "results", readme)
    text = readme.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\nThe targets") and text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    for what in ("attention", "speed-up", "models"):
        assert f"](bench/results/nvidia-h200-{what}.png)" in text
        assert (tmp_path / f"bench/results/nvidia-h200-{what}.png").read_bytes().startswith(b"\x89PNG")
    report.write([], tmp_path, readme)
    assert "Nothing has been measured yet" in readme.read_text() and "png" not in readme.read_text()


def test_a_readme_without_markers_is_refused_and_left_alone(tmp_path):
    (tmp_path / "README.md").write_text(report.END + report.BEGIN)
    with pytest.raises(miniclip.InputError, match=r"README\.md has no <!-- results -->"):
        report.write([], tmp_path, tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == report.END + report.BEGIN


def test_without_matplotlib_there_are_tables_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "README.md").write_text(report.BEGIN + report.END)
    assert not report.write([made_up()], tmp_path, tmp_path / "README.md")
    assert "| attention |" in (tmp_path / "README.md").read_text()


def test_the_readme_shows_the_records_that_ship():
    """A rehearsal makes records up: they must not stay."""
    text = report.README.read_text()
    shown = text[text.index(report.BEGIN) : text.index(report.END)]
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", shown)
    expected = report.section(records.read(report.RESULTS, missing_ok=True), pictures)
    assert shown.removeprefix(report.BEGIN).strip() == expected.strip()
    assert all((report.README.parent / path).resolve().is_relative_to(report.RESULTS) for _, path in pictures)
