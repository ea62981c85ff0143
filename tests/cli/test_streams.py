"""Standard input, output and error that are closed, full, or cannot show a character."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from miniclip import cli

MINICLIP = f"{sys.executable} -m miniclip"


def shell(command, folder, **environment):
    environment = {**os.environ, "PYTHONUTF8": "1", **environment}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd names")
    for name in (b"\xff.png", "ü ☃.png".encode()):
        Image.new("RGB", (9, 9), "red").save(os.path.join(os.fsencode(folder), name).decode(errors="surrogateescape"))
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_has_the_names_as_they_are_on_any_terminal(folder, encoding):
    done = shell(f"{MINICLIP} classify . --labels 'a rød star' 'a circle' --json", folder, PYTHONIOENCODING=encoding)
    found = json.loads(done.stdout.decode(encoding))
    assert [os.fsencode(entry["image"]) for entry in found] == ["ü ☃.png".encode(), b"\xff.png"]
    assert "a rød star" in [entry["label"] for entry in found[0]["labels"]]


@pytest.mark.parametrize("how", ["--json", "--csv", ""])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_output_is_one_line(folder, how):
    done = shell(f"{MINICLIP} classify . --labels 'a star' 'a circle' {how} > /dev/full", folder)
    assert done.returncode == 1
    assert done.stderr.decode() == "miniclip: standard output: cannot be written: No space left on device\n"


def test_closed_streams_are_empty(folder):
    done = shell(f"{MINICLIP} classify - --labels 'a star' 'a circle' <&-", folder)
    assert (done.returncode, done.stdout) == (1, b"") and done.stderr.startswith(b"miniclip: standard input: names no")
    done = shell(f"{MINICLIP} classify . --labels 'a star' 'a circle' >&- 2>&-", folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_ctrl_c_while_a_command_is_imported_says_nothing(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_parser", interrupted)
    assert cli.program() == 130


def test_a_large_picture_is_read_and_a_huge_one_is_named(tmp_path):
    """Pillow warns of 90 million pixels, which a command does not repeat, and refuses 180 million."""
    for name, size in {"large": (10_000, 9_000), "wide": (50_000, 3), "huge": (20_000, 9_000)}.items():
        Image.new("1", size).save(tmp_path / f"{name}.png")
    for command in ("classify", "embed"):
        rest = {"classify": "--labels 'a star' 'a circle'", "embed": "-o index"}[command]
        done = shell(f"{MINICLIP} {command} large.png wide.png huge.png {rest}", tmp_path)
        first, *others = done.stderr.decode().splitlines()
        assert first.removeprefix(f"miniclip: {tmp_path}/").removeprefix("miniclip: ") == (
            "huge.png: has more than 178,956,970 pixels: make it smaller, or in Python raise PIL.Image.MAX_IMAGE_PIXELS"
        )
        assert (done.returncode, len(others)) == (1, command == "embed")
    assert done.stderr.endswith(b"2 pictures embedded, index has 2; 1 could not be read, see index/_failed.jsonl\n")
