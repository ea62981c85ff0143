"""A run of `miniclip bench cpu`: what it prints when it is stopped, which answers are errors, what records replace."""

import json

import numpy as np
import pytest
import torch

import miniclip
from miniclip.bench import cpu, cpu_features, cpu_peers, machine, records, report_cpu, timing
from miniclip.bench.measurement import COMPILED, Measurement, Model
from miniclip.cli import main
from miniclip.errors import InputError, WrongAnswer
from miniclip.ops import openvino_ops

RIGHT = np.eye(3, dtype=np.float32)
RECORD = {
    "name": "encode_image ViT-B/32", "shape": {"B": 1}, "dtype": "float32", "device": "CPU", "cores": 2,
    "kernel": "SkylakeX", "vectors": "AVX-512", "versions": {}, "date": "2026-01-31", "ours": "miniclip",
    "times": {"miniclip": 2e6, "miniclip on torch": 3e6, "miniclip on onnxruntime": 1e6, "ONNX Runtime": 1.5e6},
    "skipped": {}, "value": 0.5, "unit": "pictures/s", "share_of_limit": 0.8, "best_peer": "ONNX Runtime",
    "ratio_to_best_peer": 0.75, "fastest": "miniclip on onnxruntime", "ratio_of_fastest": 1.5, "doubts": [],
}  # fmt: skip


@pytest.fixture(autouse=True)
def once(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)
    for name in ("ROUNDS", "QUICK_ROUNDS", "LEAST_ROUNDS"):
        monkeypatch.setattr(timing, name, 1)
    monkeypatch.setattr(cpu, "SIDE", 32)
    monkeypatch.setattr(cpu, "save_random", lambda config, scratch: Model(config, scratch / "model", scratch))


def case(name, dtype="float32", ours="miniclip", **answers):
    """A case whose providers give these answers; a missing one is an error that building raises."""

    def build(answer):
        if isinstance(answer, Exception):
            raise answer
        return lambda: answer

    def prepare(model, *, dtype):
        builders = {name: lambda answer=answer: build(answer) for name, answer in answers.items()}
        return Measurement(builders, cpu_features.close_to(RIGHT, dtype), 3, "pictures/s", 1e6)

    return cpu.Case(name, {}, dtype, prepare, ours)


def interrupted(model, **shape):
    raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_finished_is_printed_and_kept_when_a_run_is_stopped(tmp_path, capsys, monkeypatch, as_json):
    cases = [case("first", miniclip=RIGHT), cpu.Case("second", {}, "float32", interrupted), case("third")]
    monkeypatch.setattr(cpu, "CASES", cases)
    assert main(["bench", "cpu", "--out", str(tmp_path), *["--json"] * as_json]) == 130
    printed, kept = capsys.readouterr(), records.read(tmp_path)
    assert [record["name"] for record in kept] == ["first"]
    if as_json:
        assert json.loads(printed.out) == kept
    else:
        assert printed.out.endswith(report_cpu.section(kept) + "\n") and "\n| first, float32 " in printed.out
    assert printed.err.startswith(f"{machine.describe(kept[0])}\n") and "Traceback" not in printed.err


