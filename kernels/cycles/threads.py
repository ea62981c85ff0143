"""Executes the integers of machine code: the way that a program takes, and which threads load and store.

Where a program goes, and what it loads, is decided by integers: its number, lengths, loop counters. So it is enough to
execute these, for all threads of a program at once. All that comes from memory, from other threads or from floats is
unknown, and so is what is computed of it. A branch that depends on an unknown value cannot be followed: InputError.

    follow(code, warps=8, arguments={}, programs=[(5, 0, 0)])  # [[Step(n=0, threads=1.0), ...]]

`integers` says what each instruction computes. The tests hold it to that: the bytes that all programs of a grid load
and store are those of the tensors.
"""

import copy
import functools
import re
from typing import NamedTuple

import numpy as np

from miniclip.errors import InputError
from miniclip.kernels.cycles import sass
from miniclip.kernels.cycles.integers import LANES, OPERATIONS, PREDICATE, WORD, parsed, signed, word

GRID = (0xC, 0x10, 0x14)  # where its sizes are in constant memory,
PARAMETERS = 0x210  # and where the arguments begin, for compute capability 9.0
FEW = 4  # instructions that some threads of a program may skip: a tile smaller than the program is stored by some
SECTOR = 32  # bytes that the cache delivers at least
GLOBAL = ("LDG", "LDGSTS", "STG", "RED", "ATOMG")
ORDERS = ("SYNCS", "UTMALDG", "UTMASTG")  # to the copy engine, which one thread gives
NO_RESULT = (
    "STG",
    "STL",
    "STS",
    "STSM",
    "RED",
    "LDGSTS",
    "UTMALDG",
    "UTMASTG",
    "BAR",
    "DEPBAR",
    "LDGDEPBAR",
    "WARPGROUP",
)
ADDRESS = re.compile(r"desc\[\S+?\]\[(?P<base>R\d+)\.64(?:\+(?P<offset>-?0x[0-9a-f]+))?\]")
PARAMETER = re.compile(r"\.param (?:\.align (?P<align>\d+) )?\.[a-z](?P<bits>\d+) .*?(?:\[(?P<count>\d+)\])?,?$", re.M)
MOST_STEPS = 3_000_000  # of one program: more is an endless loop


class Step(NamedTuple):
    """One instruction that a program executes."""

    n: int  # its index in the code
    threads: float = 1.0  # the share of the program's threads that take part
    size: int = 0  # bytes between multiprocessor and cache: sectors of 32 bytes, those of each warp once
    address: int | None = None  # of the first thread's load or store in global memory


def follow(code, warps, arguments, programs):
    """The `Step`s of each program. `arguments` is what `constants` gives, `programs` their numbers, (x, y, z) each.

    All programs are executed at once, as long as they go the same way.
    """
    paths = [[] for _ in programs]
    spins = {spin.head for spin in code.spins}, {spin.branch for spin in code.spins}
    together = [(0, Threads(warps, arguments, programs), paths)]
    while together:
        n, threads, going = together.pop()
        while going:
            if len(going[0]) > MOST_STEPS:
                raise InputError(f"a program has executed {MOST_STEPS} instructions and has not come to its end")
            instruction = code.instructions[n]
            mask = threads.mask(instruction)
            threads.record(n, instruction, mask, going)
            n += 1
            if instruction.name == "EXIT":
                if mask is not None:
                    threads.alive = threads.alive & ~mask
                stay = threads.each(threads.alive).any(axis=1)
                threads, going = threads.some(stay), [path for path, stays in zip(going, stay) if stays]
            elif instruction.target is None:
                threads.execute(instruction, mask)
            elif instruction.target not in spins[0] and n - 1 not in spins[1]:  # else the barrier's phase is complete
                taken = _taken(instruction, threads, mask, skipped=instruction.target - n)
                if taken.any() and not taken.all():
                    others = [path for path, takes in zip(going, taken) if not takes]
                    together.append((n, threads.some(~taken), others))
                    threads, going = threads.some(taken), [path for path, takes in zip(going, taken) if takes]
                n = instruction.target if taken.any() else n
    return paths


