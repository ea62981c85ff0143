"""`miniclip bench cpu`: its checks of answers, its peers, and its records. No test measures a speed."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import miniclip
from miniclip import CLIPConfig, TextConfig, VisionConfig
from miniclip.bench import captions, cpu, cpu_features, cpu_inputs, cpu_starts, records, report_cpu, timing
from miniclip.bench.measurement import COMPILED
from miniclip.cli import bench, main
from miniclip.errors import WrongAnswer
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.siglip.config import SigLIPConfig, SigLIPTextConfig, SigLIPVisionConfig
from miniclip.fetch.vocabulary import official_tokenizer
from miniclip.runtime import cpu as runtime_cpu
from miniclip.tokenizer import PLAIN

TINY = CLIPConfig(VisionConfig(32, 8, 64, 2, 1, 96), TextConfig(77, 49408, 64, 2, 1, 96), 16)
SMALL = {"B": 3, "rows": 500, "queries": 3, "E": 8, "texts": 40, "files": 2, "megapixels": 0.1, "T": 77, "new": True}
CASES = [case._replace(shape={name: SMALL[name] for name in case.shape}, needs=()) for case in cpu.CASES]
CASES = [case for i, case in enumerate(CASES) if case not in CASES[:i]]
NETWORK = EfficientNetConfig(40, 40, 0.25, 0.1)
TINY_ALIGN = ALIGNConfig(NETWORK, BertConfig(16, 50, 16, 2, 2, 32), embed_dim=NETWORK.width)
TINY_SIGLIP = SigLIPConfig(
    SigLIPVisionConfig(32, 8, 64, 2, 1, 96), SigLIPTextConfig(16, 50, width=64, layers=2, heads=1, mlp_width=96), 64
)
FACTS = {"device": "CPU (R) x/2", "cores": 2, "kernel": "SkylakeX", "versions": {"miniclip": "0.1.0"}}
FACTS["date"] = "2026-01-31"


@pytest.fixture(autouse=True)
def once(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)
    for name in ("ROUNDS", "QUICK_ROUNDS", "LEAST_ROUNDS"):
        monkeypatch.setattr(timing, name, 1)
    monkeypatch.setattr(cpu, "SIDE", 32)
    monkeypatch.setattr(cpu_features, "OTHERS", {"ALIGN-base": TINY_ALIGN, "SigLIP-base": TINY_SIGLIP})
    monkeypatch.setattr(torch, "compile", lambda function: function)  # compiling takes longer than all tests here
    usual = {dtype: [name for name in names if name != COMPILED] for dtype, names in cpu_features.OF_DTYPE.items()}
    monkeypatch.setattr(cpu_features, "OF_DTYPE", usual)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return cpu.save_random(TINY, tmp_path_factory.mktemp("model"))


def named(name, dtype="float32"):
    return next(case for case in CASES if case.name.startswith(name) and case.dtype == dtype)


# ---------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("case", CASES[1:], ids=cpu.describe)
def test_every_provider_gives_what_is_asked(model, case):
    m = case.prepare(model, dtype=case.dtype, **case.shape)
    assert case.ours in m.builders and len(m.builders) >= 2
    for name, build in m.builders.items():
        try:
            call = build()
        except RuntimeError as error:  # OpenVINO refuses transformers' export of ALIGN
            assert name == "OpenVINO" and "ALIGN" in case.name and "AveragePool" in str(error)
            continue
        m.check(name, call())


@pytest.mark.parametrize("name", ["encode_image", "encode_text", "tokenize", "preprocess"])
def test_a_wrong_answer_is_noticed(model, name):
    case = named(name, "int32" if name == "tokenize" else "float32")
    m = case.prepare(model, dtype=case.dtype, **case.shape)
    right = m.builders[cpu.OURS]()()
    m.check(cpu.OURS, right)
    wrong = right[::-1] if isinstance(right, list) else right[::-1].copy()
    with pytest.raises(WrongAnswer):
        m.check(cpu.OURS, wrong)


@pytest.mark.parametrize("name", ["encode_image", "encode_text", "tokenize", "preprocess"])
def test_answers_of_ours_that_differ_from_the_official_ones_end_in_an_error(tmp_path, monkeypatch, name, capsys):
    monkeypatch.setattr(miniclip.CLIP, "encode_image", lambda self, x: np.ones((len(x), 16), np.float32))
    monkeypatch.setattr(miniclip.CLIP, "encode_text", lambda self, x: np.ones((len(x), 16), np.float32))
    monkeypatch.setattr(miniclip.Tokenizer, "encode_batch", lambda self, texts: [[7] for _ in texts])
    monkeypatch.setattr("miniclip.image.NORMALIZED", np.zeros((3, 256), np.float32))
    case = named(name, "int32" if name == "tokenize" else "float32")
    with pytest.raises(miniclip.InputError, match=r"gave no answer .* WrongAnswer"):
        cpu.run(out=tmp_path, cases=[case], config=TINY)


def test_a_case_that_cannot_be_prepared_is_named_and_the_others_are_measured(tmp_path, monkeypatch, capsys):
    def fails(model, **shape):
        raise RuntimeError("no vocabulary here")

    cases = [named("encode_text")._replace(prepare=fails), named("preprocess")]
    with pytest.raises(miniclip.InputError, match=r"1 of 2 cases .* no vocabulary here"):
        cpu.run(out=tmp_path, cases=cases, config=TINY, as_json=True)
    assert [record["value"] is None for record in json.loads(capsys.readouterr().out)] == [True, False]


def test_json_alone_is_printed_when_time_runs_out(tmp_path, capsys):
    cpu.run(out=tmp_path, cases=[named("preprocess")], config=TINY, as_json=True, seconds=0)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == [] and "0 s are over" in printed.err


def test_texts_are_as_long_as_they_are_or_as_is_asked(model, monkeypatch):
    seen = []
    encode = miniclip.CLIP.encode_text
    monkeypatch.setattr(miniclip.CLIP, "encode_text", lambda self, x: seen.append(x) or encode(self, x))
    for T in (None, 77):
        cpu_features.encode_text(model, texts=30, dtype="float32", T=T).builders[cpu.OURS]()()
    natural, long = seen
    assert (long.argmax(-1) == 76).all() and 5 < natural.argmax(-1).mean() < 25
    assert (np.sort(long, axis=-1)[:, -2] <= official_tokenizer().start_id).all()


def test_new_texts_are_other_ones_in_every_call(model):
    m = cpu_inputs.tokenize(model, texts=20, dtype="int32", new=True)
    ours, rust = (m.builders[name]() for name in (cpu.OURS, "tokenizers"))
    first, second = ours(), ours()
    assert first != second
    m.check(cpu.OURS, first)
    equal = [a == b for a, b in zip(first + second, rust() + rust())]
    assert np.mean(equal) > 0.9


def test_a_processor_that_lacks_a_type_is_not_asked_for_it(model, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runtime_cpu, "_cpuinfo", lambda: {"flags": "avx2"})
    seen = []
    monkeypatch.setattr(cpu.session, "run", lambda cases, *others: seen.extend(cases))
    cpu.run(out=tmp_path, config=TINY)
    assert {case.dtype for case in seen} == {"float32", "int8", "int32"} and len(seen) == len(cpu.CASES) - 3


# -------------------------------------------------------------------------------------------------- records


def test_a_run_records_what_it_prints(tmp_path, capsys):
    cases = [named("encode_image"), named("tokenize", "int32")]
    cpu.run(out=tmp_path, cases=cases, config=TINY, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed == [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    pictures, texts = printed
    ours = ["miniclip", "miniclip on torch", "miniclip on onnxruntime", "miniclip on openvino"]
    peers = ["transformers", "transformers, compiled", "ONNX Runtime", "OpenVINO"]
    assert list(pictures["times"]) == [*ours, *peers] == list(pictures["cosines"])
    assert [name for name in texts["times"] if name != "tiktoken"] == ["miniclip", "tokenizers", "official"]
    assert pictures["value"] == pytest.approx(3 / pictures["times"]["miniclip"] * 1e6)
    assert pictures["share_of_limit"] > 0 and texts["share_of_limit"] is None
    assert pictures["best_peer"] in peers and pictures["fastest"] in ours  # each is the least of its side
    best, fastest = (min(pictures["times"][name] for name in names) for names in (peers, ours))
    assert pictures["ratio_of_fastest"] == pytest.approx(best / fastest)
    assert pictures["ratio_to_best_peer"] == pytest.approx(best / pictures["times"]["miniclip"])
    assert pictures["versions"].keys() >= {"miniclip", "numpy", "torch", "onnxruntime"}
    assert set(records.REPORTED) <= pictures.keys() and pictures["skipped"] == {} == texts["cosines"]


def test_the_share_is_that_of_the_product_in_the_same_run(model, monkeypatch):
    times = {"miniclip": 100.0, "miniclip on torch": 50.0, "transformers": 300.0, "product": 10.0}
    monkeypatch.setattr(timing, "samples", lambda runs, *_, **__: ({name: [times.get(name, 1e3)] for name in runs}, 1))
    record = cpu.measure(named("encode_image"), model, 1, FACTS)
    assert record["share_of_limit"] == pytest.approx(10 / (2 * 32**3) * record["flops"] / 100)
    assert record["ratio_to_best_peer"] == 3 and record["best_peer"] == "transformers"
    assert record["fastest"] == "miniclip on torch" and record["ratio_of_fastest"] == 6
    assert record["product"] == pytest.approx(2 * 32**3 / 10e-6 / 1e9)


def test_a_peer_that_is_not_installed_is_named_and_the_others_are_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "miniclip.ops.torch_ops")
    record = cpu.measure(named("encode_image"), cpu.save_random(TINY, tmp_path), 1, FACTS)
    assert not {"miniclip on torch", "transformers"} & {*record["times"]} and record["value"] > 0
    assert record["best_peer"] is None is record["ratio_of_fastest"]
    assert all("torch" in record["skipped"][name] for name in ("miniclip on torch", "transformers"))
    assert "ONNX Runtime" in record["skipped"]


def test_loading_says_how_much_memory_it_takes(model):
    m = cpu_starts.load(model, dtype="float32")
    assert m.facts["size"] == (model.path / "model.safetensors").stat().st_size
    if sys.platform == "linux":
        assert 0 < m.facts["memory"] < 2 * m.facts["size"] + (64 << 20)


def test_there_is_no_case_of_another_name(capsys):
    assert main(["bench", "cpu", "--only", "nothing"]) == 1
    known = ["encode_image ViT-B/32", "encode_image", "float32", "int8", "encode_image ALIGN-base", "tokenize", "int32"]
    error = capsys.readouterr().err
    assert "choose one of encode_image ViT-B/32, encode_image, float32, " in error and all(
        f", {name}" in error for name in known[1:]
    )


# ---------------------------------------------------------------------------------------------- the corpus


def test_captions_are_varied_and_always_the_same():
    made = captions.make(3000, official_tokenizer())
    assert made == captions.make(3000, official_tokenizer()) and len(set(made)) > 2990
    lengths = [len(caption.split()) for caption in made]
    assert min(lengths) >= 3 and max(lengths) <= 30 and 9 < np.mean(lengths) < 12
    assert 0.03 < np.mean([not PLAIN.fullmatch(caption) for caption in made]) < 0.12
    assert len({word for caption in made for word in caption.split()}) > 7000


def test_a_photograph_has_its_pixels(tmp_path):
    with Image.open(cpu_inputs.photograph(tmp_path / "1.jpg", 12, 0)) as picture:
        assert picture.size == (4000, 3000) and picture.mode == "RGB"


# ---------------------------------------------------------------------------------------------- the report


def made_up(name="encode_image ViT-B/32", shape=None, **facts):
    """A record as a run writes it, with invented times."""
    shape = {"B": 32} if shape is None else shape
    times = {"miniclip": 2e6, "transformers": 3e6}
    record = {"name": name, "shape": shape, "dtype": "float32", **FACTS, "ours": "miniclip", "times": times}
    record |= {"skipped": {}, "value": 16.0, "unit": "pictures/s", "share_of_limit": 0.8, **facts}
    return {"best_peer": "transformers", "ratio_to_best_peer": 1.5, **record}


def without(*names):
    return json.dumps({name: value for name, value in made_up().items() if name not in names}).encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xff", "UnicodeDecodeError"),
        (b"[" * 100_000, "RecursionError"),
        (b"[]", "TypeError"),
        *((without(name), f"KeyError('{name}')") for name in ("name", "date", "ours", "value", "skipped", "cores")),
        (json.dumps(made_up(date=3)).encode(), "date is 3"),
        (json.dumps(made_up(times={"miniclip": "fast"})).encode(), "more than numbers"),
        (json.dumps(made_up(times={"miniclip": float("nan")})).encode(), "more than numbers"),
        (json.dumps(made_up(times={})).encode(), "KeyError('miniclip')"),
        (json.dumps(made_up(times={"miniclip": 0})).encode(), "a time of 0"),
        (json.dumps(made_up(shape={"B": [1]})).encode(), "shape is"),
        (json.dumps(made_up(ratio_to_best_peer=None)).encode(), "no ratio"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, capsys, line, reason):
    records.append(tmp_path, made_up())
    with (tmp_path / "odd.jsonl").open("wb") as file:
        file.write(line + b"\n")
    assert main(["bench", "report", "--cpu", "--results", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "odd.jsonl, line 1, is not a record (" in error and reason in error and error.count("\n") == 1


def test_without_a_checkout_records_go_to_the_cache(tmp_path, monkeypatch, capsys):
    assert records.own(report_cpu.RESULTS) == report_cpu.RESULTS
    monkeypatch.setattr(records, "checkout", lambda: None)
    monkeypatch.setattr(bench, "checkout", lambda: None)
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path))
    directory = records.writable(records.own(report_cpu.RESULTS))
    assert tmp_path in directory.parents
    records.append(directory, made_up(device="a new one"))
    assert main(["bench", "report", "--cpu"]) == 0
    shown = capsys.readouterr().out
    assert "a new one" in shown and "AMD EPYC" in shown  # and the records that miniclip comes with
    assert main(["bench", "report", "--cpu", "--write"]) == 1
    assert "--write changes pages of a checkout" in capsys.readouterr().err


def test_the_table_has_rates_shares_and_ratios():
    load = made_up("load", {}, share_of_limit=None, memory=30, size=100)
    failed = made_up("x", value=None, times={})
    times = {"miniclip": 2e6, "miniclip, whole matrix": 1e6, "transformers": 3e6}
    peaks = {"miniclip": 9e6, "miniclip, whole matrix": 1.2e9, "transformers": None}
    loss = made_up("loss", times=times, peaks=peaks)
    text = report_cpu.section([made_up(), load, failed, loss])
    assert text.startswith("CPU (R) x/2, 2 cores, BLAS kernel SkylakeX, 2026-01-31: miniclip 0.1.0.\n\n| what |")
    assert "| encode_image ViT-B/32, B = 32, float32 | 16.0 pictures/s | 80% | 1.50x transformers |  |" in text
    assert "| load, float32 | 2,000 ms, memory for 0.30 of its size |  | 1.50x transformers |  |" in text
    assert "| x, B = 32, float32 | failed |  |  |  |" in text
    assert "| 16.0 pictures/s (9 MB) | 80% | 0.50x miniclip, whole matrix (1,200 MB); 1.50x transformers |" in text
    assert report_cpu.section([]) == "Nothing has been measured yet."
    assert report_cpu.draw([failed], Path("nowhere")) == []


def test_runs_with_other_versions_or_another_kernel_have_tables_of_their_own():
    older, newer = made_up(date="2026-01-30"), made_up("other", kernel="Haswell")
    text = report_cpu.section([newer, older])
    assert text.count("| what |") == 2
    assert (
        text.index("2026-01-30") < text.index("encode_image") < text.index("Haswell, 2026-01-31") < text.index("other")
    )


def test_the_short_form_has_a_sentence_and_float32_alone(tmp_path):
    found = [made_up(), made_up(shape={"B": 1}), made_up(dtype="bfloat16"), made_up("tokenize", value=9.0)]
    text = report_cpu.in_short(found, [("speed", "x.png")])
    assert text.startswith(
        "![speed](x.png)\n\nOn CPU (R) x/2 with AVX-512, 2 cores, `encode_image ViT-B/32, B = 32, float32` runs at "
        "16.0 pictures/s; its speed is 1.50x that of transformers. "
    )
    assert text.count("pictures/s") == 1
    failed = made_up(value=None, times={})
    assert report_cpu.in_short([failed]) == report_cpu.in_short([]) == "Nothing has been measured yet."


def test_tables_and_pictures_go_between_the_markers(tmp_path):
    page, readme = tmp_path / "cpu.md", tmp_path / "README.md"
    for path in (page, readme):
        path.write_text(f"before {report_cpu.BEGIN} old {report_cpu.END} after")
    found = [made_up(), made_up(shape={"B": 1})]
    assert report_cpu.write(found, tmp_path / "results", page, readme)
    for path, picture in ((page, "cpu-r-x-2-avx-512.png"), (readme, "cpu-r-x-2-avx-512-short.png")):
        text = path.read_text()
        assert text.startswith("before <!-- cpu -->\n") and text.endswith("<!-- /cpu --> after")
        assert "old" not in text
        assert f"](results/{picture})" in text
        assert (tmp_path / "results" / picture).read_bytes().startswith(b"\x89PNG")
    assert "| what | miniclip |" in page.read_text() and "| what |" not in readme.read_text()


@pytest.mark.parametrize(
    "path, write", [(report_cpu.PAGE, report_cpu.section), (report_cpu.README, report_cpu.in_short)]
)
def test_the_pages_say_what_was_recorded(path, write):
    """`miniclip bench report --cpu --write` would write the same again."""
    text = path.read_text()
    written = text.partition(report_cpu.BEGIN)[2].partition(report_cpu.END)[0].strip()
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", written)
    assert pictures and all((path.parent / picture).exists() for _, picture in pictures)
    assert written == write(records.read(report_cpu.RESULTS), pictures)


def test_the_report_of_the_cpu_is_asked_for(tmp_path, capsys):
    records.append(tmp_path, made_up())
    assert main(["bench", "report", "--cpu", "--results", str(tmp_path)]) == 0
    assert "| 16.0 pictures/s | 80% | 1.50x transformers |" in capsys.readouterr().out
    assert main(["bench", "report", "--cpu", "--json", "--results", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["ratio_to_best_peer"] == 1.5
