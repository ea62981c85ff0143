"""What `miniclip doctor` says of speed: only what has been measured, and where."""

import json

import pytest

from miniclip import doctor
from miniclip.bench import machine


def record(device, times, B=1, date="2026-11-01", dtype="float32", **more):
    return {
        **{"name": "encode_image ViT-B/32", "shape": {"B": B}, "dtype": dtype, "device": device, "date": date},
        **{"times": times, "skipped": {}, "versions": {}, "ours": "miniclip", "unit": "pictures/s", "value": 1.0},
        **{"share_of_limit": None, "best_peer": None, "ratio_to_best_peer": None, "vectors": "AVX-512", **more},
    }


@pytest.fixture
def said(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "facts", lambda: {"device": "Here", "vectors": "AVX-512"})
    monkeypatch.setattr(doctor, "_version", lambda name: "not installed" if name == "openvino" else "1.0")

    def say(*records):
        (tmp_path / "some.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
        return doctor.backends(tmp_path)

    return say


def test_nothing_measured(said):
    assert said() == "nothing has been measured: run miniclip bench cpu --only encode_image"
    assert said(record("Here", {"miniclip": 2.0})) == said()
    assert said(record("Here", {"miniclip": 2.0, "miniclip on openvino": 1.0}, dtype="bfloat16")) == said()


def test_measured_here_the_newest_counts_and_the_fastest_comes_first(said):
    old = record("Here", {"miniclip": 2.0, "miniclip on openvino": 2.0}, date="2026-10-01")
    new = record(
        "Here", {"miniclip": 2.0, "miniclip on onnxruntime": 1.6, "miniclip on openvino": 1.0, "openvino": 0.1}
    )
    many = record("Here", {"miniclip": 3.0, "miniclip on torch": 4.0}, B=32)
    other = record("There", {"miniclip": 2.0, "miniclip on openvino": 0.5}, date="2026-12-01")
    align = {**new, "name": "encode_image ALIGN-base", "times": {"miniclip": 9.0, "miniclip on openvino": 1.0}}
    text = said(old, new, many, other, align)
    assert "pictures 1 at a time: openvino 2.00x, onnxruntime 1.25x; 32 at a time: torch 0.75x (2026-11-01, on" in text
    assert "on a processor of this kind" in text
    assert "; openvino is not installed: " in text and "onnxruntime is not installed" not in text


def test_measured_on_another_processor_it_says_which(said):
    text = said(record("There", {"miniclip": 2.0, "miniclip on openvino": 1.0}))
    assert "openvino 2.00x (2026-11-01, on There)" in text
