"""Runs a command within limits, and ends all that it has started (`python -m miniclip.learn.guard LIMITS COMMAND...`).

The limits are a JSON object: seconds, memory (bytes of one process, and of all together), file and disk (bytes of a
file, and of the working directory), processes, and parent: if it ends, everything ends. The last line on stdout says
how it ended: {"ended": why, "outside": whether something else than the command and the guard ended it}.

On Linux, processes that began a session of their own are found too: the guard is the parent of all orphans among its
descendants (prctl, PR_SET_CHILD_SUBREAPER). Elsewhere, only those of its process group are ended, and memory, disk and
processes are not counted.
"""

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import sys
import time

PDEATHSIG, SUBREAPER = 1, 36  # linux/prctl.h
EVERY = 0.1  # seconds between two looks at memory, disk and processes
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # what others send to end a process


def _prctl(option, value):
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _numbers(path):
    try:
        with open(path) as file:
            return [int(word) for word in file.read().split()]
    except OSError:  # it has just ended
        return []


def descendants(pid):
    """The processes that a process has started, and those that they have started."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in _numbers(f"/proc/{pid}/task/{task}/children"):
                found += [child, *descendants(child)]
    return found


def _memory(pid):
    pages = _numbers(f"/proc/{pid}/statm")
    return pages[1] * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _size(directory):
    total, entries = 0, [directory]
    while entries:
        with contextlib.suppress(OSError), os.scandir(entries.pop()) as found:
            for entry in found:
                total += 512 + entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    entries.append(entry.path)
    return total


def _tasks():
    """How many processes and threads this user runs."""
    count = 0
    for pid in filter(str.isdecimal, os.listdir("/proc") if os.path.isdir("/proc") else []):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{pid}/task"))
    return count


def _lower(kind, value):
    most = resource.getrlimit(kind)[1]
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    with contextlib.suppress(ValueError, OSError):  # a system that does not know the limit
        resource.setrlimit(kind, (value, value))


def _begin(limits, command):
    """In the new process: limits, then the command."""
    _prctl(PDEATHSIG, signal.SIGKILL)
    _lower(resource.RLIMIT_DATA, limits["memory"])
    _lower(resource.RLIMIT_FSIZE, limits["file"])
    _lower(resource.RLIMIT_CORE, 0)
    if tasks := _tasks():  # far above what is counted later: it only stops what grows faster than that
        _lower(resource.RLIMIT_NPROC, tasks + 16 * limits["processes"])
    os.execv(command[0], command)


def _broken(limits, begin):
    """Which limit is broken, in words; None if none is."""
    if time.monotonic() - begin > limits["seconds"]:
        return f"was still running after {limits['seconds']:g} seconds"
    below = descendants(os.getpid())
    if len(below) > limits["processes"]:
        return f"ran more than {limits['processes']} processes at once"
    if sum(map(_memory, below)) > limits["memory"]:
        return f"used more than {limits['memory'] >> 20} MiB of memory"
    if _size(".") > limits["disk"]:
        return f"wrote more than {limits['disk'] >> 20} MiB"
    return None


def _end_all(child):
    """End the process group of the child, then whatever still descends from the guard."""
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    until = time.monotonic() + 5
    while (left := descendants(os.getpid())) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


def main():
    limits, command, begin = json.loads(sys.argv[1]), sys.argv[2:], time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: limits.update(seconds=0))  # enough: its time is over
    _prctl(SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setpgid(0, 0)
        _begin(limits, command)
    os.close(0)  # the messages are the child's; stdout is kept for the last one
    why, outside, looked = None, False, begin
    while why is None:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            outside = -code in OUTSIDE
            why = (
                f"was ended by the signal {signal.Signals(-code).name}"
                if code < 0
                else f"ended Python, with code {code}"
            )
        elif os.getppid() != limits["parent"]:
            _end_all(child)
            shutil.rmtree(os.getcwd(), ignore_errors=True)
            return
        elif time.monotonic() - looked > EVERY:
            looked = time.monotonic()
            why = _broken(limits, begin)
        else:
            time.sleep(0.005)
    _end_all(child)
    sys.stdout.write("\n" + json.dumps({"ended": why, "outside": outside}) + "\n")


if __name__ == "__main__":
    main()
