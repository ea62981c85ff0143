"""The machine of a run of `bench cpu`: its processor, what else it does meanwhile, and whether a figure can be trusted.

A row cannot be trusted if one of these holds (`doubts`):

- other processes, or other virtual machines, took more than OTHERS of the cores while it was timed. If the system does
  not say so (only Linux does), the load at the start counts instead: more than LOAD processes for each core.
- the times of a provider that the row is about differ by more than SPREAD: that is half of the samples' range.
- NumPy's BLAS uses a kernel that overlooks the processor's AVX-512, because of $OPENBLAS_CORETYPE or by mistake.
- the plain matrix product, which is timed in every case, was slower by more than DRIFT than in another case of the run:
  the processor was throttled, or shared.
"""

import os
import statistics
from pathlib import Path

from miniclip.runtime import cpu

LOAD, OTHERS, SPREAD, DRIFT = 0.5, 0.05, 0.10, 0.10
LEAST = 0.5  # seconds of the cores that a `Watch` needs: the system counts hundredths
VECTORS = {"AMX": "amx_tile", "AVX-512": "avx512f", "AVX2": "avx2"}  # the widest that a processor has, by Linux's flags
STAT, SIBLINGS = Path("/proc/stat"), Path("/sys/devices/system/cpu")
FIRST, LAST = 1, 9  # columns of /proc/stat: user nice system idle iowait irq softirq steal
IDLE = (4, 5)  # of them


def facts():
    """The fields of a record that are about the machine."""
    return {
        "device": cpu.name(),
        "vectors": next((name for name, flag in VECTORS.items() if cpu.has(flag)), None),
        "cores": cpu.blas_threads(),
        "threads": cpu.cores(),
        "physical": physical_cores(),
        "load": load(),
        "kernel": ", ".join(library.get("architecture") or library["internal_api"] for library in cpu.blas()),
        "overlooks": cpu.has(*cpu.NEEDED) and any(library.get("architecture") in cpu.OLDER for library in cpu.blas()),
        "chosen": os.environ.get(cpu.CORETYPE),  # the kernel that was set; None: OpenBLAS chose it
    }


def describe(facts):
    """The machine of a run in a line, from facts or a record; older records say less."""
    threads, physical = facts.get("threads"), facts.get("physical")
    vectors = f" with {facts['vectors']}" if facts.get("vectors") else ""
    cores = (
        f"{facts['cores']} cores" if physical in (None, threads) else f"{threads} hardware threads of {physical} cores"
    )
    load = "" if facts.get("load") is None else f", load {facts['load']:.1f} at the start"
    return f"{facts['device']}{vectors}, {cores}, BLAS kernel {facts['kernel']}{load}"


def _cpus():
    """The numbers of the hardware threads that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def physical_cores():
    """How many cores have the hardware threads that this process may use, as the system reports them; None: unknown."""
    try:
        return len({(SIBLINGS / f"cpu{i}" / "topology" / "thread_siblings_list").read_text() for i in _cpus()})
    except OSError:
        return None


def load():
    """The load average of the last minute: how many processes ran or waited for a core; None if unknown."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


class Watch:
    """A context that measures which share of the cores others used inside it: `others`, 0 to 1; None if unknown."""

    others: float | None = None

    def __enter__(self):
        self.before = self._seconds()
        return self

    def __exit__(self, *error):
        after = self._seconds()
        if self.before and after:
            busy, own, all_ = (b - a for a, b in zip(self.before, after))
            self.others = max(0.0, busy - own) / all_ if all_ >= LEAST else None

    def _seconds(self):
        """Seconds of our cores: (busy ones, those for this process and its ended children, all); or None."""
        try:
            lines, ours = STAT.read_text().splitlines(), {f"cpu{i}" for i in _cpus()}
            rows = [row for row in map(str.split, lines) if row and row[0] in ours]
            ticks = os.sysconf("SC_CLK_TCK")
            all_ = sum(int(x) for row in rows for x in row[FIRST:LAST]) / ticks
            idle = sum(int(row[i]) for row in rows for i in IDLE) / ticks
        except (OSError, ValueError, IndexError, AttributeError):
            return None
        return (all_ - idle, sum(os.times()[:4]), all_) if all_ else None


def spread(times):
    """The range of the middle half of some times, relative to their median."""
    if len(times) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / middle


def doubts(facts, others, spreads, slowdown):
    """Why a row cannot be trusted: a list of reasons, empty if it can.

    others    the share of the cores that others used, see `Watch`
    spreads   {provider: the spread of its times} of those that the row is about
    slowdown  the time of the plain matrix product here, over the least one in this run
    """
    reasons, load = [], facts.get("load")
    if others is None and load is not None and load > LOAD * facts["cores"]:
        reasons.append(f"the load was {load:.1f} at the start")
    if others is not None and others > OTHERS:
        reasons.append(f"others used {others:.0%} of the cores")
    if facts.get("overlooks"):
        reasons.append(f"BLAS used its kernel {facts['kernel']}, which overlooks AVX-512")
    reasons += [f"half of the times of {name} span {x:.0%}" for name, x in spreads.items() if x > SPREAD]
    if slowdown > 1 + DRIFT:
        reasons.append(f"a plain matrix product took {slowdown:.2f} times as long as in another case")
    return reasons
