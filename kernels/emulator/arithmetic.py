"""Instructions that compute in registers: a table {opcode: (function, the dtypes of its sources)}.

Each function takes arrays, one number a thread, and gives an array, so most of them are NumPy's. Where PTX and NumPy
differ, a function below says how. Sums of signed and unsigned integers have the same bits, and are computed unsigned.

Approximate instructions (ex2, rsqrt, div.full, ...) are computed to the last bit, while a GPU's are off by 1 or 2
units in it; only tanh, whose error is seen in results, is as coarse as it may be.

(PTX ISA, sections 9.7.1 to 9.7.9.)
"""

import numpy as np

from miniclip.kernels.emulator import floats
from miniclip.kernels.emulator.operands import (
    BOOL,
    F32,
    F64,
    S32,
    S64,
    TYPES,
    U8,
    U16,
    U32,
    U64,
    read,
    vector,
    write,
)  # fmt: skip

TABLE = {}  # {opcode: (function, dtypes of the sources)}


def _add(names, types, function):
    """Add the opcodes "name.type", whose sources, as many as the function takes or two, all have the type's dtype."""
    for name in names.split():
        for kind in types.split():
            TABLE[f"{name}.{kind}"] = (function, (TYPES[kind],) * _count(name))


def _count(name):
    """How many sources an instruction has."""
    first = name.partition(".")[0]
    return {"mad": 3, "fma": 3, **dict.fromkeys(("neg", "abs", "not", "mov", *UNARY), 1)}.get(first, 2)


UNARY = ("ex2", "lg2", "rcp", "sqrt", "rsqrt", "sin", "cos", "tanh", "popc", "clz", "brev")

# ------------------------------------------------------------------------------------------------- integers


def shift_left(x, by):
    """x << by; zero if nothing is left, where NumPy and C say nothing."""
    bits = x.itemsize * 8
    return np.where(by < bits, x << np.minimum(by, bits - 1).astype(x.dtype), x.dtype.type(0))


def shift_right(x, by):
    """x >> by; zero if nothing is left, the sign's copies if x is signed."""
    bits = x.itemsize * 8
    shifted = x >> np.minimum(by, bits - 1).astype(x.dtype)
    return shifted if x.dtype.kind == "i" else np.where(by < bits, shifted, x.dtype.type(0))


def divide(a, b):
    """The quotient of integers, rounded towards zero, as in C."""
    return (a - np.fmod(a, b)) // b


def widened(function, narrow, wide):
    """A function of narrow numbers computed in wide ones, where the product has room."""
    return lambda a, b, *c: function(a.astype(wide), b.astype(wide), *c)


def high_half(wide, narrow):
    return lambda a, b: ((a.astype(wide) * b.astype(wide)) >> wide.type(8 * narrow.itemsize)).astype(narrow)


def multiply_add(a, b, c):
    return a * b + c


for signed, unsigned in (("s16", "u16"), ("s32", "u32"), ("s64", "u64")):
    bits = "b" + signed[1:]
    _add("add", f"{signed} {unsigned}", np.add)
    _add("sub", f"{signed} {unsigned}", np.subtract)
    _add("mul.lo", f"{signed} {unsigned}", np.multiply)
    _add("mad.lo", f"{signed} {unsigned}", multiply_add)
    _add("neg", signed, np.negative)
    _add("abs", signed, np.abs)
    for kind in (signed, unsigned):
        _add("min", kind, np.minimum)
        _add("max", kind, np.maximum)
        _add("div", kind, divide)
        _add("rem", kind, np.fmod)
        TABLE[f"shr.{kind}"] = (shift_right, (TYPES[kind], U32))
    TABLE[f"shr.{bits}"] = (shift_right, (TYPES[bits], U32))
    TABLE[f"shl.{bits}"] = (shift_left, (TYPES[bits], U32))
for kind in ("pred", "b16", "b32", "b64"):
    _add("and", kind, np.bitwise_and)
    _add("or", kind, np.bitwise_or)
    _add("xor", kind, np.bitwise_xor)
    _add("not", kind, np.invert)
for kind, wide in {"s16": S32, "u16": U32, "s32": S64, "u32": U64}.items():
    narrow = TYPES[kind]
    TABLE[f"mul.wide.{kind}"] = (widened(np.multiply, narrow, wide), (narrow, narrow))
    TABLE[f"mad.wide.{kind}"] = (widened(multiply_add, narrow, wide), (narrow, narrow, wide))
    TABLE[f"mul.hi.{kind}"] = (high_half(wide, narrow), (narrow, narrow))


