"""What a run says of the machine, and when its figures cannot be trusted."""

import subprocess
import sys
import time

import numpy as np
import pytest

from miniclip.bench import machine

FACTS = {"device": "CPU", "vectors": "AVX2", "cores": 2, "threads": 4, "physical": 2, "load": 1.25, "kernel": "Haswell"}
STAT = """cpu  1 2 3 4 5 6 7 8 9 10
cpu0 {user} 200 0 {idle} 100 0 0 {steal} 90 90
cpu1 {user} 200 0 {idle} 100 0 0 {steal} 90 90
cpu2 999999 0 0 0 0 0 0 0 0 0
intr 1
"""


def test_the_machine_is_described_with_its_hyperthreads_and_load():
    assert machine.describe(FACTS) == (
        "CPU with AVX2, 4 hardware threads of 2 cores, BLAS kernel Haswell, load 1.2 at the start"
    )
    assert machine.describe({**FACTS, "physical": 4}).startswith("CPU with AVX2, 2 cores, BLAS")
    older = {name: FACTS[name] for name in ("device", "cores", "kernel")}
    assert machine.describe(older) == "CPU, 2 cores, BLAS kernel Haswell"
    assert machine.facts().keys() >= FACTS.keys()


def test_hardware_threads_of_one_core_are_one_core(tmp_path, monkeypatch):
    for i, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        (tmp_path / f"cpu{i}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{i}" / "topology" / "thread_siblings_list").write_text(siblings)
    monkeypatch.setattr(machine, "SIBLINGS", tmp_path)
    monkeypatch.setattr(machine, "_cpus", lambda: {0, 1, 2})
    assert machine.physical_cores() == 2
    monkeypatch.setattr(machine, "SIBLINGS", tmp_path / "nothing")
    assert machine.physical_cores() is None


def watched(tmp_path, monkeypatch, own=0.0, **after):
    """What a Watch says if each of two cores was busy for a while; `own` seconds of it for this process."""
    stat, clock = tmp_path / "stat", iter([[0, 0, 0, 0], [own, 0, 0, 0]])
    before = {"user": 0, "idle": 0, "steal": 0}
    stat.write_text(STAT.format(**before))
    monkeypatch.setattr(machine, "STAT", stat)
    monkeypatch.setattr(machine, "_cpus", lambda: {0, 1})
    monkeypatch.setattr(machine.os, "times", lambda: next(clock))
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    with machine.Watch() as watch:
        stat.write_text(STAT.format(**before | after))
    return watch.others


def test_what_others_use_is_what_is_busy_and_not_ours(tmp_path, monkeypatch):
    assert watched(tmp_path, monkeypatch, user=300, idle=100) == pytest.approx(0.75)
    assert watched(tmp_path, monkeypatch, own=6.0, user=300, idle=100) == 0
    assert watched(tmp_path, monkeypatch, own=3.0, user=300, idle=100) == pytest.approx(0.375)
    assert watched(tmp_path, monkeypatch, idle=100, steal=100) == pytest.approx(0.5)  # another virtual machine


def test_without_linux_it_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "STAT", tmp_path / "nothing")
    with machine.Watch() as watch:
        pass
    assert watch.others is None


def test_of_a_moment_it_is_unknown(tmp_path, monkeypatch):
    assert watched(tmp_path, monkeypatch, user=30) == 1 and watched(tmp_path, monkeypatch, user=20) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/stat")
def test_the_work_of_a_process_that_was_waited_for_is_ours():
    busy = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    with machine.Watch() as watch:
        before, start = watch._seconds()[1], time.monotonic()
        subprocess.run([sys.executable, "-c", busy], check=True)
        assert watch._seconds()[1] - before >= 0.5
    assert 0 <= watch.others <= 1 and time.monotonic() > start


def test_half_of_the_times_may_span_a_tenth():
    assert machine.spread([100]) == 0 and machine.spread([100, 100, 100, 900]) == pytest.approx(2)
    assert machine.spread([90, 95, 100, 105, 900]) == pytest.approx(0.1)
    assert machine.spread(list(np.linspace(95, 105, 11))) == pytest.approx(0.05)


def test_a_quiet_run_has_no_doubts():
    assert machine.doubts(FACTS, 0.04, {"miniclip": 0.09}, 1.09) == []
    assert machine.doubts({**FACTS, "load": 9.0}, 0.0, {}, 1) == []  # of what had ended before
    assert machine.doubts({**FACTS, "load": 0.9}, None, {}, 1) == [] == machine.doubts({}, None, {}, 1)


@pytest.mark.parametrize(
    "others, spread, slowdown, reason",
    [
        (0.06, 0.0, 1.0, "others used 6% of the cores"),
        (None, 0.0, 1.0, "the load was 1.2 at the start"),
        (0.0, 0.11, 1.0, "half of the times of miniclip span 11%"),
        (0.0, 0.0, 1.11, "a plain matrix product took 1.11 times as long as in another case"),
    ],
)
def test_each_disturbance_is_a_reason(others, spread, slowdown, reason):
    assert machine.doubts(FACTS, others, {"miniclip": spread}, slowdown) == [reason]


@pytest.mark.parametrize(
    "kernel, flags, overlooks",
    [("Haswell", machine.cpu.NEEDED, True), ("SkylakeX", machine.cpu.NEEDED, False), ("Haswell", ("avx2",), False)],
)
def test_a_kernel_that_overlooks_avx512_is_a_reason(monkeypatch, kernel, flags, overlooks):
    monkeypatch.setattr(machine.cpu, "_cpuinfo", lambda: {"model name": "CPU", "flags": " ".join(flags)})
    monkeypatch.setattr(machine.cpu, "blas", lambda: [{"architecture": kernel}])
    reasons = machine.doubts(machine.facts(), 0.0, {}, 1)
    assert reasons == [f"BLAS used its kernel {kernel}, which overlooks AVX-512"] * overlooks
