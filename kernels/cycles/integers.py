"""What the integer instructions of machine code compute, for all threads at once.

A word is a number of 0 .. 2^32 - 1 in int64, so that a sum has room for its carry, and a pair of registers is the 64
bits of an int64. What is unknown is None. NVIDIA documents only the names of these instructions ("CUDA binary
utilities", table 5); what they compute was found by compiling and reading.
"""

import functools
import re

import numpy as np

LANES = 32  # threads of a warp
WORD = 0xFFFFFFFF
REGISTER = re.compile(r"(?P<sign>[-~]?)(?P<bar>\|?)(?P<name>U?R\d+|U?RZ|SRZ)(\.\w+)*\|?$")
PREDICATE = re.compile(r"(?P<sign>!?)(?P<name>U?P\d|U?PT)$")
IMMEDIATE = re.compile(r"(?P<sign>-?)0x(?P<value>[0-9a-f]+)$")
CONSTANT = re.compile(r"(?P<sign>-?)c\[0x0\]\[0x(?P<at>[0-9a-f]+)\]$")
ZERO = ("SRZ", "SR_TID.Y", "SR_TID.Z", "SR_CgaCtaId")  # special registers


@functools.cache
def word(value):
    return np.full((1, 1), value if value < 1 << 63 else value - (1 << 64), np.int64)


def signed(x):
    """Words as numbers of -2^31 .. 2^31 - 1."""
    return ((x & WORD) ^ 0x80000000) - 0x80000000


@functools.cache
def parsed(operand):
    """(kind, name or value, sign) of an operand's text."""
    if match := PREDICATE.match(operand):
        name = match["name"]
        return "predicate", np.full((1, 1), True) if name[-1] == "T" else name, match["sign"]
    if match := REGISTER.match(operand):
        name = match["name"]
        return "register", word(0) if name[-1] == "Z" else name, match["sign"] or match["bar"]
    if match := IMMEDIATE.match(operand):
        value = int(match["value"], 16)
        return "immediate", word((1 << 32) - value if match["sign"] else value), ""
    if match := CONSTANT.match(operand):
        return "constant", int(match["at"], 16), match["sign"]
    return "float", None, ""


# --------------------------------------------------------------------------------------------- the instructions


def known(operation):
    """A decorator: the operation is called with the values of its sources, and if one is unknown, so is the result."""

    def call(threads, modifiers, operands):
        values = [threads.get(operand) for operand in operands]
        return None if any(value is None for value in values) else operation(modifiers, *values)

    return call


@known
def _move(modifiers, x, *_):
    return x


def _special(threads, modifiers, operands):
    """S2R: the number of the thread or of the program; zero for what a launch here has one of."""
    if operands[0] == "SR_LANEID":
        return threads.values["SR_TID.X"] % LANES
    return threads.values.get(operands[0], word(0) if operands[0] in ZERO else None)


def _constant(threads, modifiers, operands):
    kind, at, _ = parsed(operands[0])
    return threads.constant(at, 8 if "64" in modifiers else 4) if kind == "constant" else None


@known
def _add(modifiers, a, b, c=0, *carries):
    total = a + b + c + sum(carry.astype(np.int64) for carry in carries)
    return total & WORD, total >> 32 >= 1, total >> 32 >= 2


def _multiply(threads, modifiers, operands):
    wide = "WIDE" in modifiers or "HI" in modifiers
    a, b = threads.get(operands[0]), threads.get(operands[1])
    c = threads.pair(operands[2]) if wide else threads.get(operands[2])
    carries = [threads.get(operand) for operand in operands[3:]]
    if a is None or b is None or c is None or any(carry is None for carry in carries):
        return None
    if wide and "U32" not in modifiers:
        a, b = signed(a), signed(b)
    total = a * b + c + sum(carry.astype(np.int64) for carry in carries)
    return total >> 32 if "HI" in modifiers else total