def extract_unsigned(x, position, length):
    """bfe: `length` bits of x, from bit `position` on."""
    return shift_right(x, position & 0xFF) & (shift_left(np.ones_like(x), length & 0xFF) - x.dtype.type(1))


def extract_signed(x, position, length):
    """The same of a signed x: extended by its own highest bit, or by the sign of x beyond the end of x."""
    bits, length = x.dtype.type(0) + 8 * x.itemsize, length & 0xFF
    end = np.minimum((position & 0xFF) + length, bits)
    above = (bits - end).astype(U32)
    field = shift_right(shift_right(shift_left(x, above), above), position & 0xFF)
    return np.where(length == 0, x.dtype.type(0), field)


def permute_bytes(a, b, selector):
    """prmt: each byte of the result is one of the 8 of a and b, or 8 times its highest bit."""
    source = np.stack([a, b], axis=1).view(U8)  # (threads, 8)
    nibbles = (selector[:, None] >> np.arange(0, 16, 4, dtype=U32)) & np.uint32(15)  # (threads, 4)
    chosen = np.take_along_axis(source, (nibbles & 7).astype(np.intp), axis=1)
    sign = np.where(chosen & 0x80, 0xFF, 0).astype(U8)
    return np.where(nibbles & 8, sign, chosen).view(U32)[:, 0]


TABLE["bfe.u32"] = (extract_unsigned, (U32, U32, U32))
TABLE["bfe.s32"] = (extract_signed, (S32, U32, U32))
TABLE["prmt.b32"] = (permute_bytes, (U32, U32, U32))

# ---------------------------------------------------------------------------------------------------- float32


def fused(a, b, c):
    """a · b + c with a single rounding: the product of two float32 numbers is exact in float64."""
    return (np.multiply(a, b, dtype=F64) + c).astype(F32)


def in_float64(function):
    return lambda x: function(x.astype(F64)).astype(F32)


def flushed(function):
    """The function with .ftz: subnormal numbers that go in or come out are zeros."""
    return lambda *x: floats.flush(function(*map(floats.flush, x)))


def tanh_approximate(x):
    """tanh as coarse as a GPU's may be, a relative error of 2^-11: 10 bits of mantissa are left."""
    bits = np.tanh(x).view(U32)
    return ((bits + U32.type(0x1000)) & U32.type(0xFFFFE000)).view(F32)


FLOAT = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "fma": fused,
    "min": np.fmin,  # the other one, if one is NaN
    "max": np.fmax,
    "min.NaN": np.minimum,
    "max.NaN": np.maximum,
    "div.full": np.divide,
    "div.rn": np.divide,
    "div.approx": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "ex2.approx": in_float64(np.exp2),
    "lg2.approx": in_float64(np.log2),
    "rcp.approx": in_float64(np.reciprocal),
    "rcp.rn": in_float64(np.reciprocal),
    "sqrt.approx": np.sqrt,
    "sqrt.rn": np.sqrt,
    "rsqrt.approx": in_float64(lambda x: 1 / np.sqrt(x)),
    "sin.approx": in_float64(np.sin),
    "cos.approx": in_float64(np.cos),
    "tanh.approx": tanh_approximate,
}
for name, function in FLOAT.items():
    base, _, how = name.partition(".")
    # the places where PTX puts .rn and .ftz
    names = {name, f"{base}.rn"} if not how and base in ("add", "sub", "mul", "fma") else {name}
    for each in names:
        _add(each, "f32", function)
        TABLE[f"{each.replace('.NaN', '')}.ftz{'.NaN' if 'NaN' in how else ''}.f32"] = (
            flushed(function), (F32,) * _count(each),
        )  # fmt: skip

# ------------------------------------------------------------------- 16 bit, one number or two in a register


def halves(function, decode, encode, count):
    """A function of 16 bit numbers, computed in float32 and rounded; of registers of two, if they have 32 bits."""

    def compute(*registers):
        numbers = [decode(np.ascontiguousarray(x).view(U16)) for x in registers]
        return encode(function(*numbers).astype(F32)).view(registers[0].dtype)

    return compute


