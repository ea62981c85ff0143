"""Code on pages of docs/ that readers copy: it runs, and does what the page says."""

import re

from checkout import ROOT
from PIL import Image


def test_the_pictures_to_try_the_built_in_model_on_are_drawn(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "built-in-model.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    pictures = sorted((tmp_path / "drawn").rglob("*.png"))
    assert len(pictures) == 320 and len({path.parent.name for path in pictures}) == 80
    with Image.open(pictures[0]) as picture:
        assert picture.mode == "RGB"