@known
def _shifted_add(modifiers, a, b, *rest):
    """LEA: (a << s) + b; HI: the upper word of ({c, a} << s), and c is a's sign for SX32."""
    rest = list(rest)
    carry = rest.pop().astype(np.int64) if "X" in modifiers else 0
    shift = int(rest.pop()[0, 0])
    if "HI" not in modifiers:
        total = ((a << shift) & WORD) + b + carry
        return total & WORD, total >> 32 >= 1
    wide = signed(a) if "SX32" in modifiers else (a & WORD) | rest[0] << 32
    return ((wide >> 32 - shift) + b + carry) & WORD


@known
def _logic(modifiers, a, b, c, table, *_):
    result = _looked_up(int(table[0, 0]), a & WORD, b & WORD, c & WORD, WORD)
    return result, result != 0


def _looked_up(table, a, b, c, ones):
    """Each bit of the result is the bit of `table` at 4 a + 2 b + c."""
    a, b, c = np.broadcast_arrays(a, b, c)
    result = np.zeros_like(a)
    for k in range(8):
        if table >> k & 1:
            terms = [x if k & bit else x ^ ones for x, bit in ((a, 4), (b, 2), (c, 1))]
            result = result | terms[0] & terms[1] & terms[2]
    return result


def _predicate_logic(threads, modifiers, operands):
    tables = [int(operand, 16) for operand in operands if operand.startswith("0x")]
    values = [threads.get(operand) for operand in operands if not operand.startswith("0x")]
    if any(value is None for value in values):
        return None
    return None, *(_looked_up(table, *values, True) for table in tables)


@known
def _shift(modifiers, a, shift, c):
    """SHF: {c, a} shifted left or right, its lower or upper word."""
    shift = np.minimum(shift, 63)
    if "L" in modifiers:
        return (a | c << 32) << shift >> 32 if "HI" in modifiers else (a & WORD) << np.minimum(shift, 32)
    upper = signed(c) if "S32" in modifiers else c
    return upper >> np.minimum(shift, 32) if "HI" in modifiers else (a | upper << 32) >> shift


@known
def _compare(modifiers, a, b, other, low=None):
    """ISETP; EX: of two upper words, where `low` is the result for the lower ones."""
    if "U32" not in modifiers:
        a, b = signed(a), signed(b)
    a, b = np.broadcast_arrays(a, b)
    results = {"LT": a < b, "LE": a <= b, "GT": a > b, "GE": a >= b, "EQ": a == b, "NE": a != b}
    result = results[modifiers[0]]
    if low is not None:
        result = {"EQ": result & low, "NE": result | low}.get(modifiers[0], np.where(a == b, low, result))
    combined = {"AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor}[
        modifiers[-1 - (modifiers[-1] == "EX")]
    ]
    return None, combined(result, other), combined(~result, other)


@known
def _select(modifiers, a, b, condition):
    return np.where(condition, a, b) & WORD


@known
def _absolute(modifiers, x):
    return np.abs(signed(x))


@known
def _extend(modifiers, x, bits):
    bits = int(bits[0, 0])
    low = x & (1 << bits) - 1
    return low if "U32" in modifiers else ((low ^ 1 << bits - 1) - (1 << bits - 1)) & WORD


@known
def _least(modifiers, a, b, condition):
    if "U32" not in modifiers:
        a, b = signed(a), signed(b)
    return np.where(condition, np.minimum(a, b), np.maximum(a, b)) & WORD


@known
def _add_least(modifiers, a, b, c, condition):
    a, b, c = signed(a), signed(b), signed(c)
    return np.where(condition, np.minimum(a + b, c), np.maximum(a + b, c)) & WORD


@known
def _permute(modifiers, a, selector, b):
    """PRMT: four bytes of {b, a}, each named by a digit of the selector."""
    total = 0
    for k in range(4):
        number = selector >> 4 * k & 7
        byte = np.where(number < 4, a >> 8 * (number & 3), b >> 8 * (number & 3)) & 0xFF
        total = total | np.where(selector >> 4 * k & 8, np.where(byte & 0x80, 0xFF, 0), byte) << 8 * k
    return total


