"""Calls a student's function in a process of its own, within limits; `student` is that process, `guard` watches it."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import miniclip
from miniclip.learn import wire
from miniclip.learn.holding import Unusable
from miniclip.learn.student import ANSWER

HOME = Path(miniclip.__file__).parents[1]  # where `import miniclip` finds this very library
LIMITS = {
    "seconds": 300,  # an exercise; most take one or two
    "memory": 4 << 30,  # of one process, and of all that it starts together
    "file": 16 << 20,
    "disk": 64 << 20,  # of its working directory
    "processes": 32,
}
PRINTED = 10, 8192  # last lines, and last bytes, of what it prints that are shown
GRACE = 10  # seconds that the guard has to end everything
NO_ANSWER = "answered with something that is no answer"
NAME = "miniclip-learn"  # of its working directory, with the grader's process id


class Ended(BaseException):
    """The student's process has ended, and why. No law catches it. `outside`: something else ended it."""

    def __init__(self, why, outside=False):
        super().__init__(why)
        self.outside = outside


class Raised(Unusable):
    """What a student's function raised, in a line of text; its class has the name of the exception."""


class Student:
    """A function in a process of its own; use it with `with`, then call it."""

    def __init__(self, exercise, path, source, limits=LIMITS):
        self.exercise, self.path, self.source, self.limits = exercise, str(path), source, limits
        self._answers, self._tail = queue.Queue(), b""

    def __enter__(self):
        _sweep()
        self._directory = tempfile.mkdtemp(prefix=f"{NAME}-{os.getpid()}-")  # empty: nothing in it is imported
        command = [sys.executable, "-m", "miniclip.learn.student"]
        if hasattr(os, "fork"):
            limits = json.dumps({**self.limits, "parent": os.getpid()})
            command = [sys.executable, "-m", "miniclip.learn.guard", limits, *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self._directory,
            env=_environment(self._directory), start_new_session=True,
        )  # fmt: skip
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read_answers, self._read_prints)]
        self._backstop = threading.Timer(self.limits["seconds"] + GRACE, self._stop)
        self._backstop.daemon = True
        for thread in (*self._threads, self._backstop):
            thread.start()
        source = self.source.decode("latin-1")  # any bytes as text, and back
        self._tell({"exercise": self.exercise.id, "path": self.path, "source": source})
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # then it ends by itself, and its guard ends what it has left running
        for wait in (1, GRACE):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait)
                break
            self._process.terminate()  # it still computes: the guard ends it
        self._stop()
        for thread in self._threads:
            thread.join(1)
        self._backstop.cancel()
        _remove(self._directory)

    def load(self):
        """Wait until the function is loaded; returns why that cannot be, None if it could."""
        why = self._hear().get("loaded", NO_ANSWER)
        return why if why is None else _printable(str(why))

    def __call__(self, *arguments, **options):
        """What the function gives. What it writes to its arguments is written to ours, a trace gets its calls.

        Raises Ended if the process ends, else what the function raises, as a `Raised` of the same name.
        """
        given, trace = [], options.get("trace")
        if trace is not None:
            options["trace"] = wire.Recorder(getattr(trace, "attentions", True))
        message = {"arguments": wire.pack(arguments, given), "options": wire.pack(options, given)}
        self._tell(message)
        answer = self._hear()
        try:
            if "raised" in answer:
                value = type(answer["raised"], (Raised,), {})(_printable(str(answer["said"])))
            else:
                for i, array in answer["changed"]:
                    given[i][...] = wire.unpack(array)
                for name, seen in wire.unpack(answer["calls"]):
                    trace(name, seen)
                value = wire.unpack(answer["value"])
        except Exception as error:
            raise Ended(NO_ANSWER) from error
        if isinstance(value, Raised):
            raise value
        return value

    @property
    def printed(self):
        """The last lines that it printed."""
        lines = self._tail.decode(errors="replace").splitlines()
        return "\n".join(["..."] * (len(lines) > PRINTED[0]) + list(map(_printable, lines[-PRINTED[0] :])))

    def _tell(self, message):
        with contextlib.suppress(OSError):  # it has ended: its guard's last message says why
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _hear(self):
        line = self._answers.get()
        try:
            answer = json.loads(line) if line else {"ended": "was ended, and its guard too", "outside": True}
            ended = answer.get("ended")
        except Exception as error:
            raise Ended(NO_ANSWER) from error
        if ended is not None:
            raise Ended(str(ended), answer.get("outside") is True)
        return answer

    def _read_answers(self):
        """Queue the lines on stdout, the last one empty; stop reading when there is more than anyone asked for."""
        with self._process.stdout as answers:
            while len(line := answers.readline(2 * ANSWER)) < 2 * ANSWER and self._answers.qsize() < 4:
                if line.strip() or not line:
                    self._answers.put(line)
                if not line:
                    return
        self._answers.put(b'{"ended": "gave more than it was asked for", "outside": false}')

    def _read_prints(self):
        with self._process.stderr as prints:
            while chunk := prints.read1(1 << 16):
                self._tail = (self._tail + chunk)[-PRINTED[1] :]

    def _stop(self):
        """End the guard and the student's process, whatever they do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self._process.kill()
        self._process.wait()
        self._answers.put(b'{"ended": "was still running after %d seconds", "outside": false}' % self.limits["seconds"])


def _printable(line):
    """A line without what would move a terminal's cursor or set its title."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)


def _environment(directory):
    """The environment of the student's process: one thread, the interpreter for Triton, its own place for files."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    places = dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP"), directory)
    return {**os.environ, **threads, **places, "TRITON_INTERPRET": "1", "PYTHONPATH": path}


def _remove(directory):
    """Remove a directory, also if something in it may not be read."""
    with contextlib.suppress(RecursionError):  # hundreds of directories in each other: they stay
        for place, inside, _ in os.walk(directory):
            for path in (os.path.join(place, name) for name in inside):
                if not os.path.islink(path):
                    with contextlib.suppress(OSError):
                        os.chmod(path, 0o700)
        shutil.rmtree(directory, ignore_errors=True)


def _sweep():
    """Remove the working directories of graders that were killed: those whose process is gone."""
    if not hasattr(os, "getuid"):
        return
    for path in Path(tempfile.gettempdir()).glob(f"{NAME}-*-*"):
        pid = path.name.split("-")[2]
        with contextlib.suppress(OSError):
            if pid.isdecimal() and path.stat().st_uid == os.getuid() and not _runs(int(pid)):
                _remove(path)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
