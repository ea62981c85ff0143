"""What instructions read and write: registers of all threads, constants, addresses. Decoded once for each instruction.

A register is an array, (threads,), of the dtype that was written last; an instruction reads its bits as the dtype that
it needs. Arrays are never changed, only replaced, so an array that was kept is what the register was. `read` gives a
function of a program; the instruction that it was made for calls it each time that it runs.
"""

import re

import numpy as np

from miniclip.kernels.emulator.errors import Unknown

BOOL, U8, U16, U32, U64 = (np.dtype(name) for name in ("bool", "uint8", "uint16", "uint32", "uint64"))
S8, S16, S32, S64 = (np.dtype(name) for name in ("int8", "int16", "int32", "int64"))
F16, F32, F64 = (np.dtype(name) for name in ("float16", "float32", "float64"))
UNSIGNED = {1: U8, 2: U16, 4: U32, 8: U64}  # by bytes
TYPES = {
    "pred": BOOL,
    **{"b8": U8, "b16": U16, "b32": U32, "b64": U64, "u8": U8, "u16": U16, "u32": U32, "u64": U64},
    **{"s8": S8, "s16": S16, "s32": S32, "s64": S64, "f16": F16, "f32": F32, "f64": F64},
    **{"bf16": U16, "bf16x2": U32, "f16x2": U32, "tf32": U32, "e4m3x2": U16, "e5m2x2": U16},  # as bits
}
PARAMETER = 1 << 60  # the address of parameter i is PARAMETER + i: of tensor maps, which are passed by value


def read(kernel, operand, dtype):
    """A function of a program: the operand in each thread, (threads,) of dtype."""
    dtype = np.dtype(dtype)
    if operand in kernel.registers:
        slot, width = kernel.registers[operand]
        if dtype == BOOL or width == dtype.itemsize:

            def of_register(program):
                x = program.registers[slot]
                return x if x.dtype is dtype else x.view(dtype)

            return of_register
        whole, part = UNSIGNED[width], UNSIGNED[dtype.itemsize]  # the low bits: st.b8 of a register of 16
        return lambda program: program.registers[slot].view(whole).astype(part).view(dtype)
    bits = _constant(kernel, operand) % 2 ** (8 * dtype.itemsize)
    constant = np.full(kernel.threads, bits, UNSIGNED[dtype.itemsize])
    constant = constant != 0 if dtype == BOOL else constant.view(dtype)
    return lambda program: constant


def number(operand):
    """The value of an operand that is a number in the text, an int."""
    return int(operand.rstrip("U"), 0)


def _constant(kernel, operand):
    """The bits of an operand that is no register."""
    if operand in kernel.parameters:
        return PARAMETER + kernel.parameters[operand][0]
    if operand.startswith("0f"):  # the bits of a float32
        return int(operand[2:], 16)
    if operand.startswith("0d"):
        return int(operand[2:], 16)
    if operand == "global_smem":  # where shared memory begins
        return 0
    if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", operand):
        return number(operand) % 2**64
    raise Unknown(f"the emulator cannot read the operand {operand!r}: add it to kernels/emulator/operands.py")


def write(kernel, operand):
    """A function of a program and a value, (threads,): writes it to a register, in the threads that are active."""
    if operand == "_":  # PTX's way to drop a result
        return lambda program, value: None
    slot, _ = kernel.registers[operand]

    def to_register(program, value):
        mask = program.mask
        if mask is not None:
            before = program.registers[slot]
            value = np.where(mask, value, before if before.dtype is value.dtype else before.view(value.dtype))
        program.registers[slot] = value

    return to_register


def vector(operand):
    """The operands in a vector: "{ %r1, %r2 }" -> ["%r1", "%r2"]; a single one is a vector of one."""
    return [part.strip() for part in operand.strip("{} ").split(",")]


def address(kernel, operand):
    """A function of a program: the address "[ %rd1 + 16 ]" in each thread, (threads,) of int64."""
    base, offset = re.fullmatch(r"\[\s*(\S+?)\s*(?:\+\s*(-?\d+)\s*)?\]", operand).groups()
    base = read(kernel, base, S64 if kernel.registers.get(base, (0, 8))[1] == 8 else U32)
    offset = int(offset or 0)

    def of_operand(program):
        at = base(program)
        at = at if at.dtype is S64 else at.astype(S64)
        return at + offset if offset else at

    return of_operand