for name in ("add", "sub", "mul", "fma", "min", "max", "min.NaN", "max.NaN", "neg", "abs", "tanh.approx", "ex2.approx"):
    for kind, decode, encode in (("bf16", floats.from_bf16, floats.to_bf16), ("f16", floats.from_f16, floats.to_f16)):
        function = halves(FLOAT[name], decode, encode, _count(name))
        rounded = {f"{name}.rn"} if name in ("add", "sub", "mul", "fma") else set()
        for each in {name, *rounded}:
            TABLE[f"{each}.{kind}"] = (function, (U16,) * _count(each))
            TABLE[f"{each}.{kind}x2"] = (function, (U32,) * _count(each))

# ---------------------------------------------------------------------------------- comparing and choosing


def or_unordered(compare):
    """A comparison that holds for NaN too: lt -> ltu."""
    return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)


COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
COMPARE |= {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}  # unsigned
for name, function in COMPARE.items():
    _add(f"setp.{name}", "b16 b32 b64 u16 u32 u64 s16 s32 s64", function)
    ordered = (lambda a, b: (a < b) | (a > b)) if name == "ne" else function  # NaN is equal to nothing, nor unequal
    for ftz, change in {"": lambda f: f, ".ftz": lambda f: lambda a, b: f(floats.flush(a), floats.flush(b))}.items():
        _add(f"setp.{name}{ftz}", "f32", change(ordered))
        _add(f"setp.{name}u{ftz}", "f32", change(or_unordered(function)))
_add("setp.num", "f32", lambda a, b: ~(np.isnan(a) | np.isnan(b)))
_add("setp.nan", "f32", lambda a, b: np.isnan(a) | np.isnan(b))


def select(a, b, condition):
    return np.where(condition, a, b)


for kind in ("b16", "b32", "b64", "f32", "s32", "u32", "s64", "u64", "s16", "u16"):
    TABLE[f"selp.{kind}"] = (select, (TYPES[kind], TYPES[kind], BOOL))
for kind in ("pred", "b16", "b32", "b64", "f32", "u16", "u32", "u64", "s16", "s32", "s64"):
    TABLE[f"mov.{kind}"] = (lambda x: x, (TYPES[kind],))
TABLE["cvta.param.u64"] = (lambda x: x, (U64,))  # addresses of parameters, and of shared memory, are what they are
TABLE["cvta.to.global.u64"] = (lambda x: x, (U64,))
TABLE["popc.b32"] = (lambda x: np.bitwise_count(x).astype(U32), (U32,))


# --------------------------------------------------------------------------------------------------- building


def computed(instruction, kernel):
    """The step of an instruction of TABLE: a function of a program that reads, computes and writes."""
    function, types = TABLE[instruction.opcode]
    target, *operands = instruction.operands
    put, sources = write(kernel, target), [read(kernel, *each) for each in zip(operands, types)]
    if len(sources) == 1:
        (a,) = sources
        return lambda program: put(program, function(a(program)))
    if len(sources) == 2:
        a, b = sources
        return lambda program: put(program, function(a(program), b(program)))
    a, b, c = sources
    return lambda program: put(program, function(a(program), b(program), c(program)))


def move(instruction, kernel):
    """mov, also between a register and a vector of its parts: mov.b32 {%rs1, %rs2}, %r1; the first has the low bits."""
    target, source = instruction.operands
    dtype = TYPES[instruction.opcode.partition(".")[2]]
    if target.startswith("{"):
        puts, whole = [write(kernel, part) for part in vector(target)], read(kernel, source, dtype)
        part = np.dtype(f"u{dtype.itemsize // len(puts)}")

        def unpack(program):
            parts = np.ascontiguousarray(whole(program)).view(part).reshape(-1, len(puts))
            for i, put in enumerate(puts):
                put(program, parts[:, i])

        return unpack
    if source.startswith("{"):
        names = vector(source)
        part = np.dtype(f"u{dtype.itemsize // len(names)}")
        parts, put = [read(kernel, name, part) for name in names], write(kernel, target)
        return lambda program: put(program, np.stack([x(program) for x in parts], axis=1).view(dtype)[:, 0])
    return computed(instruction, kernel)


BUILDERS = {
    **dict.fromkeys(TABLE, computed),
    **dict.fromkeys((opcode for opcode in TABLE if opcode.startswith("mov.")), move),
}
