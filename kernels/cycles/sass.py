"""Reads the machine code of a compiled kernel: its instructions, what the assembler says of each, and its loops.

SASS is what an NVIDIA GPU executes; Triton's PTX is translated to it by ptxas. The hardware does not find out by itself
when a result is ready: ptxas writes into every instruction how long the warp has to wait. An instruction is 128 bits
long, and of its second half this is read (for compute capability 7.0 and newer):

    bits 41-44  stall   cycles until this warp's next instruction may be issued
    bit  45     yields  0: the scheduler should rather turn to another warp
    bits 46-48  write   the scoreboard, one of six counters of a warp, that is set until the result is written; 7: none
    bits 49-51  read    the scoreboard that is set until the operands are read; 7: none
    bits 52-57  wait    the scoreboards that must be clear before this instruction is issued, a bit for each

Arithmetic takes a number of cycles that ptxas knows, so a stall is enough; loads, special functions and products do
not, and have a scoreboard. (NVIDIA does not document this layout. It was found by others: "Dissecting the NVIDIA Volta
GPU architecture via microbenchmarking", Jia et al., 2018, section 2.1; newer GPUs kept it.)

    code = sass.read(kernel.files[".cubin"])
    print(code.instructions[0])
    print(code.loops)
"""

import dataclasses
import functools
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import triton

from miniclip.errors import InputError

NVDISASM = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
NO_SCOREBOARD = 7
LABEL = re.compile(r"^(\.L_x_\d+):")
FIRST_HALF = re.compile(r"^\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<text>.*?)\s*;\s+/\* 0x[0-9a-f]{16} \*/")
SECOND_HALF = re.compile(r"^\s+/\* 0x(?P<word>[0-9a-f]{16}) \*/")
TEXT = re.compile(r"^(?:@(?P<guard>!?U?P[T0-9]\d*)\s+)?(?P<opcode>\S+)\s*(?P<operands>.*)$")
TARGET = re.compile(r"`\((\.L_x_\d+)\)")
JUMPS = ("BRA", "EXIT", "RET", "BRX", "JMP")  # what ends a basic block


class Instruction(NamedTuple):
    """One instruction, and what the assembler says of its time."""

    address: int
    guard: str  # the predicate it is executed under: "P0", "!UP1"; "": always
    opcode: str  # with its modifiers: "HGMMA.64x64x16.F32.BF16"
    operands: tuple  # as text; the first is the destination if there is one
    stall: int
    yields: bool
    write: int | None
    read: int | None
    wait: tuple  # of scoreboards
    target: int | None  # of a branch: the index of the instruction it goes to

    @property
    def name(self):
        """The opcode without its modifiers: "HGMMA"."""
        return self.opcode.partition(".")[0]

    @property
    def conditional(self):
        """Of a jump: whether it depends on a predicate: "@P0 BRA x", "BRA.U UP0, x"."""
        return bool(self.guard) or len(self.operands) > 1


class Loop(NamedTuple):
    """A loop: the instructions head .. branch, both in it; the branch, at its end, goes back to the head."""

    head: int
    branch: int


@dataclasses.dataclass(frozen=True, eq=False)
class Code:
    """The machine code of one kernel."""

    instructions: tuple
    blocks: tuple  # where basic blocks begin, indices of instructions
    loops: tuple  # in the order of the code, outer before inner
    spins: tuple  # the loops that only ask a barrier in shared memory again and again: they are waiting, not work
    forks: tuple  # branches forward that depend on a predicate, without those that go to a spin


@functools.cache
def read(cubin):
    """The `Code` of the one kernel in a cubin (a path). Raises InputError if there is none or several."""
    return parse(disassemble(cubin))


