"""The processor: its cores, and how NumPy's BLAS, which computes the matrix products, makes use of it.

Builds on threadpoolctl, which knows OpenBLAS, MKL, BLIS and FlexiBLAS, but not Apple's Accelerate.
"""

import contextlib
import contextvars
import functools
import os
import platform
import sys
import threading
from pathlib import Path

import numpy  # noqa: F401  so that its BLAS is there to be found
from threadpoolctl import ThreadpoolController

CORETYPE = "OPENBLAS_CORETYPE"  # OpenBLAS reads it as it is loaded
AVX512 = "SkylakeX"  # OpenBLAS' name for what every processor with AVX-512 can run
NEEDED = ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")  # by that kernel
OLDER = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen")  # its kernels for processors without


def name():
    """The processor's name, as Linux tells it."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


@functools.cache
def _cpuinfo():
    """{what: finding} of the first core; empty on other systems than Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def has(*flags):
    """Whether the processor has what Linux calls so, "avx512dq" or "avx512_bf16"; False where nobody tells."""
    return {*flags} <= {*_cpuinfo().get("flags", "").split()}


def cores():
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_cores(function, jobs, cores):
    """[function(job) for job in jobs], up to `cores` of them at a time, one of them on this thread.

    Raises the error of the first job that has one; after any, no further job is begun.
    """
    jobs = list(enumerate(jobs))
    results, errors, lock, left = [None] * len(jobs), {}, threading.Lock(), iter(jobs)

    def work():
        while True:
            with lock:
                i, job = next(left, (None, None))
            if i is None or errors:
                return
            try:
                results[i] = function(job)
            except BaseException as error:  # Ctrl-C among them: the other threads shall end, too
                errors[i] = error

    # Each in a copy of this thread's context: numpy.errstate and the like hold there, too. Threads of our own and no
    # pool: those of concurrent.futures cannot be had when the main thread has ended.
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(min(cores, len(jobs)) - 1)
    ]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        jobs.clear()  # for an interrupt that came between two jobs
        for thread in threads:
            thread.join()
    if errors:
        raise errors[min(errors)]
    return results


class Shared:
    """A setting of the whole process, as a context: the first thread inside makes it, the last one takes it back.

    make(...) sets it and returns what takes it back. A forked child has no other thread, and is outside.
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
    """NumPy's own BLAS where it came with one; else whatever there is."""
    found = ThreadpoolController().select(user_api="blas")
    own = found.select(filepath=[library.filepath for library in found.lib_controllers if "numpy" in library.filepath])
    return own if own.lib_controllers else found


def blas():
    """A dict for each BLAS library in this process, as threadpoolctl tells: internal_api, version, num_threads, ..."""
    return _controller().info()


_threads = 1  # that products may run on where none is limited


def _limit_blas():
    global _threads
    _threads = _count()
    before = [library.num_threads for library in _controller().lib_controllers]
    _set_threads([1] * len(before))
    return functools.partial(_set_threads, before)


def _set_threads(counts):
    for library, count in zip(_controller().lib_controllers, counts):
        # threadpoolctl lets only the first thread of a process that sets OpenBLAS' number set it again: whoever it was
        # before, here it is this one, and nobody afterwards. Older ones know nothing of that.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(count)
        release(force=True)


def _count():
    return max((library.num_threads for library in _controller().lib_controllers), default=1)


# While inside, products run on the thread that asks for them, in the whole process.
one_blas_thread = Shared(_limit_blas)


def limit_this_thread():
    """Inside `one_blas_thread`, on every thread that computes: a BLAS built on OpenMP has a number for each."""
    for library in _controller().lib_controllers:
        if getattr(library, "threading_layer", None) == "openmp":
            library.set_num_threads(1)


def blas_threads():
    """On how many threads a product may run, the user's limits included ($OPENBLAS_NUM_THREADS, say); 1 if unknown."""
    with one_blas_thread.lock:
        return _threads if one_blas_thread.users else _count()


# ------------------------------------------------------------------------------------ kernels of BLAS


def slow_kernel():
    """The name of the kernel that OpenBLAS took where it overlooked AVX-512, as it does on processors newer than it is.

    None where the kernel is the right one, or was chosen by $OPENBLAS_CORETYPE. Products take twice as long with it.
    """
    if CORETYPE in os.environ or not has(*NEEDED):
        return None
    return next((library["architecture"] for library in blas() if library.get("architecture") in OLDER), None)


def restart_with_fast_kernel():
    """Start this program once more with $OPENBLAS_CORETYPE set, where OpenBLAS overlooked AVX-512; else do nothing.

    What a command may do at its very start, before it has read or written anything: OpenBLAS chooses only once.
    """
    if os.name == "posix" and sys.executable and slow_kernel():
        with contextlib.suppress(OSError):  # then it goes on as it is
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, CORETYPE: AVX512})
