"""Cases measured by a process of their own, which is replaced when a case breaks it.

After one illegal address a process cannot use its GPU again, and a kernel that waits for something that never comes
does not return. A process for each case would be safest, but starting torch and a GPU takes longer than most cases. So
one process measures case after case, and after a case that broke it another one measures the rest.
"""

import contextlib
import multiprocessing
import time

import torch

from miniclip.bench import session

START = 90  # seconds that a process may take until it begins
GRACE = 15  # seconds that a case may take after the time for all cases is over


class Raised(Exception):
    """A case raised something, which is the message."""


class Lost(Exception):
    """The process that measured a case is lost, for the reason in the message."""


class Isolated:
    """measure(case), computed in another process by what make() returns there.

    A case has limit(case) seconds, and none may end more than GRACE after `seconds` from now. `measure` raises Lost for
    a case that takes longer, that ends the process, or after which the GPU does not answer, and Raised for one that
    raises anything else. `make` is pickled: a function of a module, or a `partial` of one.
    """

    def __init__(self, make, limit, seconds=None):
        self.make, self.limit = make, limit
        self.end = time.monotonic() + seconds + GRACE if seconds is not None else float("inf")
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stop()

    def measure(self, case):
        if self.process is None:
            # A GPU that was used before a fork cannot be used after it.
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.make))
            self.process.start()
            theirs.close()
            self._answer(START)
        with contextlib.suppress(OSError):  # it has ended: _answer says how
            self.pipe.send(case)
        return self._answer(self.limit(case))

    def _answer(self, seconds):
        seconds = min(seconds, max(self.end - time.monotonic(), 0))
        if not self.pipe.poll(seconds):
            self._stop()
            raise Lost(f"no result after {seconds:.0f} seconds")
        try:
            value, reason, usable = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            self._stop()
            raise Lost(f"it ended its process, with code {code}") from None
        if not usable:
            self._stop()
            raise Lost(f"the GPU cannot be used after {reason}")
        if reason:
            raise Raised(reason)
        return value

    def _stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _serve(pipe, make):
    """Send (value, reason why there is none, whether the GPU can still be used): first for make, then for each case."""
    torch.set_grad_enabled(False)
    try:
        measure = make()
        pipe.send((None, None, True))
    except Exception as error:
        pipe.send((None, session.reason(error), False))
        return
    while True:
        try:
            case = pipe.recv()
        except EOFError:  # the process that asked has ended
            return
        try:
            answer = measure(case), None, True
        except Exception as error:
            answer = None, session.reason(error), usable()
        pipe.send(answer)


def usable():
    """Whether this process can still use its GPU; True if it has used none."""
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return True
    except Exception:
        return False
