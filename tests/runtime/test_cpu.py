"""The processor: jobs on its cores, a limit on BLAS that all threads share, and the kernel that OpenBLAS chooses."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from miniclip.runtime import cpu

# ----------------------------------------------------------------------------------- the limit on BLAS


def test_the_limit_works_whichever_threads_set_and_undo_it(two_threads):
    """threadpoolctl lets only one thread of a process set OpenBLAS' number; servers encode on any."""

    def elsewhere(function, *arguments):
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        thread.join()

    def inside():
        with cpu.one_blas_thread():
            seen.append(cpu._count())
        seen.append(cpu._count())

    seen = []
    cpu._controller().limit(limits=2)  # as other libraries do; now the main thread controls it
    for _ in range(2):
        inside()
        elsewhere(inside)
    assert seen == [1, 2] * 4
    first, last = cpu.one_blas_thread(), cpu.one_blas_thread()
    first.__enter__()
    elsewhere(last.__enter__)
    first.__exit__(None, None, None)
    assert cpu._count() == 1
    elsewhere(last.__exit__, None, None, None)
    assert cpu._count() == 2


def test_the_last_thread_to_leave_undoes_the_limit(two_threads):
    with cpu.one_blas_thread():
        with cpu.one_blas_thread():
            assert cpu._count() == 1 and cpu.blas_threads() == 2
        assert cpu._count() == 1
    assert cpu._count() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_of_a_process_that_is_inside_has_all_threads():
    code = """
import os, miniclip
from miniclip.runtime import cpu
cpu._set_threads([2])
with cpu.one_blas_thread():
    if os.fork() == 0:
        os._exit(cpu._count() + 10 * cpu.one_blas_thread.users)
    print(os.waitstatus_to_exitcode(os.wait()[1]), cpu._count())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["2", "1"], done.stderr


# ------------------------------------------------------------------------------------------- jobs on cores


@pytest.mark.parametrize("cores", [0, 1, 2, 7])
def test_jobs_give_their_results_in_order(cores):
    assert cpu.on_cores(lambda x: x * x, range(20), cores) == [x * x for x in range(20)]
    assert cpu.on_cores(str, [], cores) == []


@pytest.mark.parametrize("cores", [1, 3])
def test_the_first_jobs_error_is_raised_and_no_more_jobs_are_begun(cores):
    begun = []

    def job(i):
        begun.append(i)
        if i in (4, 5):
            time.sleep(0.02 * (5 - i))  # the second job fails first
            raise ValueError(i)
        if i > 5:
            time.sleep(0.1)

    with pytest.raises(ValueError, match="4"):
        cpu.on_cores(job, range(100), cores)
    assert len(begun) <= 5 + cores


def test_jobs_see_the_callers_settings():
    def job(x):
        return np.float32(1) / np.float32(x)

    with np.errstate(divide="ignore"):
        assert cpu.on_cores(job, [0] * 8, 3) == [np.inf] * 8
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        cpu.on_cores(job, [0] * 8, 3)


def test_threads_are_kept_for_the_next_jobs_and_keep_nothing_of_them():
    def use():
        meet = threading.Barrier(3)  # three jobs at a time
        results = cpu.on_cores(lambda job: (meet.wait(9), job, threading.get_ident()), [Thing() for _ in "abc"], 3)
        return {thread for *_, thread in results}

    class Thing:
        def __init__(self):
            alive.add(self)

    alive = weakref.WeakSet()
    assert len(use()) == 3 and use() == use()
    gc.collect()
    assert not alive


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_starts_threads_of_its_own():
    code = """
import os, threading
from miniclip.runtime import cpu
def use():
    meet = threading.Barrier(3)
    return len(set(cpu.on_cores(lambda job: meet.wait(9) and 0 or threading.get_ident(), range(3), 3)))
use()
if os.fork() == 0:
    os._exit(use())
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["3"], done.stderr


def test_jobs_of_jobs_stay_on_their_thread():
    def outer(job):
        here = cpu.free_cores(), threading.get_ident()
        return here == (1, *cpu.on_cores(lambda job: threading.get_ident(), [job], cpu.free_cores()))

    assert cpu.on_cores(outer, range(6), 3) == [True] * 6
    assert cpu.free_cores() == cpu.blas_threads()


