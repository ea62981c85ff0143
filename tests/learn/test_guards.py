"""A check ends with a verdict, within its limits, and leaves nothing running, whatever a submission does."""

import ast
import importlib.util
import os
import py_compile
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from course import EXERCISES, each_exercise, solution, write

from miniclip.learn import catalogue, grading, holding, mistakes, remote, skeletons, student, wire

SOFTMAX = EXERCISES["softmax"]
RIGHT = solution(SOFTMAX)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the guard counts and finds processes on Linux")


def grade(tmp_path, source, **limits):
    write(tmp_path, SOFTMAX, source)
    return grading.grade(SOFTMAX, tmp_path, limits=limits)


def is_gone(pid, seconds=5):
    """Whether a process ends within a few seconds (a zombie has ended)."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def pid_in(path, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text()).isdecimal():
            return int(text)
        time.sleep(0.02)
    raise AssertionError("no process began")


# ---------------------------------------------------------------------------------------------------- always a verdict

PIPES = "import os\nfor name in ('printed', 'result.json'): os.mkfifo(name)\n"
NO_PLACE = "import os, shutil\nshutil.rmtree(os.getcwd())\n"
A_FILE = "open('result.json', 'w').write('{garbage')\n"
TOLERANT = """
import sys
import numpy as np
np.allclose = np.array_equal = np.isclose = lambda *_, **__: True
np.abs = lambda x: np.zeros_like(x)
np.asarray = lambda x, *_: x
from miniclip.learn import holding, laws
laws.difference = lambda *_: None
holding.hold = holding.hold_called = lambda *_: ([], [])
import builtins, json
builtins.all = lambda _: True
"""


@pytest.mark.parametrize("before", [PIPES, NO_PLACE, A_FILE], ids=["pipes", "no place", "a file"])
def test_what_is_in_its_working_directory_changes_nothing(before, tmp_path):
    assert grade(tmp_path, before + RIGHT).state == "done"
    assert grade(tmp_path, before + "def softmax(x): return x\n").state == "partial"


@linux
def test_a_submission_that_ends_its_guard_ends_with_it(tmp_path):
    pid = tmp_path / "pid"
    source = (
        f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\nos.kill(os.getppid(), 9)\ntime.sleep(60)\n"
    )
    result = grade(tmp_path, source)
    assert result.state == "partial" and result.outside and "its guard too" in result.verdicts[0].message
    assert is_gone(pid_in(pid))


@pytest.mark.parametrize("descriptor", [1, 3, 4])
def test_garbage_in_any_descriptor_is_no_verdict(descriptor, tmp_path):
    source = f"""
import contextlib, os
def softmax(x):
    with contextlib.suppress(OSError):
        os.write({descriptor}, b'{{"value": 1, "changed": 3}}\\n[garbage\\n\\xff\\n')
    return x
"""
    assert grade(tmp_path, source, seconds=20).state == "partial"


def test_a_verdict_cannot_be_forged_by_replacing_functions(tmp_path):
    result = grade(tmp_path, TOLERANT + "def softmax(x): return x\n")
    assert result.state == "partial" and result.passed < len(result.verdicts)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import os; os._exit(0)", "ended Python, with code 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by the signal SIGSEGV"),
        ("while True: pass", "was still running after 2 seconds"),
        ("x = []; x.append(x); return x", "RecursionError"),
        ("return np.array([None])", "expected numbers"),
        ("return np.zeros(1 << 21)", "gives more than 8 MiB"),
        ("return lambda: 1", "expected numbers"),
        ("raise KeyboardInterrupt", "raises KeyboardInterrupt"),
    ],
)  # fmt: skip
def test_whatever_a_function_does_is_told(body, message, tmp_path):
    source = f"import numpy as np\ndef softmax(x):\n    {body}\n"
    result = grade(tmp_path, source, **({"seconds": 2} if "while" in body else {}))
    assert result.state == "partial"
    assert any(message in verdict.message for verdict in result.verdicts), result


def test_a_compiled_file_beside_the_source_is_not_believed(tmp_path):
    path = write(tmp_path, SOFTMAX, "def softmax(x): return x\n")
    cached = importlib.util.cache_from_source(str(path))
    path.with_suffix(".txt").write_text(RIGHT)
    py_compile.compile(
        str(path.with_suffix(".txt")), cached, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    assert grading.grade(SOFTMAX, tmp_path).state == "partial"
    path.write_text(RIGHT)
    os.remove(cached)
    assert grading.grade(SOFTMAX, tmp_path).state == "done"
    assert os.listdir(Path(cached).parent) == []


def test_a_pipe_and_a_large_file_are_no_submission(tmp_path):
    os.mkfifo(tmp_path / "softmax.py")
    assert grading.grade(SOFTMAX, tmp_path).state == "to do"
    os.remove(tmp_path / "softmax.py")
    assert "has more than 1 MiB" in grade(tmp_path, "#" * (1 << 20) + "\n").verdicts[0].message


# -------------------------------------------------------------------------------------------------------- within limits


def test_of_what_it_prints_little_is_kept(tmp_path):
    result = grade(tmp_path, RIGHT + "\nfor _ in range(3000): print('x' * 999)\nprint('the last line')\n")
    assert result.state == "done"
    assert result.printed.endswith("the last line") and len(result.printed) < 10_000


FIVE_FILES = "import time\nfor i in range(5): open(f'{i}', 'wb').write(bytes(1 << 20))\ntime.sleep(20)"
FOUR_PROCESSES = "import subprocess, time\nfor _ in range(4): subprocess.Popen(['sleep', '30'])\ntime.sleep(20)"
SHARED = """
import mmap, time
shared = mmap.mmap(-1, 400 << 20)  # no limit of the system counts it
for _ in range(400): shared.write(bytes(1 << 20))
time.sleep(20)
"""


@linux
@pytest.mark.parametrize(
    ("before", "limits", "message"),
    [
        ("import numpy as np; big = np.ones(1 << 26)", {"memory": 400 << 20}, "MemoryError"),
        (SHARED, {"memory": 300 << 20}, "used more than 300 MiB of memory"),
        ("import os; f = open('x', 'wb'); f.write(bytes(3 << 20)); f.close()", {"file": 1 << 20}, "File too large"),
        (FIVE_FILES, {"disk": 2 << 20}, "wrote more than 2 MiB"),
        (FOUR_PROCESSES, {"processes": 3}, "more than 3 processes"),
    ],
)  # fmt: skip
def test_a_limit_is_told(before, limits, message, tmp_path):
    begin = time.monotonic()
    result = grade(tmp_path, f"{before}\n{RIGHT}", **limits)
    assert result.state == "partial" and message in result.verdicts[0].message, result
    assert time.monotonic() - begin < 15


ORPHAN = """
import os, subprocess, sys
if os.fork() == 0:  # a grandchild with a session of its own, as daemons have
    os.setsid()
    if os.fork() == 0:
        open({path!r}, 'w').write(str(os.getpid()))
        os.execvp('sleep', ['sleep', '60'])
    os._exit(0)