def disassemble(cubin):
    """nvdisasm's text of a cubin: the code, with the bits of each instruction beside it."""
    command = [str(NVDISASM), "--print-code", "--print-instruction-encoding", str(cubin)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def parse(text):
    """`Code` of what `disassemble` returns."""
    if (kernels := text.count(".section\t.text.")) != 1:
        raise InputError(f"the machine code has {kernels} kernels, expected one: compile each kernel by itself")
    labels, rows = {}, []
    for line in text.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(rows)
        elif first := FIRST_HALF.match(line):
            rows.append(first)
        elif (second := SECOND_HALF.match(line)) and rows:
            rows[-1] = decode(rows[-1]["address"], rows[-1]["text"], int(second["word"], 16))
    instructions = [_aimed(row, labels) for row in rows]
    while instructions and (instructions[-1].name == "NOP" or _idles(instructions, len(instructions) - 1)):
        instructions.pop()  # what fills the last cache line, and the endless loop before it that nothing reaches
    return structure(instructions)


def decode(address, text, word):
    """The `Instruction` of nvdisasm's text, "@P0 IADD3 R2, R3, 0x1, RZ", and of the second half of its bits."""
    guard, opcode, operands = TEXT.match(text).group("guard", "opcode", "operands")
    write, read = word >> 46 & 7, word >> 49 & 7
    return Instruction(
        address=int(address, 16),
        guard=guard or "",
        opcode=opcode,
        operands=tuple(operands.split(", ")) if operands else (),
        stall=word >> 41 & 15,
        yields=not word >> 45 & 1,
        write=None if write == NO_SCOREBOARD else write,
        read=None if read == NO_SCOREBOARD else read,
        wait=tuple(scoreboard for scoreboard in range(6) if word >> 52 + scoreboard & 1),
        target=None,
    )


def structure(instructions):
    """`Code` of instructions whose targets are set: finds the blocks, the loops and the forks."""
    starts = {0} | {i.target for i in instructions if i.target is not None}
    starts |= {n + 1 for n, i in enumerate(instructions[:-1]) if i.name in JUMPS}
    jumps = sorted((i.target, -n) for n, i in enumerate(instructions) if i.target is not None)
    back = [Loop(head, -branch) for head, branch in jumps if head <= -branch]
    spins = tuple(loop for loop in back if _only_waits(instructions[loop.head : loop.branch + 1]))
    waiting = {spin.head for spin in spins}
    return Code(
        instructions=tuple(instructions),
        blocks=tuple(sorted(starts)),
        loops=tuple(x for x in back if x not in spins and not _reached(instructions, x.branch, without=x.head)),
        spins=spins,
        forks=tuple(
            n
            for n, i in enumerate(instructions)
            if i.target is not None and i.conditional and i.target > n and i.target not in waiting
        ),
    )


def following(instructions, n):
    """The indices of the instructions that may come after the n-th."""
    instruction = instructions[n]
    leaves = instruction.name in JUMPS and not instruction.conditional
    after = () if leaves or n + 1 == len(instructions) else (n + 1,)
    return after if instruction.target is None else (*after, instruction.target)


def _reached(instructions, n, without):
    """Whether the n-th instruction can be reached from the first one without the one at `without`."""
    seen, found = {without}, [0]
    while found:
        if (here := found.pop()) not in seen:
            seen.add(here)
            found.extend(following(instructions, here))
    return n != without and n in seen


def _aimed(instruction, labels):
    label = TARGET.search(" ".join(instruction.operands)) if instruction.name == "BRA" else None
    return instruction._replace(target=labels[label[1]]) if label else instruction


def _idles(instructions, n):
    return instructions[n].target == n and not instructions[n].guard


def _only_waits(body):
    return is_wait(body[0]) and len(body) <= 4


def is_wait(instruction):
    """Whether an instruction asks a barrier in shared memory if its phase is complete (mbarrier.try_wait)."""
    return instruction.name == "SYNCS" and "PHASECHK" in instruction.opcode


def width(opcode):
    """The bytes that each thread loads or stores: 4, or what the opcode says."""
    parts = opcode.split(".")
    if parts[0] in ("LDSM", "STSM"):  # 8 x 8 matrices of 16 bits
        return 4 * int(parts[-1]) if parts[-1] in ("2", "4") else 4
    widths = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
    return next((widths[part] for part in parts[1:] if part in widths), 4)
