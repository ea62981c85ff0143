"""How far a command is: a bar with the remaining time on a terminal, else a line from time to time."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from PIL import Image

from miniclip.cli import progress

COLUMNS = 90


@pytest.fixture
def photos(tmp_path):
    for name in "abc":
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (60, 50), (90, 0, 100)).save(tmp_path / "photos" / name / "1.png")
    return tmp_path / "photos"


def on_terminal(*command, stdin=None):
    """What a command writes to its stderr, a terminal of `COLUMNS`; its stdout is not one."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "miniclip", *map(str, command)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    process.stdin.write(stdin or b"")
    process.stdin.close()
    written = b""
    try:
        while block := os.read(ours, 4096):
            written += block
    except OSError:  # Linux's end of a terminal
        pass
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode()


@pytest.mark.parametrize(
    "command",
    [
        ("classify", "{}", "--csv", "--labels", "a", "b"),
        ("caption", "{}", "--json", "--beams", "1"),
        ("compare", "{}", "--json"),
        ("evaluate", "{}"),
        ("embed", "{}", "-o", "{}/../index"),
    ],
)
def test_a_terminal_shows_the_remaining_time(photos, command):
    written = on_terminal(*(word.format(photos) for word in command))
    bars = [line for line in re.split("[\r\n]+", written) if "pictures/s" in line]
    assert re.search(r"3/3 \[\d\d:\d\d<\d\d:\d\d, ", bars[-1])
    assert max(map(len, bars)) <= COLUMNS


def test_names_that_a_program_writes_are_not_waited_for(photos):
    names = "".join(f"{photos}/{name}/1.png\n" for name in "abc")
    written = on_terminal("classify", "-", "--csv", "--labels", "a", "b", stdin=names.encode())
    assert re.search(r"3 pictures \[\d\d:\d\d, ", written)


def test_a_log_has_a_line_every_half_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.delitem(sys.modules, "tqdm", raising=False)
    for items in (range(20_000), iter(range(4_000))):
        for _ in progress.progress(items):
            now[0] += 1 / 64
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "miniclip: 1,920 of 20,000 pictures, 64/s, 5 min left",
        "miniclip: 3,840 of 20,000 pictures, 64/s, 4 min left",
    ]
    assert said[9] == "miniclip: 19,200 of 20,000 pictures, 64/s, 12 s left"
    assert said[10:] == ["miniclip: 1,920 pictures, 64/s", "miniclip: 3,840 pictures, 64/s"]


def test_a_short_command_says_nothing(capsys):
    assert [*progress.progress("abc")] == ["a", "b", "c"] == [*progress.progress("abc", shown=False)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (9000, "2.5 h")]
)
def test_durations(seconds, said):
    assert progress._time(seconds) == said