os.wait()
while not os.path.exists({path!r}) or not os.path.getsize({path!r}): pass
"""


@linux
@pytest.mark.parametrize("then", [RIGHT, "import os\ndef softmax(x): os._exit(1)\n", "import time; time.sleep(60)\n"])
def test_nothing_outlives_the_check_with_or_without_a_session_of_its_own(then, tmp_path):
    pid = tmp_path / "pid"
    grade(tmp_path, ORPHAN.format(path=str(pid)) + then, **({"seconds": 3} if "sleep(60)" in then else {}))
    assert is_gone(pid_in(pid), 0.5)


@linux
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=lambda sent: sent.name)
def test_nothing_outlives_a_grader_that_is_ended(sent, tmp_path):
    pids = [tmp_path / "orphan", tmp_path / "student"]
    source = ORPHAN.format(path=str(pids[0])) + f"open({str(pids[1])!r}, 'w').write(str(os.getpid()))\n"
    write(tmp_path, SOFTMAX, source + "import time; time.sleep(60)\n")
    place = tmp_path / "place"
    place.mkdir()
    grader = subprocess.Popen(
        [sys.executable, "-m", "miniclip", "learn", "check", str(tmp_path), "softmax"],
        env={**os.environ, "TMPDIR": str(place)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    found = [pid_in(path) for path in pids]
    grader.send_signal(sent)
    grader.wait()
    assert all(map(is_gone, found))
    time.sleep(0.2)
    assert os.listdir(place) == []


def test_directories_of_graders_that_are_gone_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone, mine, other = (tmp_path / f"{remote.NAME}-{pid}-x" for pid in (ended.pid, os.getpid(), "notes"))
    for path in (gone, mine, other):
        (path / "inside").mkdir(parents=True)
    (gone / "inside").chmod(0)
    write(tmp_path, SOFTMAX, RIGHT)
    assert grading.grade(SOFTMAX, tmp_path).state == "done"
    assert {path.name for path in tmp_path.iterdir()} == {"softmax.py", mine.name, other.name}


# --------------------------------------------------------------------------------------------------- ended from outside

KILLED = """
import os, signal
with open({path!r}, 'a') as file: file.write('x')
if os.path.getsize({path!r}) < {times}: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("times", "state", "outside"), [(2, "done", False), (9, "partial", True)])
def test_a_check_that_was_ended_from_outside_is_tried_once_more(times, state, outside, tmp_path):
    runs = tmp_path / "runs"
    result = grade(tmp_path, KILLED.format(path=str(runs), times=times) + RIGHT)
    assert (result.state, result.outside, runs.stat().st_size) == (state, outside, 2)


# ------------------------------------------------------------------------------------------- the same as in one process


@each_exercise
def test_a_function_gives_the_same_in_its_own_process(exercise, tmp_path):
    """The first mistake that is an edit, else what is right: verdicts and values, in this process and in the other."""
    mutant = next((mutant for mutant in exercise.mutants if mutant.edits), catalogue.Mutant(""))
    function = ast.unparse(mistakes.mistaken(exercise, mutant, skeletons.reference(exercise)))
    path = write(tmp_path, exercise, f"from {exercise.module} import *\n{function}\n")
    here = holding.hold(exercise, student.load(path, exercise.name))
    with remote.Student(exercise, path, path.read_bytes()) as there:
        assert there.load() is None
        found = holding.hold_called(exercise, there)
    assert [verdict.passed for verdict in found[0]] == [verdict.passed for verdict in here[0]]
    assert all(map(holding._all_alike, found[1], here[1]))


def test_values_come_back_as_they_were():
    values = [None, True, 3, 2.5, "é\ud800", [1, (2, [])], {"a": 1, 3: "b"}, np.float32(2), np.arange(6).reshape(2, 3)]
    values += [np.zeros((0, 3), np.float16), np.array(7), float("inf")]
    back = wire.unpack(wire.pack(values))
    for got, want in zip(back, values, strict=True):
        assert type(got) is type(want) and (got == want if type(want) is list else np.array_equal(got, want))
        assert getattr(got, "dtype", None) == getattr(want, "dtype", None)
