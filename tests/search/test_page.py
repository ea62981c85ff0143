"""docs/search.md: its Python runs, on drawn pictures, and has the lines that it promises."""

import logging
import re

import numpy as np
from checkout import ROOT

from miniclip.train import shapes


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    first, *others = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "search.md").read_text(), flags=re.DOTALL)
    assert len(first.splitlines()) <= 20
    assert 'MODEL = "ViT-B/32"' in first
    monkeypatch.setattr(logging.getLogger("miniclip.search.cells"), "disabled", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(3)
    for i, (colour, shape) in enumerate([("red", "heart"), ("blue", "star"), ("green", "circle")] * 3):
        picture = shapes.draw(shapes.one_object(rng, (colour, shape), smallest=0.35), rng)
        form = ("jpg", "JPEG", "png")[i // 3]  # as cameras and screenshots name them
        (tmp_path / "photos" / shape).mkdir(exist_ok=True)
        picture.save(tmp_path / "photos" / shape / f"{colour}-{shape}-{i}.{form}")
    scope = {}
    for block in [first.replace('"ViT-B/32"', '"shapes"'), *others]:
        exec(block, scope)
    lines = capsys.readouterr().out.splitlines()
    assert lines[12:] == ["a red heart: 9 of 9", "a blue star: 9 of 9"]
    assert lines[0] == "a red heart" and lines[6] == "a blue star"
    assert all("  red-heart-" in line for line in lines[1:4]) and all("  blue-star-" in line for line in lines[7:10])
    assert "<h1>a blue star</h1>" in (tmp_path / "a blue star.html").read_text()
