"""Runs a kernel: its programs one after the other, the threads of each side by side as NumPy arrays.

A program is a grid's one block of threads. All of them take an instruction at the same time, as long as they take the
same way; where a branch parts them, those at the earlier instruction run first, until they meet the others.

What this cannot see: threads that run ahead of each other between two barriers, so no race between warps; the order of
memory operations between programs; time.
"""

import collections
import dataclasses
import functools

import numpy as np

from miniclip.kernels.emulator import arithmetic, conversions, exchanges, matrix, memory, ptx, tma
from miniclip.kernels.emulator.errors import EmulatorError, Unknown
from miniclip.kernels.emulator.operands import BOOL, U32, UNSIGNED, read

NOWHERE = 1 << 40  # where threads are after their last instruction


@dataclasses.dataclass
class Launch:
    """What was run.

    name      of the kernel
    grid      (x, y, z) programs
    programs  that were run: x · y · z
    counts    {opcode: how many programs' instructions}
    taken     {index of a branch: [how often threads took it, how often threads did not]}; threads of one program that
              part count as one of each
    kernel    the `ptx.Kernel`
    files     {".ptx": path, ...} of what Triton compiled; empty for a text
    """

    name: str
    grid: tuple
    programs: int
    counts: collections.Counter
    taken: dict
    kernel: ptx.Kernel
    files: dict


def run(kernel, arguments, grid=(1, 1, 1), *, shared=232448, late=True, truncate=False, trace=None, files=None):
    """Run a kernel (a `ptx.Kernel`, or PTX as a text) on all programs of a grid; returns a `Launch`.

    arguments  one for each parameter: a tensor of the CPU or a NumPy array, a number, or (tensor, box, swizzle) for a
               tensor map. Parameters that are left out are zeros.
    shared     bytes of shared memory of a program
    late       asynchronous copies and products arrive as late as they may; else at once
    truncate   matrix units round towards zero
    trace      a function (program, instruction) that is called after each instruction that a program executes

    Raises EmulatorError for what a kernel must not do, and for instructions that the emulator does not know.
    """
    kernel = parsed(kernel) if isinstance(kernel, str) else kernel
    grid = (*grid, 1, 1)[:3]
    everywhere = memory.Global()
    arguments = [_argument(everywhere, x) for x in arguments]
    arguments += [0] * (len(kernel.parameters) - len(arguments))
    executed, taken = [0] * len(kernel.instructions), {}
    with np.errstate(all="ignore"):
        steps = built(kernel)
        for z in range(grid[2]):
            for y in range(grid[1]):
                for x in range(grid[0]):
                    program = Program(kernel, arguments, everywhere, (x, y, z), grid, shared, late, truncate)
                    program.run(steps, executed, taken, trace)
    counts = collections.Counter()
    for instruction, count in zip(kernel.instructions, executed):
        counts[instruction.opcode] += count
    return Launch(kernel.name, grid, grid[0] * grid[1] * grid[2], +counts, taken, kernel, files or {})


def _argument(everywhere, x):
    if isinstance(x, tuple):
        tensor, box, swizzle = x
        everywhere.add(tensor)
        return tma.TensorMap(everywhere.tensors[-1], box, swizzle)
    if isinstance(x, float | int | np.number):
        return x
    return 0 if x is None else everywhere.add(x)


parsed = functools.lru_cache(256)(ptx.parse)


class Program:
    """One block of threads. Its parts are what instructions read and write.

    registers         [an array (threads,) each], by slot
    mask              (threads,) which threads are active, or None for all
    shared, memory    its shared memory, and all tensors
    copies, products  of cp.async and of wgmma that are under way
    stores            of the copy engine that are under way
    accumulators      {names: `matrix.Accumulator`} of wgmma that are under way
    barriers          {address: `tma.Barrier`}
    """

    def __init__(self, kernel, arguments, everywhere, index, grid, shared, late, truncate):
        self.kernel, self.arguments, self.memory, self.index = kernel, arguments, everywhere, index
        self.late, self.truncate = late, truncate
        self.shared, self.mask, self.waiting = memory.Shared(shared), None, []
        self.copies, self.products, self.stores = memory.Groups(), memory.Groups(), memory.Groups()
        self.accumulators, self.barriers = {}, {}
        self.registers = list(_garbage(tuple(width for _, width in kernel.registers.values()), kernel.threads))
        for axis, here, size in zip("xyz", index, grid):
            self.registers[kernel.registers[f"%ctaid.{axis}"][0]] = np.full(kernel.threads, here, U32)
            self.registers[kernel.registers[f"%nctaid.{axis}"][0]] = np.full(kernel.threads, size, U32)
        self.registers[kernel.registers["%tid.x"][0]] = np.arange(kernel.threads, dtype=U32)

    def register(self, name, kind=None):
        """The values of a register in all threads; kind a NumPy dtype, by default float32 or what was written last."""
        x = self.registers[self.kernel.registers[name][0]]
        return x if kind is None else x.view(kind)

    def run(self, steps, executed, taken, trace=None):
        """Execute until all threads have returned; adds to executed[index] and taken[index]."""
        at, instructions, self.taken = 0, self.kernel.instructions, taken
        try:
            while at < NOWHERE:
                executed[at] += 1
                jump = steps[at](self)
                if trace:
                    trace(self, instructions[at])
                at = at + 1 if jump is None else jump
                if self.waiting:
                    at = self.meet(at)
        except (EmulatorError, memory.OutOfBounds) as error:
            raise self.explained(error, instructions[at]) from None
        except Exception as error:  # the emulator's own fault
            raise self.explained(f"the emulator fails: {error!r}", instructions[at]) from error
        if self.stores:
            raise EmulatorError(f"{self.kernel.name} ends with stores of the copy engine that nothing has waited for")

    def explained(self, error, instruction):
        """The error with the place where it happened."""
        if isinstance(error, memory.OutOfBounds):
            lane, message = error.args
            thread = lane if self.mask is None else int(np.flatnonzero(self.mask)[lane])
            error = f"thread {thread} is out of bounds: {message}"
        where = "line {1} of {0}".format(*instruction.source) if instruction.source else "its text"
        place = f"program {self.index} of {self.kernel.name}, {where}"
        return EmulatorError(f"{error}\n  in `{instruction.text}`\n  of {place}")

    def branch(self, index, target, condition):
        """Where to continue if the threads of `condition` (None: all that are active) go to target."""
        took, stayed = self.taken.setdefault(index, [0, 0])
        if condition is None:
            self.taken[index] = [took + 1, stayed]
            return target
        active = condition if self.mask is None else condition & self.mask
        going = np.count_nonzero(active)
        all_active = len(active) if self.mask is None else np.count_nonzero(self.mask)
        self.taken[index] = [took + int(going > 0), stayed + int(going < all_active)]
        if going == 0:
            return None
        if going == all_active:
            return target
        self.waiting.append((target, active))
        self.mask = ~active if self.mask is None else self.mask & ~active
        return None

    def meet(self, at):
        """The group of threads at the earliest instruction runs next; groups at the same place are one."""
        groups = collections.defaultdict(lambda: np.zeros(self.kernel.threads, bool))
        mask = np.ones(self.kernel.threads, bool) if self.mask is None else self.mask
        for place, threads in ((at, mask), *self.waiting):
            groups[place] = groups[place] | threads
        at = min(groups)
        mask = groups.pop(at)
        self.waiting = list(groups.items())
        self.mask = None if mask.all() else mask
        return at


