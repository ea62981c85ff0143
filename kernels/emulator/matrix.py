"""The matrix units: mma.sync, of a warp, and wgmma.mma_async, of a group of four warps.

Both compute D = A · B + C. What is hard about them is only where the numbers are. In registers, a fragment, lane = 4 g
+ t of a warp has of each 8 rows the row g, and of each row a register of neighbours, n = 4 bytes / bytes of a number:

    A  16 x 8n   register r: row g + 8 (r % 2), columns 4n (r // 2) + n t ...
    B  8n x 8    register r: rows 4n r + n t ..., column g
    C  16 x 8    register r: row g + 8 (r // 2), column 2 t + r % 2

In an axis for each of these letters, a fragment becomes a matrix by a transpose. wgmma's A has 64 rows, 16 a warp, and
its C any number of columns, 4 registers for each 8. In shared memory, wgmma finds its A and B by a descriptor, 64
bits: where the matrix begins, how far apart its parts are, and how its bytes are swizzled.

wgmma is asynchronous. It reads its operands when it is waited for, and its accumulators are NaN until then.

Products are summed in float64 and rounded once; with `truncate`, rounded towards zero, as matrix units are said to do.
(PTX ISA, sections 9.7.14.5 and 9.7.15.5.)
"""

import functools

import numpy as np

from miniclip.kernels.emulator import floats
from miniclip.kernels.emulator.errors import EmulatorError, Unknown
from miniclip.kernels.emulator.operands import BOOL, F32, F64, U8, U16, U32, U64, number, read, vector, write

# {type: (dtype of its bits, its numbers as float32)}
FORMATS = {
    "bf16": (U16, floats.from_bf16),
    "f16": (U16, floats.from_f16),
    "tf32": (U32, floats.from_tf32),
    "e4m3": (U8, floats.from_e4m3),
}


def multiply(a, b, c, truncate):
    """a @ b + c, (..., M, K), (..., K, N), (..., M, N) float32."""
    exact = a.astype(F64) @ b.astype(F64) + c
    rounded = exact.astype(F32)
    if truncate:  # towards zero
        return np.where(np.abs(rounded) > np.abs(exact), np.nextafter(rounded, F32.type(0)), rounded)
    return rounded


# -------------------------------------------------------------------------------------------- fragments


