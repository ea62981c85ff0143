"""docs/training-data.md: its Python prints what it says, and its table is read as it says."""

import re

from checkout import ROOT
from training_pictures import encoded, pictures, write_folder

from miniclip.train.data import pairs, read

PAGE = (ROOT / "docs" / "training-data.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_prints_what_it_says(tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    write_folder(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(block, {})
    printed = [line.partition("  # ")[2] for line in block.splitlines() if line.startswith("print")]
    assert capsys.readouterr().out.splitlines() == printed


def test_the_table_of_the_page_is_read(tmp_path):
    (table,) = re.findall(r"```\n(file_name.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "beach").mkdir()
    for name in ("cat.jpg", "beach/sunset.jpg"):
        (tmp_path / name).write_bytes(encoded(pictures(1)["000.png"], "JPEG"))
    (tmp_path / "captions.csv").write_text(table)
    found = read(tmp_path)
    assert dict(zip(found.names, found.captions)) == {
        f"{tmp_path}/cat.jpg": ("a cat on a sofa", "our cat"),
        f"{tmp_path}/beach/sunset.jpg": ("sunset, seen from the pier",),
    }


def test_the_page_lists_the_names_of_columns():
    listed = re.findall(r"Pictures: (.*?)\. Captions: (.*?)\. If", PAGE.replace("\n", " "))
    assert [re.findall(r"`(\w+)`", names) for names in listed[0]] == [[*pairs.PICTURES], [*pairs.CAPTIONS]]
