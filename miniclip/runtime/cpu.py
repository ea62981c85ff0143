"""The processor: its cores, and how NumPy's BLAS, which computes the matrix products, uses them.

Builds on threadpoolctl, which knows OpenBLAS, MKL, BLIS and FlexiBLAS, but not Apple's Accelerate.
"""

import contextlib
import contextvars
import functools
import os
import platform
import queue
import sys
import threading
from pathlib import Path

import numpy  # noqa: F401  loads its BLAS, so that threadpoolctl finds it
from threadpoolctl import ThreadpoolController

CORETYPE = "OPENBLAS_CORETYPE"  # OpenBLAS reads it once, when it is loaded
AVX512 = "SkylakeX"  # OpenBLAS' kernel that every processor with AVX-512 can run
NEEDED = ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")  # by this kernel
OLDER = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen")  # OpenBLAS' kernels for processors without AVX-512


def name():
    """The processor's name, as Linux reports it."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


@functools.cache
def _cpuinfo():
    """{key: value} of the first core in /proc/cpuinfo; empty on systems other than Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def has(*flags):
    """Whether the processor has these features, by Linux's names ("avx512dq", "avx512_bf16"); False if unknown."""
    return {*flags} <= {*_cpuinfo().get("flags", "").split()}


def cores():
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_busy = contextvars.ContextVar("busy", default=False)  # whether this code is a job of `on_cores`


def on_cores(function, jobs, cores):
    """[function(job) for job in jobs], up to `cores` jobs at a time, one of them on this thread.

    Raises the error of the first job in the list that failed; after any error no further job begins.
    """
    jobs = list(enumerate(jobs))
    results, errors, lock, left = [None] * len(jobs), {}, threading.Lock(), iter(jobs)

    def work():
        _busy.set(True)
        while True:
            with lock:
                i, job = next(left, (None, None))
            if i is None or errors:
                return
            try:
                results[i] = function(job)
            except BaseException as error:  # Ctrl-C too: then the other threads must end
                errors[i] = error

    # Each runs in a copy of this thread's context, so that numpy.errstate and similar settings apply there too.
    waits = [_begin(contextvars.copy_context(), work) for _ in range(min(cores, len(jobs)) - 1)]
    try:
        contextvars.copy_context().run(work)
    finally:
        jobs.clear()  # an interrupt may have come between two jobs: no thread begins another one
        for wait in waits:
            wait()
    if errors:
        raise errors[min(errors)]
    return results


_idle = []  # the queues of threads that wait for work: a convolution is over before a new thread has started
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


def _begin(context, function):
    """Begin context.run(function), which raises no error, on another thread; returns a function that waits for its end.

    These are not threads of concurrent.futures, which starts none after the main thread has ended.
    """
    try:
        work = _idle.pop()
    except IndexError:
        work = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(work,), name="miniclip-core", daemon=True).start()
    ended = threading.Lock()
    ended.acquire()
    work.put((context, function, ended))
    return ended.acquire


def _serve(work):
    while True:
        context, function, ended = work.get()
        context.run(function)
        del context, function  # which hold the jobs and their results
        _idle.append(work)
        ended.release()


class Shared:
    """A setting of the whole process, as a context: the first thread that enters sets it, the last to leave undoes it.

    make(...) sets it and returns the function that undoes it. A forked child has only one thread, and is outside.
    """

    def __init__(self, make):
        self.make, self.lock, self.users = make, threading.Lock(), 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave_all)

    @contextlib.contextmanager
    def __call__(self, *arguments):
        with self.lock:
            if not self.users:
                self.undo = self.make(*arguments)
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self.undo()

    def _leave_all(self):
        self.lock = threading.Lock()
        if self.users:
            self.users = 0
            self.undo()


# ------------------------------------------------------------------------------------ threads of BLAS


@functools.cache
def _controller():
    """The controller of NumPy's own BLAS if NumPy came with one; else of every BLAS in this process."""
    found = ThreadpoolController().select(user_api="blas")
    own = found.select(filepath=[library.filepath for library in found.lib_controllers if "numpy" in library.filepath])
    return own if own.lib_controllers else found


def blas():
    """A dict from threadpoolctl for each BLAS library in this process: internal_api, version, num_threads, ..."""
    return _controller().info()


_threads = 1  # that a product may use without our limit


def _limit_blas():
    global _threads
    _threads = _count()
    before = [library.num_threads for library in _controller().lib_controllers]
    _set_threads([1] * len(before))
    return functools.partial(_set_threads, before)


def _set_threads(counts):
    for library, count in zip(_controller().lib_controllers, counts):
        # The first thread that sets OpenBLAS' number becomes its controller: threadpoolctl lets no other thread set it.
        # Releasing it before and after lets any thread set it. Older versions of threadpoolctl have no such rule.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(count)
        release(force=True)


def _count():
    return max((library.num_threads for library in _controller().lib_controllers), default=1)


# Inside this context, every matrix product of the process runs on one thread, the one that calls it.
one_blas_thread = Shared(_limit_blas)


def limit_this_thread():
    """Limit BLAS on this thread too, inside `one_blas_thread`: a BLAS built on OpenMP has a limit for each thread."""
    for library in _controller().lib_controllers:
        if getattr(library, "threading_layer", None) == "openmp":
            library.set_num_threads(1)


def on_own_cores(function, jobs, cores):
    """As `on_cores`; meanwhile all matrix products of this process run on one thread each."""

    def work(job):
        limit_this_thread()
        return function(job)

    with one_blas_thread():
        return on_cores(work, jobs, cores)


def blas_threads():
    """How many threads a product may use, within the user's limits ($OPENBLAS_NUM_THREADS, say); 1 if unknown."""
    with one_blas_thread.lock:
        return _threads if one_blas_thread.users else _count()


def free_cores():
    """How many cores this code may use: one inside a job of `on_cores`, as other jobs have the rest."""
    return 1 if _busy.get() else blas_threads()


def threads():
    """How many threads other libraries may use: as many as BLAS, or all cores if nobody knows BLAS' limit."""
    return blas_threads() if blas() else cores()


# ------------------------------------------------------------------------------------ kernels of BLAS


def slow_kernel():
    """The name of OpenBLAS' kernel if it overlooked AVX-512, as it does on processors newer than itself; else None.

    None also if $OPENBLAS_CORETYPE chose the kernel. With a kernel that overlooks AVX-512, products take twice as long.
    """
    if CORETYPE in os.environ or not has(*NEEDED):
        return None
    return next((library["architecture"] for library in blas() if library.get("architecture") in OLDER), None)


def restart_with_fast_kernel():
    """Restart this program with $OPENBLAS_CORETYPE set if OpenBLAS overlooked AVX-512; else do nothing.

    OpenBLAS chooses only once, so a command calls this at its very start, before it has read or written anything.
    """
    if os.name == "posix" and sys.executable and slow_kernel():
        with contextlib.suppress(OSError):  # then it continues with the slow kernel
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, CORETYPE: AVX512})
