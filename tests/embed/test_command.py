"""`miniclip embed`: kills lose no row, and memory does not grow with the number of pictures."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from arithmetic import close_in_float16
from PIL import Image

from miniclip import checkpoints, embed
from miniclip.cli import main
from miniclip.embed import index
from miniclip.fetch import hub

pytest_plugins = ["embedded_photos"]


def test_the_command_embeds_a_folder_and_names_what_is_broken(tmp_path, photos, readable, capsys):
    command = ["embed", str(photos), "-o", str(tmp_path / "i"), "--backend", "numpy"]
    assert main([*command, "--json", "--npy", str(tmp_path / "f.npy")]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"index": str(tmp_path / "i"), "rows": 198, "new": 198, "failed": 2}
    first, second = printed.err.splitlines()
    assert f"{photos}/1/4.png: cannot be read as a picture" in first and "2/50.png: cannot be read" in second
    assert np.load(tmp_path / "f.npy").shape == (198, embed.read(tmp_path / "i").metadata["embed_dim"])
    assert main(command) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "miniclip: 2 of 200 pictures are left to embed"
    assert said[-1] == (
        f"miniclip: 0 pictures embedded, {tmp_path}/i has 198; 2 could not be read, see {tmp_path}/i/_failed.jsonl"
    )


def test_the_command_embeds_a_list_on_standard_input(tmp_path, readable):
    command = [sys.executable, "-m", "miniclip", "embed", "-", "-o", tmp_path / "i"]
    done = subprocess.run(command, input="\n".join(readable[:5]), text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert embed.read(tmp_path / "i").names == readable[:5]


def test_the_command_embeds_texts(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "a red circle"}\n{"text": "a star"}\n')
    command = ["embed", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "i")]
    assert main(command) == 0 and embed.read(tmp_path / "i").names == ["a red circle", "a star"]
    (tmp_path / "a.jsonl").write_text('{"text": "a red circle"}\n{"text": ""}\n')
    assert main(command) == 1
    assert main(["embed", "photo.jpg", *command[1:]]) == 1
    assert "a.jsonl is a table of texts, and other names are of pictures" in capsys.readouterr().err


def test_a_path_of_a_model_is_stored_absolute(tmp_path, readable, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "shapes", "mine.safetensors", "--to", "miniclip"]) == 0
    assert main(["embed", readable[0], "-o", "i", "--model", "mine.safetensors"]) == 0
    assert embed.read("i").metadata["model"] == str(tmp_path / "mine.safetensors")
    assert main(["embed", readable[1], "-o", "i", "--model", "shapes"]) == 0  # the same weights


SLOW = """
import signal, sys, time
from miniclip import cli, model
from miniclip.embed import writer
writer.SECONDS = 0.2
encode = model.CLIP.encode_image
model.CLIP.encode_image = lambda self, x: time.sleep(0.1) or encode(self, x)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_run_that_is_killed_twice_and_resumed_has_the_rows_of_one_that_is_not(tmp_path, photos, readable):
    command = [str(photos), "--batch", "8", "--backend", "numpy", "-o"]
    assert main(["embed", *command, str(tmp_path / "whole")]) == 1
    rows = 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, "embed", *command, str(tmp_path / "i")], stderr=subprocess.DEVNULL
        )
        while process.poll() is None and count(tmp_path / "i") < rows + 30:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        before, rows = rows, count(tmp_path / "i")
        assert before < rows < 198
        assert embed.read(tmp_path / "i").names == readable[:rows]
    assert main(["embed", *command, str(tmp_path / "i")]) == 1
    found, whole = embed.read(tmp_path / "i"), embed.read(tmp_path / "whole")
    assert found.names == whole.names == readable and close_in_float16(found.features, whole.features)
    files = ({path.name for path in (tmp_path / name).iterdir()} for name in ("i", "whole"))
    assert [*files] == [{"part-000000.parquet", "_failed.jsonl"}] * 2


def count(folder):
    return sum(part.rows for part in index.parts_of(folder)) if folder.exists() else 0


def test_ctrl_c_keeps_what_was_embedded_and_says_how_to_resume(tmp_path, photos, readable):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "embed", str(photos), "--batch", "8", "-o", str(tmp_path / "i")],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and count(tmp_path / "i") < 8:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1] == f"miniclip: stopped; what was embedded is in {tmp_path}/i: the same command resumes"
    assert 8 <= len(names := embed.read(tmp_path / "i").names) < 198 and names == readable[: len(names)]


PEAK = """
import sys
from miniclip import cli
code = cli.main(sys.argv[1:])
# the peak of this program in KiB; getrusage would have that of the process which started it, if that is higher
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


PATH = 800  # bytes in memory for a path: the text, its places in lists and in a table; 350 to 650 were measured


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory in other units")
def test_memory_does_not_grow_with_the_number_of_pictures_except_for_their_paths(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    peaks = {}
    for n in (5_000, 20_000):
        photos = tmp_path / f"{n}"
        photos.mkdir()
        for i in range(n):
            os.link(tmp_path / "1.png", photos / f"{i}.png")
        command = ["embed", photos, "-o", tmp_path / f"index-{n}", "--backend", "numpy"]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, command)], capture_output=True, text=True, check=True
        )
        assert f"{n:,} pictures embedded" in done.stderr
        peaks[n] = int(done.stdout) << 10
    assert peaks[20_000] < peaks[5_000] + 15_000 * PATH  # a feature would be 512 bytes more for each


def test_a_model_without_an_image_tower_embeds_texts(tmp_path, capsys):
    config, tree, tokenizer = checkpoints.load(hub.find("shapes"), dtype="float32")
    tree = {name: x for name, x in tree.items() if name not in ("visual", "logit_scale")}
    checkpoints.save(tmp_path / "t.safetensors", dataclasses.replace(config, visual=None), tree, tokenizer=tokenizer)
    (tmp_path / "a.csv").write_text("text\na red star\n")
    command = ["embed", str(tmp_path / "a.csv"), "-o", str(tmp_path / "i"), "--model", str(tmp_path / "t.safetensors")]
    assert main(command) == 0 and embed.read(tmp_path / "i").names == ["a red star"]
    assert main(["embed", "a.png", *command[2:]]) == 1
    assert "has no image tower: choose a model that has one" in capsys.readouterr().err
