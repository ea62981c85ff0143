"""A GPU that compiles kernels and never runs them: what a kernel costs on a machine that is not there.

Inside `compiling(90)` every launch on tensors of the device "meta" is compiled for that compute capability, exactly as
it would be there (same specialisation on alignment and values), its machine code is read, and nothing is run:

    with offline.compiling(90) as kernels:
        triton_ops.attention(*torch.empty(3, 256, 50, 12, 64, dtype=torch.bfloat16, device="meta"))
    print(kernels[0])

Needs Triton, which carries the assembler and disassembler, and no GPU.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import re
import subprocess
import types
from functools import partial
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget

from miniclip.kernels import activation, linear, triton_ops
from miniclip.kernels.device import INTERPRETING

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes a program may have (CUDA C++ guide, table 30)
MATRIX = r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)\b"  # instructions of the matrix units, from sm_80, 90 and 100 on


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One kernel as compiled.

    registers  of a thread; up to 255
    local      bytes of local memory of a thread: what does not fit into registers is spilled there
    shared     bytes of shared memory of a program
    warps      of 32 threads, in a program
    matrix     {instruction of the matrix units: how often it is in the code}
    """

    name: str
    capability: int
    registers: int
    local: int
    shared: int
    warps: int
    matrix: dict

    @property
    def programs_per_processor(self):
        """How many run at once on a multiprocessor: it has 32 places, 64 warps, 65,536 registers and shared memory."""
        registers = -(-self.registers // 8) * 8 * 32 * self.warps  # handed out by eights
        shared = (SHARED_MEMORY[self.capability] + 1024) // (self.shared + 1024)  # each program takes 1 KB more
        return min(32, 64 // self.warps, 65536 // registers, shared)


@contextlib.contextmanager
def compiling(capability):
    """Put the GPU that is not there in the place of the driver; yields the list of what gets compiled."""
    kernels = []

    def loaded(module, function, name, files, key):
        kernels.append(_read({Path(path).suffix: Path(path) for path in files.values()}, capability))

    active = triton.runtime.driver._active
    triton.runtime.driver.set_active(_Driver(capability))
    triton.knobs.runtime.kernel_load_end_hook.add(loaded)
    try:
        yield kernels
    finally:
        triton.knobs.runtime.kernel_load_end_hook.remove(loaded)
        triton.runtime.driver._active = active


class _Driver:
    """As much of Triton's driver interface as a launch touches."""

    def __init__(self, capability):
        self.capability = capability
        self.utils = types.SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": SHARED_MEMORY[capability]},
            # module (none: so that every launch loads, and is seen), function, registers, spills, threads at most
            load_binary=lambda name, binary, shared, device: (None, None, 0, 0, 1024),
        )

    def launcher_cls(self, source, metadata):
        """Called once for each new kernel; what it returns is called for each launch."""
        return lambda *arguments: None

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return self.capability  # kernels are cached by device: one for each capability

    def get_current_stream(self, device):
        return 0


def _read(files, capability):
    metadata = json.loads(files[".json"].read_text())
    dump = subprocess.run(
        [CUOBJDUMP, "--dump-resource-usage", files[".cubin"]], capture_output=True, text=True, check=True
    )
    used = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", dump.stdout)}
    return Compiled(
        name=metadata["name"],
        capability=capability,
        registers=used["REG"],
        local=used["STACK"] + used["LOCAL"],
        shared=metadata["shared"],
        warps=metadata["num_warps"],
        matrix=dict(collections.Counter(re.findall(MATRIX, files[".ptx"].read_text()))),
    )


# ------------------------------------------------------------------------------------- what ships, compiled


def launches(dtype):
    """{what: a function that launches it} for the kernels at CLIP's shapes, on tensors of the device "meta"."""
    empty = partial(torch.empty, dtype=dtype, device="meta")
    ends = torch.empty(256, dtype=torch.int64, device="meta")

    def qkv(T, H, Tq=None, K=64):
        return empty(256, Tq or T, H, K), *empty(256, T, 3, H, K).unbind(2)[1:]

    def norm(D):
        return empty(12800, D), empty(D), empty(D)

    def product(M, D):
        return empty(M, D), empty(4 * D, D), empty(4 * D)

    def patches(P, size, D):
        return empty(256, 3, size, size), empty(D, 3, P, P), empty(D), empty((size // P) ** 2 + 1, D)

    attention = triton_ops.attention
    return {
        **{f"attention T={T}": partial(attention, *qkv(T, 12)) for T in (50, 197, 257, 577)},
        **{f"attention T={T} causal": partial(attention, *qkv(T, 8), causal=True) for T in (16, 32, 48, 64, 77)},
        **{f"attention T={T}, one query": partial(attention, *qkv(T, 12, 1)) for T in (50, 197, 257, 577)},
        **{f"attention T={T}, the end's query": partial(attention, *qkv(T, 8, 1), lengths=ends) for T in (16, 77)},
        **{f"attention T={T} K={K}": partial(attention, *qkv(T, 8, K=K)) for T, K in ((37, 32), (257, 80), (50, 128))},
        **{
            f"attention T={T} causal K={K}": partial(attention, *qkv(T, 8, K=K), causal=True)
            for T, K in ((32, 32), (77, 80))
        },
        **{f"layer norm D={D}": partial(triton_ops.layer_norm, *norm(D), eps=1e-5) for D in (512, 768, 1024)},
        **{
            f"sum and layer norm D={D}": partial(triton_ops.add_layer_norm, empty(12800, D), *norm(D), eps=1e-5)
            for D in (512, 768, 1024)
        },
        **{
            f"linear M={M} {name}": partial(linear.linear, *product(M, 768), name)
            for M in (50, 800, 12800)
            for name in activation.NAMES
        },
        **{name: partial(triton_ops.ACTIVATIONS[name], empty(12800, 3072)) for name in activation.NAMES},
        "bias, residual and relu": partial(
            activation.bias_activation, empty(802816, 256), empty(256), "relu", residual=empty(802816, 256)
        ),
        **{
            f"patches P={P}": partial(triton_ops.patch_embed, *patches(P, size, D))
            for P, size, D in ((8, 48, 128), (14, 336, 1024), (16, 224, 768), (32, 224, 768))
        },
        "similarity": partial(triton_ops.similarity, empty(256, 512), empty(1000, 512), empty(())),
    }


def shipped(capability):
    """Every kernel at CLIP's shapes and some others, with the tiles that ship: (what, dtype's name, Compiled) each."""
    for name in triton_ops.DTYPES:
        for what, launch in launches(getattr(torch, name)).items():
            with compiling(capability) as kernels:
                launch()
            for kernel in kernels:
                yield what, name, kernel


def main():
    parser = argparse.ArgumentParser(
        prog="python -m miniclip.kernels.offline",
        description="What each kernel that ships is compiled to, one JSON object a line. Takes about a minute each.",
    )
    parser.add_argument("capabilities", nargs="+", type=int, choices=SHARED_MEMORY, metavar="80|90|100")
    options = parser.parse_args()
    if INTERPRETING:
        parser.error("TRITON_INTERPRET=1 is set: then nothing is compiled")
    for capability in options.capabilities:
        for what, dtype, kernel in shipped(capability):
            facts = {"what": what, "dtype": dtype, **dataclasses.asdict(kernel)}
            print(json.dumps({**facts, "programs": kernel.programs_per_processor}), flush=True)


if __name__ == "__main__":
    main()