def _first_lane(threads, modifiers, operands):
    """ELECT: true for one thread of each warp."""
    return None, threads.values["SR_TID.X"] % LANES == 0


def _any(threads, modifiers, operands):
    value = threads.get(operands[-1])
    if value is None:
        return None
    value = np.broadcast_to(value, threads.alive.shape)
    return None, (value.all if "ALL" in modifiers else value.any)(axis=1, keepdims=True)


def _pack(threads, modifiers, operands):
    """P2R: the predicates that the mask names, as bits."""
    kept, mask = threads.get(operands[1]), int(operands[2], 16)
    total = None if kept is None else kept & ~mask & WORD
    for k in range(7):
        if total is not None and mask >> k & 1:
            bit = threads.values.get(f"P{k}")
            total = None if bit is None else total | bit.astype(np.int64) << k
    return total


def _unpack(threads, modifiers, operands):
    """R2P: bits to the predicates that the mask names."""
    word, mask = threads.get(operands[1]), int(operands[2], 16)
    shift = 8 * next((int(part[1]) for part in operands[1].split(".") if re.match(r"B\d", part)), 0)
    return {f"P{k}": None if word is None else (word >> shift + k & 1).astype(bool) for k in range(7) if mask >> k & 1}


@known
def _to_float(modifiers, x):
    """I2F: the bits of a float32, rounded up (RP) or to nearest."""
    number = (x if "U32" in modifiers or "RP" in modifiers else signed(x)).astype(np.float64)
    rounded = number.astype(np.float32)
    if "RP" in modifiers:
        rounded = np.where(rounded < number, np.nextafter(rounded, np.float32(np.inf)), rounded)
    return rounded.astype(np.float32).view(np.uint32).astype(np.int64)


@known
def _to_integer(modifiers, x):
    return np.clip(np.trunc(_floats(x)), 0, WORD).astype(np.int64)


def _special_function(threads, modifiers, operands):
    """MUFU.RCP, which integer divisions begin with; they correct its last bits themselves."""
    x = threads.get(operands[0]) if modifiers == ["RCP"] else None
    if x is None:
        return None
    with np.errstate(all="ignore"):
        return (1 / _floats(x)).astype(np.float32).view(np.uint32).astype(np.int64)


def _floats(x):
    return (x & WORD).astype(np.uint32).view(np.float32).astype(np.float64)


def _halves(threads, modifiers, operands):
    """HFMA2 of zeros and two constants: how ptxas puts a word into a register without the unit that moves."""
    if [operand.strip("-") for operand in operands[:2]] != ["RZ", "RZ"]:
        return None
    high, low = (int(np.float16(float(operand)).view(np.uint16)) for operand in operands[2:4])
    return word(high << 16 | low)


OPERATIONS = {
    "HFMA2": _halves,
    "MOV": _move,
    "S2R": _special,
    "S2UR": _special,
    "CS2R": _special,
    "LDC": _constant,
    "ULDC": _constant,
    "R2UR": _move,
    "IADD3": _add,
    "VIADD": _add,
    "IMAD": _multiply,
    "LEA": _shifted_add,
    "LOP3": _logic,
    "PLOP3": _predicate_logic,
    "SHF": _shift,
    "ISETP": _compare,
    "SEL": _select,
    "IABS": _absolute,
    "SGXT": _extend,
    "IMNMX": _least,
    "VIMNMX": _least,
    "VIADDMNMX": _add_least,
    "PRMT": _permute,
    "ELECT": _first_lane,
    "VOTE": _any,
    "VOTEU": _any,
    "P2R": _pack,
    "R2P": _unpack,
    "I2F": _to_float,
    "F2I": _to_integer,
    "MUFU": _special_function,
}