def test_several_names_are_chosen_with_commas(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(cpu.session, "run", lambda cases, *others: seen.extend(cases))
    cpu.run(only="encode_text, int8", out=tmp_path)
    assert seen == [c for c in cpu.CASES if c.name.startswith("encode_text") or c.dtype == "int8"] and len(seen) == 6
    with pytest.raises(InputError, match="called 'int7'; choose one of encode_image"):
        cpu.run(only="encode_text,int7", out=tmp_path)


# ------------------------------------------------------------------------------------------ right and wrong


def test_a_wrong_answer_of_any_backend_is_an_error_and_the_others_are_timed(tmp_path, capsys):
    answers = {"miniclip": RIGHT[::-1].copy(), "miniclip on torch": RIGHT, "transformers": RIGHT}
    with pytest.raises(InputError, match=r"^1 of 1 cases .* miniclip: WrongAnswer"):
        cpu.run(out=tmp_path, cases=[case("a", **answers)])
    (record,) = records.read(tmp_path)
    assert record["ours"] == "miniclip on torch" and list(record["times"]) == ["miniclip on torch", "transformers"]


def test_a_case_without_any_backend_of_ours_is_passed_over(tmp_path, capsys):
    missing = {"miniclip": InputError("no int8"), "miniclip on torch": ImportError("no torch"), "transformers": RIGHT}
    cpu.run(out=tmp_path, cases=[case("a", **missing), case("b", miniclip=RIGHT)])
    assert [record["name"] for record in records.read(tmp_path)] == ["b"]
    assert "not measured: InputError: no int8; ImportError: no torch" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"1 of 1 cases .* RuntimeError: broken"):  # but a fault is not passed over
        cpu.run(out=tmp_path, cases=[case("a", **missing | {"miniclip": RuntimeError("broken")})])


def turned(cosine):
    """Features with this cosine to RIGHT's."""
    other = (1 - cosine**2) ** 0.5
    return np.float32(cosine * RIGHT + other * np.roll(RIGHT, 1, axis=1))


def test_ours_in_int8_is_as_close_as_promised_and_a_peer_is_shown_with_its_cosine():
    check = cpu_features.close_to(RIGHT, "int8")
    assert check("miniclip on onnxruntime", turned(0.9991)) == pytest.approx(0.9991)
    assert check("ONNX Runtime", turned(0.991)) == pytest.approx(0.991)
    for name, cosine in [("miniclip on onnxruntime", 0.9989), ("ONNX Runtime", 0.989)]:
        with pytest.raises(WrongAnswer, match="a cosine with float32's is"):
            check(name, turned(cosine))
    answers = {"miniclip on onnxruntime": RIGHT, "ONNX Runtime": turned(0.995)}
    facts = {"device": "CPU", "cores": 2, "kernel": "x", "versions": {}, "date": ""}
    record = cpu.measure(case("a", "int8", "miniclip on onnxruntime", **answers), None, 1, facts)
    assert record["cosines"] == {"miniclip on onnxruntime": 1, "ONNX Runtime": pytest.approx(0.995)}
    assert record["share_of_limit"] is None  # the product's rate is float32's
    assert "ONNX Runtime (cosine 0.9950)" in report_cpu.section([record]) and "cosine 0.9950" in records.summary(record)


def test_the_compiled_peer_and_backend_are_compiled(tmp_path, monkeypatch):
    model, compiled, loaded = Model(None, tmp_path, tmp_path), [], []
    peer = type("Peer", (), {"get_image_features": lambda self, pixel_values: pixel_values})()
    monkeypatch.setattr(cpu_peers, "transformers_model", lambda model, dtype: peer)
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    built = cpu_peers.of_pictures(model, "bfloat16", RIGHT)
    assert built[cpu_peers.COMPILED]()().dtype == torch.bfloat16 and compiled == [peer.get_image_features]
    assert built[cpu_peers.TRANSFORMERS]()().dtype == torch.bfloat16 and len(compiled) == 1
    monkeypatch.setattr(miniclip.api, "load", lambda *names, **options: loaded.append((names, options)) or [None])
    cpu_features.load_on(COMPILED, model, "bfloat16")
    assert loaded == [((tmp_path, "torch"), {"dtype": "bfloat16", "compile": True})]


def test_openvino_is_told_the_precision(monkeypatch):
    told = []

    class Core:
        def compile_model(self, path, device, settings):
            told.append(settings)

    monkeypatch.setattr(openvino_ops, "core", Core)
    for dtype in ("float32", "bfloat16"):
        cpu_peers._openvino("x", dtype)
    assert told == [{"INFERENCE_PRECISION_HINT": "f32"}, {"INFERENCE_PRECISION_HINT": "bf16"}]


# ----------------------------------------------------------------------------------------- trust, and reports