@functools.lru_cache(64)
def _garbage(widths, threads):
    """What registers are before they are written: NaN of any type, and predicates that threads do not agree on."""
    kinds = {width: np.full(threads, 2 ** (8 * width) - 1, dtype) for width, dtype in UNSIGNED.items()}
    kinds[0] = np.arange(threads) % 2 == 1
    return tuple(kinds[width] for width in widths)


# ------------------------------------------------------------------------------------------------- building

ROOMS = (arithmetic, conversions, exchanges, memory, matrix, tma)
BUILDERS = {opcode: builder for room in ROOMS for opcode, builder in room.BUILDERS.items()}
FILES = {
    "arithmetic.py": "what computes in registers",
    "conversions.py": "cvt",
    "exchanges.py": "what the threads of a warp exchange",
    "memory.py": "loads, stores and cp.async",
    "matrix.py": "mma and wgmma",
    "tma.py": "cp.async.bulk and mbarrier",
    "program.py": "branches and barriers",
}
_built = {}


def built(kernel):
    """The steps of a kernel, a function of a program for each instruction; it gives where to continue, if elsewhere."""
    if id(kernel) not in _built:
        _built[id(kernel)] = kernel, [build(instruction, kernel) for instruction in kernel.instructions]
    return _built[id(kernel)][1]


def build(instruction, kernel):
    """The step of an instruction. Its opcode, or the longest beginning of it that is in a table, says what it does."""
    parts = [part for part in instruction.opcode.split(".") if not part.startswith(("L1::", "L2::"))]
    parts = [part for part in parts if part not in ("volatile", "relaxed", "weak", "nc", "gpu")]
    opcode = ".".join(parts)
    if opcode != instruction.opcode:
        instruction = dataclasses.replace(instruction, opcode=opcode)
    for i in range(len(parts), 0, -1):
        builder = (BUILDERS | CONTROL).get(".".join(parts[:i]))
        if builder in CONTROL.values():
            return builder(instruction, kernel)
        if builder:
            step = builder(instruction, kernel)
            return guarded(step, instruction, kernel) if instruction.guard else step
    known = "; ".join(f"{name} has {what}" for name, what in FILES.items())
    raise Unknown(
        f"the emulator does not know the instruction {instruction.opcode!r}, in `{instruction.text}`: "
        f"add it to the table of its file in kernels/emulator ({known})"
    )


def condition(instruction, kernel):
    """A function of a program: which threads the guard of an instruction lets through."""
    name, negated = instruction.guard
    holds = read(kernel, name, BOOL)
    return (lambda program: ~holds(program)) if negated else holds


def guarded(step, instruction, kernel):
    """The step in those threads that the guard lets through."""
    of_guard = condition(instruction, kernel)

    def some(program):
        before, through = program.mask, of_guard(program)
        if before is not None:
            through = through & before
        count = np.count_nonzero(through)
        if count == kernel.threads:
            step(program)
        elif count:
            program.mask = through
            try:
                step(program)
            finally:
                program.mask = before

    return some


def branch(instruction, kernel):
    target, index = kernel.labels[instruction.operands[0]], instruction.index
    if not instruction.guard:
        return lambda program: program.branch(index, target, None)
    of_guard = condition(instruction, kernel)
    return lambda program: program.branch(index, target, of_guard(program))


def leave(instruction, kernel):
    if not instruction.guard:
        return lambda program: NOWHERE
    of_guard, index = condition(instruction, kernel), instruction.index
    return lambda program: program.branch(index, NOWHERE, of_guard(program))


def barrier(instruction, kernel):
    """bar.sync: threads that are side by side have all arrived; those that took another way never will."""

    def step(program):
        if program.mask is not None:
            raise EmulatorError("only some threads of the program come to this barrier")

    return step


CONTROL = {
    "bra": branch,
    "ret": leave,
    "exit": leave,
    "bar.sync": barrier,
    "bar.warp.sync": lambda instruction, kernel: lambda program: None,
}