def fragment_a(registers, kind):
    """(warps, 16, K) of the registers of A."""
    dtype, decode = FORMATS[kind]
    n, threads = 4 // dtype.itemsize, len(registers[0])
    bits = np.stack(registers).view(dtype).reshape(-1, 2, threads // 32, 8, 4, n)  # columns' half, rows', warp, g, t, n
    return decode(bits.transpose(2, 1, 3, 0, 4, 5).reshape(threads // 32, 16, -1))


def fragment_b(registers, kind):
    """(warps, K, 8) of the registers of B."""
    dtype, decode = FORMATS[kind]
    n, threads = 4 // dtype.itemsize, len(registers[0])
    bits = np.stack(registers).view(dtype).reshape(-1, threads // 32, 8, 4, n)  # register, warp, g, t, n
    return decode(bits.transpose(1, 0, 3, 4, 2).reshape(threads // 32, -1, 8))


def fragment_c(registers):
    """(warps, 16, N) of the registers of C, 4 for each 8 columns."""
    threads = len(registers[0])
    x = np.stack(registers).reshape(-1, 2, 2, threads // 32, 8, 4)  # 8 columns, rows' half, pair, warp, g, t
    return x.transpose(3, 1, 4, 0, 5, 2).reshape(threads // 32, 16, -1)


def registers_c(matrix):
    """The registers of C, of (warps, 16, N)."""
    warps, _, N = matrix.shape
    x = matrix.reshape(warps, 2, 8, N // 8, 4, 2)  # warp, rows' half, g, 8 columns, t, pair
    return np.ascontiguousarray(x.transpose(3, 1, 5, 0, 2, 4)).reshape(N // 2, warps * 32)


def mma(instruction, kernel):
    """mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 D, A, B, C: of each warp."""
    result, kind, *_, c_kind = instruction.opcode.split(".")[-4:]
    if result != "f32" or c_kind != "f32" or kind not in FORMATS:
        raise Unknown(f"the emulator has no {instruction.opcode}: add it to kernels/emulator/matrix.py")
    puts = [write(kernel, name) for name in vector(instruction.operands[0])]
    a, b = ([read(kernel, name, U32) for name in vector(operand)] for operand in instruction.operands[1:3])
    c = [read(kernel, name, F32) for name in vector(instruction.operands[3])]

    def step(program):
        matrices = (
            fragment_a([x(program) for x in a], kind),
            fragment_b([x(program) for x in b], kind),
            fragment_c([x(program) for x in c]),
        )
        for put, x in zip(puts, registers_c(multiply(*matrices, program.truncate))):
            put(program, x)

    return step


# ------------------------------------------------------------------------------- matrices in shared memory

SWIZZLE = {0: 0, 1: 128, 2: 64, 3: 32}  # bytes after which the pattern of a descriptor's code repeats


def swizzled(at, width):
    """Addresses with their 16 byte pieces exchanged: bits 4-6 are flipped by bits 7-9, as many as the width has."""
    return at ^ ((at >> 7 & max(width // 16 - 1, 0)) << 4)


@functools.lru_cache(4096)
def _addresses(descriptor, rows, size, transposed):
    """Where the numbers of (rows, 32 bytes along K) are in shared memory, each `size` bytes; rows along M or N."""
    start, leading, stride = ((descriptor >> bit & 0x3FFF) << 4 for bit in (0, 16, 32))
    width = SWIZZLE[descriptor >> 62]
    row, column = np.arange(rows)[:, None], np.arange(32 // size)
    if transposed:  # rows are neighbours: `width` bytes of them, for each of 8 columns
        if not width:
            raise EmulatorError(
                "the emulator has no transposed matrices without swizzle: see kernels/emulator/matrix.py"
            )
        per = width // size
        at = row // per * leading + row % per * size + column // 8 * stride + column % 8 * width
    elif width:  # columns are neighbours, in 8 rows of `width` bytes
        at = row // 8 * stride + row % 8 * width + column * size
    else:  # in 8 rows of 16 bytes
        at = row // 8 * stride + row % 8 * 16 + column * size // 16 * leading + column * size % 16
    return swizzled(start + at, width) // size


def shared_matrix(program, descriptor, rows, kind, transposed):
    """(rows, K) float32 of the matrix that a descriptor describes."""
    dtype, decode = FORMATS[kind]
    at = _addresses(descriptor, rows, dtype.itemsize, transposed)
    words = program.shared.words[dtype.itemsize]
    if at.max() >= len(words):
        raise EmulatorError(f"a matrix's descriptor {descriptor:#x} ends beyond shared memory")
    return decode(words.take(at))


# ---------------------------------------------------------------------------------------------------- wgmma


class Accumulator:
    """The registers of a C that products are on their way to; its values (warps, 16, N) are not in them meanwhile."""

    def __init__(self, values):
        self.values, self.pending = values, 0


def wgmma(instruction, kernel):
    """wgmma.mma_async....m64n64k16.f32.bf16.bf16 C, A, B, whether C is added, signs of A, B, transposed A, B."""
    shape, result, kind, _ = instruction.opcode.split(".")[-4:]
    if result != "f32" or kind not in FORMATS:
        raise Unknown(f"the emulator has no {instruction.opcode}: add it to kernels/emulator/matrix.py")
    N = int(shape[shape.index("n") + 1 : shape.index("k")])
    c, a, b, added, *rest = instruction.operands
    signs, flags = [number(x) for x in rest[:2]], [number(x) for x in rest[2:]]  # only 16 bit types can be transposed
    names, in_registers = vector(c), a.startswith("{")
    puts, gets = [write(kernel, name) for name in names], [read(kernel, name, F32) for name in names]
    a_of = [read(kernel, name, U32) for name in vector(a)] if in_registers else read(kernel, a, U64)
    b_of, added_of = read(kernel, b, U64), read(kernel, added, BOOL)
    transposed = ([0] * in_registers + flags + [0, 0])[:2]
    nothing, key = np.full(kernel.threads, np.nan, F32), tuple(names)

    def left(program, descriptors):
        """A, (groups, 64, K)."""
        if in_registers:
            x = fragment_a([x(program) for x in a_of], kind)
            return x.reshape(-1, 64, x.shape[-1])
        return np.stack([shared_matrix(program, int(x), 64, kind, transposed[0]) for x in descriptors])

    def compute(program, accumulator, a_at, b_at, use):
        c = accumulator.values if use else np.zeros((kernel.threads // 32, 16, N), F32)
        right = np.stack([shared_matrix(program, int(x), N, kind, transposed[1]) for x in b_at]).swapaxes(1, 2)
        product = multiply(signs[0] * signs[1] * left(program, a_at), right, c.reshape(-1, 64, N), program.truncate)
        accumulator.values = product.reshape(-1, 16, N)
        accumulator.pending -= 1
        if not accumulator.pending:
            del program.accumulators[key]
            for put, x in zip(puts, registers_c(accumulator.values)):
                put(program, x)

    def step(program):
        if program.mask is not None:
            raise EmulatorError("only some threads of the program come to this product of groups of warps")
        # one descriptor for each group of 128 threads
        a_at, b_at = None if in_registers else a_of(program)[::128], b_of(program)[::128]
        use = bool(added_of(program)[0])
        if key not in program.accumulators:
            program.accumulators[key] = Accumulator(fragment_c([get(program) for get in gets]))
        accumulator = program.accumulators[key]
        accumulator.pending += 1
        if not program.late:
            return compute(program, accumulator, a_at, b_at, use)
        for put in puts:
            put(program, nothing)
        program.products.add(lambda: compute(program, accumulator, a_at, b_at, use))

    return step


def wait(instruction, kernel):
    pending = number(instruction.operands[0])
    return lambda program: program.products.wait(pending)


BUILDERS = {
    "mma.sync": mma,
    "wgmma.mma_async": wgmma,
    "wgmma.fence": lambda instruction, kernel: lambda program: None,
    "wgmma.commit_group": lambda instruction, kernel: lambda program: program.products.commit(),
    "wgmma.wait_group": wait,
}