# ------------------------------------------------------------------------------------ the kernels of BLAS

AVX512, AVX2 = "fpu avx2 avx512f avx512cd avx512bw avx512dq avx512vl", "fpu avx2"


@pytest.fixture
def machine(monkeypatch):
    """Sets a processor and OpenBLAS' kernel on it; collects the arguments with which the program is restarted."""
    replaced = []

    def make(flags, kernel, **environment):
        monkeypatch.setattr(cpu, "_cpuinfo", lambda: {"flags": flags})
        library = {"internal_api": "openblas", "version": "0.3.31", "num_threads": 2, "architecture": kernel}
        monkeypatch.setattr(cpu, "blas", lambda: [library])
        monkeypatch.delenv(cpu.CORETYPE, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("os.execve", lambda *arguments: replaced.append(arguments))
        return replaced

    return make


@pytest.mark.parametrize(
    ("flags", "kernel", "environment", "slow"),
    [
        (AVX512, "Haswell", {}, "Haswell"),
        (AVX512, "Zen", {}, "Zen"),
        (AVX512, "SkylakeX", {}, None),
        (AVX512, "SapphireRapids", {}, None),
        (AVX2, "Haswell", {}, None),
        (AVX512.replace("avx512bw", ""), "Haswell", {}, None),  # the kernel needs all of it
        (AVX512, "Haswell", {"OPENBLAS_CORETYPE": "Haswell"}, None),  # the user chose it
    ],
)
def test_a_kernel_that_overlooks_avx512_is_noticed(machine, monkeypatch, flags, kernel, environment, slow):
    from miniclip import cli, doctor

    replaced = machine(flags, kernel, **environment)
    assert cpu.slow_kernel() == slow
    assert ("set OPENBLAS_CORETYPE=SkylakeX before Python starts" in doctor.report()["blas"]) == bool(slow)
    assert cli.main(["download", "shapes"]) == 0 and not replaced  # not if another program calls it
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "miniclip", "download", "shapes"])
    monkeypatch.setattr(sys, "argv", ["miniclip", "doctor"])
    assert cli.program() == 0 and not replaced  # `doctor` reports the state without it
    monkeypatch.setattr(sys, "argv", ["miniclip", "download", "shapes"])
    assert cli.program() == 0
    command = [sys.executable, "-m", "miniclip", "download", "shapes"]
    assert [(program, argv) for program, argv, _ in replaced] == [(sys.executable, command)] * bool(slow)
    assert [environment["OPENBLAS_CORETYPE"] for *_, environment in replaced] == ["SkylakeX"] * bool(slow)


def test_a_program_that_cannot_restart_continues(machine, monkeypatch):
    def fails(*arguments):
        raise OSError("no such program")

    machine(AVX512, "Haswell")
    monkeypatch.setattr("os.execve", fails)
    cpu.restart_with_fast_kernel()
    monkeypatch.setattr(sys, "executable", "")
    cpu.restart_with_fast_kernel()


@pytest.mark.skipif(os.name != "posix", reason="os.execve is another thing there")
def test_a_restarted_program_runs_the_same_command():
    code = """
import sys
from miniclip import cli
from miniclip.runtime import cpu
cpu.slow_kernel = lambda: "Haswell" if cpu.CORETYPE not in cpu.os.environ else None
sys.argv = ["miniclip", "info", "nothing"]
sys.orig_argv[1:] = ["-c", "import os, sys; print(os.environ['OPENBLAS_CORETYPE'], sys.argv[1:]); sys.exit(7)", "info"]
cli.program()
"""
    environment = {name: value for name, value in os.environ.items() if name != cpu.CORETYPE}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (7, "SkylakeX ['info']\n"), done.stderr


def test_with_an_unknown_processor_nothing_is_done(monkeypatch):
    monkeypatch.setattr(cpu, "_cpuinfo", dict)
    monkeypatch.setattr(cpu, "blas", lambda: [{"architecture": "Haswell"}])
    assert cpu.slow_kernel() is None and cpu.name()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux has /proc/cpuinfo")
def test_the_processor_is_described_as_linux_describes_it():
    cpuinfo = Path("/proc/cpuinfo").read_text()
    assert f": {cpu.name()}\n" in cpuinfo
    assert cpu.has("fpu") == (" fpu " in cpuinfo) and not cpu.has("model")
