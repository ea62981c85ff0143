"""The copy engine (TMA): boxes of a tensor to shared memory and back, and the barriers that say when they have come.

A tensor map describes an array: where it is, its shape and strides, the box that is copied at once, and the swizzle of
its place in shared memory. One thread orders a box by its coordinates; what is beyond the array's ends is zeros, and
is not written. A load ends at a barrier in shared memory (mbarrier): it counts arrivals and bytes, and each time both
are complete its phase changes, which `try_wait.parity` looks at.

A load arrives when the barrier is looked at, its place is NaN until then; a store reads shared memory when it is
waited for. (PTX ISA, sections 9.7.9.27 and 9.7.13.15; CUDA Driver API, cuTensorMapEncodeTiled.)
"""

import numpy as np

from miniclip.kernels.emulator.errors import EmulatorError
from miniclip.kernels.emulator.matrix import swizzled
from miniclip.kernels.emulator.memory import active, commit, wait
from miniclip.kernels.emulator.operands import PARAMETER, S32, S64, U8, U32, address, read, vector, write

PATIENCE = 10_000  # times that threads look at a barrier before they are said to wait forever


class TensorMap:
    """A tensor, the box of it (numbers along each axis) that is copied at once, and its swizzle: 0, 32, 64 or 128."""

    def __init__(self, tensor, box, swizzle):
        """tensor: a `memory.Tensor`."""
        self.tensor, self.box, self.swizzle = tensor, tuple(box), swizzle
        array = tensor.owner
        self.shape = tuple(array.shape)
        self.size = array.element_size() if hasattr(array, "element_size") else array.itemsize
        strides = array.stride() if hasattr(array, "stride") else [step // self.size for step in array.strides]
        self.strides = [step * self.size for step in strides]

    @property
    def bytes(self):
        return int(np.prod(self.box)) * self.size

    def places(self, start, to):
        """Of a box at coordinates `start`: (bytes' indices in the tensor, in shared memory, whether they exist)."""
        axes = np.ogrid[tuple(slice(n) for n in self.box)]  # a number's place in the box, along each axis
        exists, at, within = True, 0, 0
        for place, first, n, step, size in zip(axes, start, self.shape, self.strides, self.box):
            exists = exists & (first + place >= 0) & (first + place < n)
            at, within = at + (first + place) * step, within * size + place
        of_number = np.arange(self.size)
        at = self.tensor.base % 256 + at[..., None] + of_number
        within = to + within[..., None] * self.size + of_number
        exists = np.broadcast_to(np.asarray(exists)[..., None], at.shape)
        return np.where(exists, at, 0), swizzled(within, self.swizzle), exists

    def load(self, shared, start, to):
        at, within, exists = self.places(start, to)
        shared[within] = np.where(exists, self.tensor.words[1].take(at), 0).astype(U8)

    def store(self, shared, start, source):
        at, within, exists = self.places(start, source)
        self.tensor.words[1][at[exists]] = shared[within[exists]]


class Barrier:
    """An mbarrier: how many arrivals it counts, those and the bytes that are missing in this phase."""

    def __init__(self, count):
        self.count = self.missing = count
        self.bytes = self.phase = self.looks = 0
        self.loads = []  # [(bytes, function)]: those that have not arrived

    def arrive(self, bytes=0):
        self.bytes += bytes
        self.missing -= 1
        self.turn()

    def look(self):
        """Let what is under way arrive."""
        for size, load in self.loads:
            load()
            self.bytes -= size
        self.loads = []
        self.turn()

    def turn(self):
        if self.missing == 0 and self.bytes == 0:
            self.phase, self.missing, self.looks = self.phase ^ 1, self.count, 0


def each_thread(program, threads):
    """The threads that are active."""
    return range(threads) if program.mask is None else np.flatnonzero(program.mask)


def _map_and_start(kernel, operand):
    """ "[%rd3, {%r61, %r1882}]" -> functions of a program and a thread: the tensor map, and its coordinates."""
    name, _, coordinates = operand.strip("[] ").partition(",")
    map_of, of_axes = read(kernel, name.strip(), S64), [read(kernel, x, S32) for x in vector(coordinates.strip())]

    def find(program, thread):
        index = int(map_of(program)[thread]) - PARAMETER
        return program.arguments[index], [int(x(program)[thread]) for x in reversed(of_axes)]

    return find


def load(instruction, kernel):
    """cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [to], [map, {x, y}], [barrier]."""
    to_of, barrier_of = address(kernel, instruction.operands[0]), address(kernel, instruction.operands[2])
    find = _map_and_start(kernel, instruction.operands[1])

    def step(program):
        shared = program.shared.bytes
        for thread in each_thread(program, kernel.threads):
            tensor_map, start = find(program, thread)
            to, barrier = int(to_of(program)[thread]), _barrier(program, barrier_of(program)[thread])
            if to % 128 or to + tensor_map.bytes > len(shared):
                raise EmulatorError(f"a box of {tensor_map.bytes} bytes cannot begin at {to} of shared memory")
            arrive = lambda load=tensor_map.load, start=start, to=to: load(shared, start, to)  # noqa: E731
            barrier.loads.append((tensor_map.bytes, arrive))
            if program.late:
                shared[to : to + tensor_map.bytes] = 0xFF
            else:
                barrier.look()

    return step


def store(instruction, kernel):
    """cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [map, {x, y}], [from]."""
    find, from_of = _map_and_start(kernel, instruction.operands[0]), address(kernel, instruction.operands[1])

    def step(program):
        shared = program.shared.bytes
        for thread in each_thread(program, kernel.threads):
            tensor_map, start = find(program, thread)
            source = int(from_of(program)[thread])
            write = lambda store=tensor_map.store, start=start, at=source: store(shared, start, at)  # noqa: E731
            if program.late:
                program.stores.add(write)
            else:
                write()

    return step


def _barrier(program, at):
    if int(at) not in program.barriers:
        raise EmulatorError(f"there is no barrier at {int(at)} of shared memory: mbarrier.init makes one")
    return program.barriers[int(at)]


def initialise(instruction, kernel):
    at_of, count_of = address(kernel, instruction.operands[0]), read(kernel, instruction.operands[1], U32)

    def step(program):
        for thread in each_thread(program, kernel.threads):
            program.barriers[int(at_of(program)[thread])] = Barrier(int(count_of(program)[thread]))

    return step


def invalidate(instruction, kernel):
    at_of = address(kernel, instruction.operands[0])

    def step(program):
        for thread in each_thread(program, kernel.threads):
            program.barriers.pop(int(at_of(program)[thread]), None)

    return step


def arrive(instruction, kernel):
    """mbarrier.arrive, and .arrive.expect_tx, which adds to the bytes that the phase waits for."""
    _, at, *bytes_ = instruction.operands
    at_of = address(kernel, at)
    bytes_of = read(kernel, bytes_[0], U32) if "expect_tx" in instruction.opcode else None

    def step(program):
        for thread in each_thread(program, kernel.threads):
            _barrier(program, at_of(program)[thread]).arrive(int(bytes_of(program)[thread]) if bytes_of else 0)

    return step


def try_wait(instruction, kernel):
    """mbarrier.try_wait.parity %p1, [barrier], parity: whether the phase of that parity is complete."""
    target, at, parity = instruction.operands[:3]
    put, at_of, parity_of = write(kernel, target), address(kernel, at), read(kernel, parity, U32)

    def step(program):
        at, parity = at_of(program), parity_of(program) & 1
        done = np.zeros(kernel.threads, bool)
        for place in np.unique(active(program, at)):
            barrier = _barrier(program, place)
            barrier.look()
            done |= (at == place) & (parity != barrier.phase)
            barrier.looks += 1
            if barrier.looks > PATIENCE:
                missing = f"{barrier.missing} arrivals and {barrier.bytes} bytes are missing"
                raise EmulatorError(f"the program waits forever for a barrier: {missing}")
        put(program, done)

    return step


def nothing(instruction, kernel):
    return lambda program: None


BUILDERS = {
    **{f"cp.async.bulk.tensor.{n}d.shared::{place}.global": load for n in range(1, 6) for place in ("cta", "cluster")},
    **{f"cp.async.bulk.tensor.{n}d.global.shared::cta": store for n in range(1, 6)},
    "cp.async.bulk.commit_group": commit("stores"),
    "cp.async.bulk.wait_group": wait("stores"),
    "mbarrier.init": initialise,
    "mbarrier.inval": invalidate,
    "mbarrier.arrive": arrive,
    "mbarrier.try_wait": try_wait,
    "mbarrier.test_wait": try_wait,
    "fence": nothing,  # orders memory, which is always in order here
    "prefetch.tensormap": nothing,
}
