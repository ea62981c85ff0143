"""Instructions between the threads of a warp, which read each other's registers without shared memory: shfl and elect.

(PTX ISA, section 9.7.9, shfl.sync, and section 9.7.13, elect.sync.)
"""

import numpy as np

from miniclip.kernels.emulator.operands import S64, U32, read, write


def partner(mode, lane, by, limits):
    """The lane that a lane reads, and whether it exists; else the lane reads itself. (PTX ISA, shfl.sync.)"""
    segment = limits >> 8 & 31  # the bits of the lane that stay as they are
    first, last = lane & segment, (lane & segment) | (limits & 31 & ~segment)
    by = by & 31
    other = {"bfly": lane ^ by, "down": lane + by, "up": lane - by, "idx": first | (by & ~segment)}[mode]
    exists = other >= last if mode == "up" else other <= last
    return np.where(exists, other, lane), exists


def shuffle(instruction, kernel):
    """shfl.sync %r1|%p1, %r2, by, limits, members: a register of another thread of the warp."""
    mode, operands = instruction.opcode.split(".")[2], instruction.operands
    put, *put_exists = (write(kernel, name) for name in operands[0].split("|"))
    source, by, limits = (read(kernel, operand, U32) for operand in operands[1:4])
    threads = np.arange(kernel.threads)
    lane = threads % 32

    def find(program):
        other, exists = partner(mode, lane, by(program).astype(S64), limits(program).astype(S64))
        return threads - lane + other, exists

    if operands[2] not in kernel.registers and operands[3] not in kernel.registers:  # always the same: found once
        always = find(None)
        find = lambda program: always  # noqa: E731

    def step(program):
        other, exists = find(program)
        put(program, source(program).take(other))
        for each in put_exists:
            each(program, exists)

    return step


def elect(instruction, kernel):
    """elect.sync %r1|%p1: one thread of each warp, the first."""
    leader, chosen = (write(kernel, name) for name in instruction.operands[0].split("|"))
    first = np.arange(kernel.threads) % 32 == 0

    def step(program):
        leader(program, np.zeros(kernel.threads, U32))
        chosen(program, first)

    return step


BUILDERS = {"shfl.sync": shuffle, "elect.sync": elect}
