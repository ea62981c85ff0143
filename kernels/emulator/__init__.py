"""An emulator of NVIDIA GPUs: runs what Triton compiles, PTX, on the CPU, to see what it computes.

    with emulator.emulating(90) as launches:
        triton_ops.attention(q, k, v)  # tensors of the CPU, bfloat16 too
    print(launches[0].counts.most_common(5))

| file | what it has |
|---|---|
| ptx.py | a text to instructions |
| operands.py, floats.py | registers, constants and addresses; formats of numbers |
| program.py | the threads of a program, branches, and `run` |
| arithmetic.py | instructions that compute in registers: the largest table |
| conversions.py | from one type to another |
| exchanges.py | between the threads of a warp |
| memory.py | tensors with bounds, shared memory, loads, stores, cp.async, ldmatrix |
| matrix.py | the matrix units: mma.sync and wgmma |
| tma.py | the copy engine, and its barriers |
| driver.py | the emulator as a GPU of Triton: `emulating` |

It is strict where a GPU is merely lucky. Registers and shared memory begin as NaN; what is asynchronous arrives as
late as the ISA allows, and its place is NaN until then; an address beyond its own tensor's ends is an error. It runs
what Triton makes of these kernels for compute capabilities 8.0, 8.6, 8.9 and 9.0, not all of PTX.

It cannot see races between warps, since no warp runs ahead of the others between two barriers; it forgets fences; and
it has no clock.
"""

from miniclip.kernels.emulator.driver import emulating as emulating
from miniclip.kernels.emulator.errors import EmulatorError as EmulatorError
from miniclip.kernels.emulator.program import Launch as Launch
from miniclip.kernels.emulator.program import run as run
