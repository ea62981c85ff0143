"""Memory: tensors with bounds, shared memory, and the instructions that load, store and copy.

A pointer that a kernel is given is not the tensor's own address: each tensor has a range of 2^44 addresses to itself.
So an address that leaves its tensor is found, even if it hits another tensor that this kernel was given.

Shared memory begins as NaN, all bits set. What is copied asynchronously arrives as late as it may: cp.async's at its
wait_group, and until then its place reads as NaN.

(PTX ISA, sections 9.7.9.8 ff. and 9.7.9.25.)
"""

import ctypes

import numpy as np

from miniclip.kernels.emulator.operands import (
    TYPES,
    U8,
    U16,
    U32,
    UNSIGNED,
    address,
    number,
    read,
    vector,
    write,
)  # fmt: skip

RANGE = 44  # bits of the addresses of one tensor
WORDS = {1: U8, 2: U16, 4: U32, 8: np.dtype("uint64"), 16: np.dtype("V16")}  # what is moved at once, by bytes


class Tensor:
    """The memory of a tensor (of torch or NumPy) as words of each size, at a base address that the emulator chose."""

    def __init__(self, tensor, index):
        if hasattr(tensor, "data_ptr"):
            pointer, strides, size = tensor.data_ptr(), tensor.stride(), tensor.element_size()
        else:
            pointer, size = tensor.__array_interface__["data"][0], tensor.itemsize
            strides = [stride // size for stride in tensor.strides]
        self.name = f"tensor {index} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        span = size * (1 + sum((n - 1) * step for n, step in zip(tensor.shape, strides)))
        self.bytes = span if all(tensor.shape) else 0
        before = pointer % 256  # alignment is kept: the base is aligned as the tensor is
        self.base = (index + 1 << RANGE) + before
        self.first = pointer - before  # where words are counted from
        whole = -(-(before + self.bytes) // 16) * 16
        raw = np.frombuffer((ctypes.c_uint8 * whole).from_address(self.first), U8) if self.bytes else np.zeros(0, U8)
        self.words = {size: raw.view(word) for size, word in WORDS.items()}
        self.owner = tensor  # keeps it alive

    def locate(self, at, size):
        """The indices of the words of `size` bytes at addresses; raises EmulatorError beyond the tensor's ends."""
        offset = at - self.base
        if offset.min() < 0 or offset.max() + size > self.bytes:
            lane = int(np.flatnonzero((offset < 0) | (offset + size > self.bytes))[0])
            place = f"byte {offset[lane]} of {self.name}, which has {self.bytes}"
            raise OutOfBounds(lane, f"{size} bytes at {place}")
        return (at - (self.base & ~255)) >> (size.bit_length() - 1)


class OutOfBounds(Exception):
    """Of a lane among those that are active."""


class Global:
    """All tensors of a launch."""

    def __init__(self):
        self.tensors = []

    def add(self, tensor):
        """Make a tensor's memory known; returns the address that the kernel gets for it."""
        self.tensors.append(Tensor(tensor, len(self.tensors)))
        return self.tensors[-1].base

    def find(self, at):
        index = (int(at) >> RANGE) - 1
        if not 0 <= index < len(self.tensors):
            raise OutOfBounds(0, f"address {int(at):#x}, which is in no tensor")
        return self.tensors[index]

    def load(self, at, size):
        """The words of `size` bytes at addresses, (n,)."""
        (first, last) = (int(at.min()) >> RANGE, int(at.max()) >> RANGE)
        if first == last:
            tensor = self.find(at[0])
            return tensor.words[size].take(tensor.locate(at, size))
        out = np.empty(len(at), WORDS[size])  # threads that read from several tensors
        for index in np.unique(at >> RANGE):
            lanes = at >> RANGE == index
            out[lanes] = self.load(at[lanes], size)
        return out

    def store(self, at, words):
        for index in np.unique(at >> RANGE):
            lanes = at >> RANGE == index
            tensor = self.find(at[lanes][0])
            tensor.words[words.itemsize][tensor.locate(at[lanes], words.itemsize)] = words[lanes]


class Shared:
    """The shared memory of a program; it begins as NaN."""

    def __init__(self, size):
        self.bytes = np.full(-(-size // 16) * 16, 0xFF, U8)
        self.words = {size: self.bytes.view(word) for size, word in WORDS.items()}

    def locate(self, at, size):
        if at.min() < 0 or at.max() + size > len(self.bytes):
            lane = int(np.flatnonzero((at < 0) | (at + size > len(self.bytes)))[0])
            raise OutOfBounds(lane, f"{size} bytes at {at[lane]} of shared memory, which has {len(self.bytes)}")
        return at >> (size.bit_length() - 1)

    def load(self, at, size):
        return self.words[size].take(self.locate(at, size))

    def store(self, at, words):
        self.words[words.itemsize][self.locate(at, words.itemsize)] = words


def check_aligned(at, size):
    """Raise OutOfBounds if an address is no multiple of the size: a GPU stops there."""
    if size > 1 and int(np.bitwise_or.reduce(at)) & (size - 1):
        lane = int(np.flatnonzero(at & (size - 1))[0])
        raise OutOfBounds(lane, f"address {int(at[lane]):#x}, which is no multiple of {size}")


def active(program, x):
    """The values of the threads that are active."""
    return x if program.mask is None else x[program.mask]


# --------------------------------------------------------------------------------------------- ld, st


def _shape(opcode):
    """(dtype of a number, how many numbers) that a load or a store moves: "ld.global.v4.b32" -> (uint32, 4)."""
    parts = opcode.split(".")
    count = next((int(part[1:]) for part in parts if part in ("v2", "v4", "v8")), 1)
    return TYPES[parts[-1]], count


def load(instruction, kernel):
    """ld.global and ld.shared."""
    target, source = instruction.operands
    dtype, count = _shape(instruction.opcode)
    size = dtype.itemsize * count
    at_of, names = address(kernel, source), vector(target)
    puts = [write(kernel, name) for name in names]
    space = "shared" if ".shared" in instruction.opcode else "memory"
    wide = np.dtype(f"{dtype.kind}{kernel.registers[names[0]][1]}")  # of the registers, which may be wider

    def step(program):
        at = active(program, at_of(program))
        check_aligned(at, size)
        words = getattr(program, space).load(at, size)
        numbers = words.view(dtype).reshape(-1, count) if count > 1 else words.view(dtype)[:, None]
        for i, put in enumerate(puts):
            x = np.ascontiguousarray(numbers[:, i])
            put(program, _spread(program, x if wide is dtype else x.astype(wide)))

    return step


def _spread(program, x):
    """Values of the active threads as one of each thread."""
    if program.mask is None:
        return x
    whole = np.zeros(len(program.mask), x.dtype)
    whole[program.mask] = x
    return whole


def store(instruction, kernel):
    """st.global and st.shared."""
    target, source = instruction.operands
    dtype, count = _shape(instruction.opcode)
    size = dtype.itemsize * count
    at_of, sources = address(kernel, target), [read(kernel, name, UNSIGNED[dtype.itemsize]) for name in vector(source)]
    space = "shared" if ".shared" in instruction.opcode else "memory"

    def step(program):
        at = active(program, at_of(program))
        check_aligned(at, size)
        numbers = [active(program, x(program)) for x in sources]
        words = np.stack(numbers, axis=1).view(WORDS[size])[:, 0] if count > 1 else numbers[0]
        getattr(program, space).store(at, words)

    return step


def load_parameter(instruction, kernel):
    """ld.param: what the kernel was called with, the same in all threads."""
    target = instruction.operands[0]
    put, width = write(kernel, target), kernel.registers[target][1]
    index, _ = kernel.parameters[instruction.operands[1].strip("[] ")]
    dtype = TYPES[instruction.opcode.rpartition(".")[2]]

    def step(program):
        value = program.arguments[index]
        bits = int(np.float32(value).view(U32)) if isinstance(value, float) else int(value)
        bits = np.full(kernel.threads, bits % 2 ** (8 * dtype.itemsize), UNSIGNED[dtype.itemsize])
        put(program, bits.view(dtype).astype(f"{dtype.kind}{width}"))  # the register may be wider

    return step


# ------------------------------------------------------------------------------------------------ cp.async


def copy(instruction, kernel):
    """cp.async.ca/cg.shared.global [to], [from], bytes, bytes that are read; the others become zeros."""
    to, source, size, *used = instruction.operands
    size = number(size)
    to_of, from_of = address(kernel, to), address(kernel, source)
    used_of = read(kernel, used[0], U32) if used else None

    def step(program):
        to, source = active(program, to_of(program)), active(program, from_of(program))
        check_aligned(to, size)
        check_aligned(source, size)
        used = active(program, used_of(program)) if used_of else np.full(len(to), size, U32)
        data = np.zeros((len(to), size), U8)
        if (some := used > 0).any():
            data[some] = program.memory.load(source[some], size).view(U8).reshape(-1, size)
        data[np.arange(size) >= used[:, None]] = 0
        words = data.view(WORDS[size])[:, 0]
        if program.late:
            program.shared.store(to, np.full((len(to), size), 0xFF, U8).view(WORDS[size])[:, 0])
            program.copies.add(lambda: program.shared.store(to, words))
        else:
            program.shared.store(to, words)

    return step


class Groups:
    """What is under way: things to do, in groups, oldest first. `wait(n)` does all but the n newest groups."""

    def __init__(self):
        self.open, self.groups = [], []

    def add(self, action):
        self.open.append(action)

    def commit(self):
        self.groups.append(self.open)
        self.open = []

    def wait(self, pending):
        while len(self.groups) > pending:
            for action in self.groups.pop(0):
                action()

    def __bool__(self):
        return bool(self.open or any(self.groups))


def commit(name):
    return lambda instruction, kernel: lambda program: getattr(program, name).commit()


def wait(name):
    def build(instruction, kernel):
        pending = number(instruction.operands[0])
        return lambda program: getattr(program, name).wait(pending)

    return build


def wait_all(instruction, kernel):
    def step(program):
        program.copies.commit()
        program.copies.wait(0)

    return step


# -------------------------------------------------------------------------------- ldmatrix, stmatrix


def _matrices(instruction):
    """(how many 8 x 8 matrices of 16 bit numbers, whether they are transposed)."""
    parts = instruction.opcode.split(".")
    return next(int(part[1:]) for part in parts if part in ("x1", "x2", "x4")), "trans" in parts


def load_matrix(instruction, kernel):
    """ldmatrix: rows of matrix j are at addresses of lanes 8j ...; lane i gets row i // 4, columns 2 (i % 4) ..."""
    count, transposed = _matrices(instruction)
    puts, at_of = (
        [write(kernel, name) for name in vector(instruction.operands[0])],
        address(kernel, instruction.operands[1]),
    )
    warps = kernel.threads // 32

    def step(program):
        at = np.ascontiguousarray(at_of(program).reshape(warps, 32)[:, : 8 * count]).ravel()
        check_aligned(at, 16)
        matrices = program.shared.load(at, 16).view(U16).reshape(warps, count, 8, 8)
        if transposed:
            matrices = np.ascontiguousarray(matrices.swapaxes(2, 3))
        lanes = matrices.view(U32).reshape(warps, count, 32)
        for j, put in enumerate(puts):
            put(program, lanes[:, j].reshape(-1))

    return step


def store_matrix(instruction, kernel):
    """stmatrix: the reverse."""
    count, transposed = _matrices(instruction)
    at_of, sources = (
        address(kernel, instruction.operands[0]),
        [read(kernel, x, U32) for x in vector(instruction.operands[1])],
    )
    warps = kernel.threads // 32

    def step(program):
        at = np.ascontiguousarray(at_of(program).reshape(warps, 32)[:, : 8 * count]).ravel()
        check_aligned(at, 16)
        lanes = np.stack([x(program).reshape(warps, 32) for x in sources], axis=1)  # (warps, matrices, 32)
        matrices = lanes.view(U16).reshape(warps, count, 8, 8)
        if transposed:
            matrices = np.ascontiguousarray(matrices.swapaxes(2, 3))
        program.shared.store(at, matrices.reshape(-1, 8).view(WORDS[16])[:, 0])

    return step


BUILDERS = {
    "ld.param": load_parameter,
    "ld.global": load,
    "ld.shared": load,
    "st.global": store,
    "st.shared": store,
    "cp.async.ca.shared.global": copy,
    "cp.async.cg.shared.global": copy,
    "cp.async.commit_group": commit("copies"),
    "cp.async.wait_group": wait("copies"),
    "cp.async.wait_all": wait_all,
    "ldmatrix": load_matrix,
    "stmatrix": store_matrix,
}
