"""Instructions that turn a number of one type into one of another: cvt, for one number or for two in a register.

The types themselves, and how they round, are in `floats`. (PTX ISA, section 9.7.9, cvt.)
"""

import numpy as np

from miniclip.kernels.emulator import floats
from miniclip.kernels.emulator.arithmetic import flushed
from miniclip.kernels.emulator.operands import F32, F64, TYPES, U8, U16, read, write

DECODE = {"bf16": floats.from_bf16, "f16": floats.from_f16, "tf32": floats.from_tf32}
ENCODE = {"bf16": floats.to_bf16, "f16": floats.to_f16, "tf32": floats.to_tf32}
TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
PAIRS = {"bf16x2": floats.to_bf16, "f16x2": floats.to_f16, "e4m3x2": floats.to_e4m3}


def convert(instruction, kernel):
    """cvt: the step of a conversion, such as cvt.rn.bf16.f32 or cvt.s64.s32."""
    *how, to, source = instruction.opcode.split(".")[1:]
    if to in PAIRS:
        return _convert_pair(instruction, kernel, to, source)
    put, get = write(kernel, instruction.operands[0]), read(kernel, instruction.operands[1], TYPES[source])
    function = _conversion(to, source, [TO_INTEGER[name] for name in how if name in TO_INTEGER])
    if "ftz" in how:
        function = flushed(function)
    width = kernel.registers[instruction.operands[0]][1]
    if width != TYPES[to].itemsize:  # a byte in a register of 16 bits
        narrow, wide = function, np.dtype(f"{TYPES[to].kind}{width}")
        function = lambda x: narrow(x).astype(wide)  # noqa: E731
    return lambda program: put(program, function(get(program)))


def _conversion(to, source, rounding):
    """A function of an array of the type `source` to one of the type `to`."""
    decode, encode = DECODE.get(source, lambda x: x), ENCODE.get(to)
    if encode:
        return lambda x: encode(decode(x).astype(F32))
    dtype = TYPES[to]
    from_float = source in DECODE or source in ("f32", "f64")
    if dtype.kind in "iu" and from_float:  # saturates, and NaN is 0
        low, high, (round_,) = np.iinfo(dtype).min, np.iinfo(dtype).max, rounding

        def to_integer(x):
            x = round_(decode(x).astype(F64))
            inside = np.where(np.isnan(x) | (x < low) | (x > high), 0, x).astype(dtype)
            return np.where(x > high, dtype.type(high), np.where(x < low, dtype.type(low), inside))

        return to_integer
    if rounding:  # to a whole number that stays a float
        return lambda x: rounding[0](decode(x)).astype(dtype)
    return lambda x: decode(x).astype(dtype)


def _convert_pair(instruction, kernel, to, source):
    """Two numbers to a register of two: cvt.rn.bf16x2.f32 %r1, high, low; or from e4m3 to float16."""
    target, *operands = instruction.operands
    put, encode = write(kernel, target), PAIRS[to]
    if source == "f32":
        high, low = (read(kernel, operand, F32) for operand in operands)
        pair = lambda program: np.stack([low(program), high(program)], axis=1)  # noqa: E731
    else:
        part, decode = {"e4m3x2": (U8, floats.from_e4m3), "f16x2": (U16, floats.from_f16)}[source]
        both = read(kernel, operands[0], TYPES[source])
        pair = lambda program: decode(np.ascontiguousarray(both(program)).view(part).reshape(-1, 2))  # noqa: E731
    relu = ".relu." in instruction.opcode

    def step(program):
        x = pair(program)
        put(program, encode(np.maximum(x, 0) if relu else x).view(TYPES[to])[:, 0])

    return step


BUILDERS = {"cvt": convert}