def _taken(instruction, threads, mask, skipped):
    """Which programs take a branch that skips so many instructions. Raises InputError if it is unknown.

    If threads of one go different ways, all go the longer one where a FEW are skipped; else that is an error, too.
    """
    if instruction.opcode.startswith("BRA.DIV"):  # to a slow path that nothing needs
        return np.zeros(threads.programs, bool)
    if len(instruction.operands) > 1:  # BRA.U UP0, x
        condition = threads.get(instruction.operands[0])
        mask = None if condition is None else threads.alive & condition
    if mask is None:
        raise InputError(f"the branch at {instruction.address:#x} depends on what is loaded, which is not known here")
    some = threads.each(mask).any(axis=1)
    every = threads.each(mask | ~threads.alive).all(axis=1)
    if not (some == every).all() and not 0 <= skipped <= FEW:
        raise InputError(f"threads of one program take different ways at {instruction.address:#x}")
    return some & every


def constants(ptx, values, grid):
    """{address in constant memory: word}: the grid's sizes, and a kernel's arguments, which are as long as in PTX."""
    at, words = PARAMETERS, dict(zip(GRID, grid))
    parameters = list(PARAMETER.finditer(ptx.partition(".entry")[2].partition("{")[0]))
    for parameter, value in zip(parameters, (*values, *[None] * len(parameters))):
        size = int(parameter["bits"]) // 8 * int(parameter["count"] or 1)
        align = int(parameter["align"] or size)
        at = -(-at // align) * align
        if value is not None:
            words |= {at + k: value >> 8 * k & WORD for k in range(0, size, 4)}
        at += size
    return words


class Threads:
    """The registers of all threads of a program, by name: arrays of (warps, lanes), or (warps, 1) if they are uniform.

    Words are numbers of 0 .. 2^32 - 1 in int64, so that sums have room for a carry. What is missing is unknown.
    """

    def __init__(self, warps, arguments, programs):
        self.warps, self.arguments, self.programs = warps, arguments, len(programs)
        self.rows = warps * len(programs)
        numbers = np.tile(np.arange(warps * LANES).reshape(warps, LANES), (len(programs), 1))
        self.alive = np.ones_like(numbers, bool)
        self.values = {"SR_TID.X": numbers}
        for axis, number in zip("XYZ", zip(*programs)):
            self.values[f"SR_CTAID.{axis}"] = np.repeat(np.array(number, np.int64), warps)[:, None]

    def some(self, chosen):
        """The threads of some of the programs alone."""
        if chosen.all():
            return self
        threads, rows = copy.copy(self), np.repeat(chosen, self.warps)
        threads.programs = int(chosen.sum())
        threads.rows = threads.programs * self.warps
        threads.alive = self.alive[rows]
        threads.values = {name: value[rows] for name, value in self.values.items()}
        return threads

    def each(self, mask):
        """(programs, threads) of (warps, lanes), or of (warps, 1)."""
        return np.broadcast_to(mask, self.alive.shape).reshape(self.programs, -1)

    # ------------------------------------------------------------------------------------ reading and writing

    def get(self, operand):
        """The value of an operand: words or truths; None if it is unknown."""
        kind, name, sign = parsed(operand)
        if kind == "immediate":
            return name
        if kind == "constant":
            value = self.constant(name, 4)
        elif kind in ("register", "predicate"):
            value = self.values.get(name) if isinstance(name, str) else name
        else:
            return None
        if value is None or not sign:
            return value
        if sign == "!":
            return ~value
        if sign == "~":
            return value ^ WORD
        if sign == "|":
            return np.abs(signed(value))
        return (1 << 32) - value  # 33 bits, so that a - b has its carry

    def pair(self, operand):
        """The value of two registers, 64 bits."""
        kind, name, sign = parsed(operand)
        if kind == "constant":
            return self.constant(name, 8)
        if kind != "register" or not isinstance(name, str):
            return self.get(operand)
        low, high = self.values.get(name), self.values.get(_next(name))
        if low is None or high is None:
            return None
        return -(low | high << 32) if sign == "-" else low | high << 32

    def constant(self, at, size):
        """A word of constant memory, or two: an argument, if its value is known."""
        words = [self.arguments.get(at + k) for k in range(0, size, 4)]
        return None if None in words else word(sum(value << 32 * k for k, value in enumerate(words)))

    def mask(self, instruction):
        """Which threads execute an instruction; None if that is unknown."""
        guards = [instruction.guard] if instruction.guard else []
        if instruction.name == "LDGSTS" and PREDICATE.match(instruction.operands[-1]):
            guards.append(instruction.operands[-1])  # the others write zeros
        mask = self.alive
        for guard in guards:
            if (value := self.get(guard)) is None:
                return None
            mask = mask & value
        return mask

    def record(self, n, instruction, mask, paths):
        """Append the `Step` of an instruction that is executed under a mask to each program's path."""
        if instruction.name not in GLOBAL and instruction.name not in ORDERS:
            step = Step(n)
            for path in paths:
                path.append(step)
            return
        shares = np.ones(self.programs) if mask is None else self.each(mask).mean(axis=1)
        sizes, first = shares * self.warps * LANES * sass.width(instruction.opcode), [None] * self.programs
        address = ADDRESS.search(" ".join(instruction.operands)) if instruction.name in GLOBAL else None
        base = self.pair(address["base"]) if address else None
        if base is not None and mask is not None:
            base = np.broadcast_to(base + int(address["offset"] or "0", 16), self.alive.shape)
            sectors = np.sort(np.where(mask, base // SECTOR, -1), axis=1)
            new = np.concatenate([sectors[:, :1] >= 0, (np.diff(sectors) != 0) & (sectors[:, 1:] >= 0)], axis=1)
            sizes = SECTOR * self.each(new).sum(axis=1)
            first = np.where(self.each(mask), self.each(base), np.iinfo(np.int64).max).min(axis=1)
        for path, share, size, where in zip(paths, shares, sizes, first):
            path.append(Step(n, float(share), int(size) if address else 0, int(where) if share and where else None))

    def set(self, name, value, mask):
        """Write a register or predicate where `mask` is true."""
        if name[-1] in "TZ":
            return
        old = self.values.get(name)
        everywhere = mask is self.alive or (mask is not None and mask.all())
        if value is None or mask is None or (old is None and not everywhere):
            self.values.pop(name, None)
            return
        shape = (self.rows, 1 if name[0] == "U" else LANES)
        if value.shape[1] > shape[1]:
            value = value[:, :1]  # the first thread's
        if not everywhere:
            value = np.where(mask.any(axis=1, keepdims=True) if shape[1] == 1 else mask, value, old)
        self.values[name] = np.broadcast_to(value, shape)

    def execute(self, instruction, mask):
        """Compute an instruction's results, or forget its destinations."""
        register, predicates, sources, width, operation = _plan(instruction)
        results = None
        if operation is not None:
            results = operation(self, instruction.opcode.split(".")[1:], sources)
        if isinstance(results, dict):  # of predicates by name: R2P
            for name, value in results.items():
                self.set(name, value, mask)
            return
        value, *truths = results if isinstance(results, tuple) else (results,)
        for k in range(width):
            part = value if value is None or width == 1 else value >> 32 * k
            self.set(register, part if part is None else part & WORD, mask)
            register = _next(register)
        for k, name in enumerate(predicates):
            self.set(name, truths[k] if k < len(truths) else None, mask)


@functools.cache
def _next(name):
    head, number = re.match(r"(\D*)(\d*)", name).groups()
    return head + str(int(number) + 1) if number else name


@functools.lru_cache(65536)
def _plan(instruction):
    """(the first destination register, destination predicates, sources, registers written, how to compute them)."""
    name = instruction.name
    family = name[1:] if name[0] == "U" and name[1:] in OPERATIONS else name
    operands = list(instruction.operands)
    if name in NO_RESULT:
        return "RZ", (), (), 0, None
    registers, predicates = [], []
    most = 2 if family.endswith(("SETP", "SETP2")) or family == "PLOP3" else 1 if "VOTE" in name else 4
    while operands and len(registers) + len(predicates) < most:
        if PREDICATE.match(operands[0]):
            predicates.append(operands.pop(0))
        elif not registers and not family.endswith("SETP") and re.match(r"U?R(\d+|Z)", operands[0]):
            registers.append(operands.pop(0).partition(".")[0])
        else:
            break
    register = registers[0] if registers else "RZ"
    width = _width(instruction) if registers else 0
    operation = OPERATIONS.get(family)
    return register, tuple(predicates), tuple(operands), width if register[-1] != "Z" else 0, operation


def _width(instruction):
    """How many registers an instruction writes."""
    parts = instruction.opcode.split(".")
    if parts[0] in ("HGMMA", "QGMMA", "IGMMA"):
        return int(parts[1].split("x")[1]) // 2  # 64 x N float32 of 128 threads
    if parts[0] in ("HMMA", "IMMA") or "128" in parts:
        return 4
    if parts[0] == "LDSM":
        return int(parts[-1]) if parts[-1].isdigit() else 1
    if parts[0] == "CS2R":
        return 1 if "32" in parts else 2
    return 2 if {"64", "WIDE"} & set(parts) else 1
