"""A model of the multiprocessors of an H100 or H200: how many cycles a compiled kernel takes, without a GPU.

    with offline.compiling(90) as kernels:
        triton_ops.attention(*torch.empty(3, 256, 50, 12, 64, dtype=torch.bfloat16, device="meta"))
    print(estimate(kernels[0], H200))

What it is good for: comparing two versions of a kernel, which issues less and which waits less, and seeing what bounds
one. Its times are good to perhaps 25%, and they are no measurement: never claim a speed with them. Launching, and the
end of the last programs, 3 to 4 µs together, are not in them.

    sass        reads machine code: instructions, and what the assembler says of each
    integers    what its integer instructions compute
    threads     executes these: the way that each program takes, and what it loads and stores
    costs       what each instruction costs
    processor   issues the instructions of the programs on one multiprocessor
    grid        the time of a launch

`python -m miniclip.kernels.cycles attention T=197` prints it for every version of a kernel.
"""

from miniclip.kernels.cycles.costs import H100, H200
from miniclip.kernels.cycles.grid import Result, estimate

__all__ = ["H100", "H200", "Result", "estimate"]