def test_a_disturbed_case_is_recorded_with_its_doubts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine.Watch, "__exit__", lambda self, *error: setattr(self, "others", 0.5))
    cpu.run(out=tmp_path, cases=[case("a", miniclip=RIGHT)])
    (record,) = records.read(tmp_path)
    assert "others used 50% of the cores" in record["doubts"] and record["others"] == 0.5
    assert "not to be trusted: others used 50% of the cores" in capsys.readouterr().out


def test_a_slower_processor_is_noticed_by_its_product():
    facts, products = {"device": "CPU", "cores": 2}, {"float32": 1e-3}
    record = cpu.measure(case("a", miniclip=RIGHT), None, 1, facts, products)
    assert any("matrix product took" in doubt for doubt in record["doubts"]) and products["float32"] == 1e-3
    assert not any(
        "matrix product" in doubt for doubt in cpu.measure(case("a", miniclip=RIGHT), None, 1, facts)["doubts"]
    )


def test_a_row_that_cannot_be_trusted_never_replaces_one_that_can(tmp_path):
    doubtful = {**RECORD, "doubts": ["others used 9% of the cores"]}
    for date, doubts in [("2026-01-01", ["load"]), ("2026-01-02", []), ("2026-01-03", ["load"])]:
        records.append(tmp_path, {**RECORD, "date": date, "doubts": doubts})
    assert [r["date"] for r in records.read(tmp_path)] == ["2026-01-02"]
    assert "| encode_image ViT-B/32, B = 1, float32 † |" in report_cpu.section([doubtful])
    assert "† cannot be trusted. encode_image ViT-B/32, B = 1, float32: others used 9%" in report_cpu.section(
        [doubtful]
    )
    assert "†" not in report_cpu.section([RECORD])


def test_processors_of_one_name_are_told_apart(tmp_path):
    older = {name: RECORD[name] for name in RECORD if name not in ("vectors", "doubts", "fastest", "ratio_of_fastest")}
    records.append(tmp_path, older)  # SkylakeX is a kernel for AVX-512
    records.append(tmp_path, {**RECORD, "date": "2026-02-01"})
    records.append(tmp_path, {**RECORD, "vectors": "AMX"})
    assert {path.name for path in tmp_path.iterdir()} == {"cpu-avx-512.jsonl", "cpu-amx.jsonl"}
    found = records.read(tmp_path)
    assert [(r["date"], records.kind(r)[1]) for r in found] == [("2026-01-31", "AMX"), ("2026-02-01", "AVX-512")]
    text = report_cpu.in_short(found)
    assert "On CPU with AMX, 2 cores" in text and "On CPU with AVX-512, 2 cores" in text
    assert [path.name for _, path in report_cpu.draw(found, tmp_path)] == ["cpu-amx.png", "cpu-avx-512.png"]
    assert records.kind({"device": "NVIDIA H200"}) == ("NVIDIA H200", None)


def test_the_fastest_backend_has_a_column_of_its_own():
    row = report_cpu.section([RECORD]).splitlines()[4]
    assert row.endswith(
        "| 0.5 pictures/s | 80% | 0.75x ONNX Runtime | 1.0 pictures/s on onnxruntime: 1.50x ONNX Runtime |"
    )
    assert "The fastest is miniclip on onnxruntime, at 1.0 pictures/s, 1.50x ONNX Runtime." in report_cpu.in_short(
        [RECORD]
    )
    assert records.reported(RECORD)["ratio_of_fastest"] == 1.5
    alone = {**RECORD, "times": {"miniclip on torch": 1e6}, "ours": "miniclip on torch", "best_peer": None}
    assert report_cpu.section([alone]).splitlines()[4].endswith("| 0.5 pictures/s on torch | 80% |  |  |")


@pytest.mark.parametrize("field, value", [("doubts", "load"), ("cosines", {"miniclip": "high"}), ("vectors", 3)])
def test_odd_values_of_new_fields_are_named(tmp_path, field, value):
    records.append(tmp_path, RECORD)
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps({**RECORD, field: value}) + "\n")
    with pytest.raises(InputError, match="line 1, is not a record"):
        records.read(tmp_path)
