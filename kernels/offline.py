"""Compiles kernels for a GPU that this machine does not have, and reads what they cost there. Nothing is run.

Inside `compiling(90)` every launch on tensors of the device "meta" is compiled for that compute capability, exactly as
on such a GPU (same specialisation on alignment and values), and its machine code is read:

    with offline.compiling(90) as kernels:
        triton_ops.attention(*torch.empty(3, 256, 50, 12, 64, dtype=torch.bfloat16, device="meta"))
    print(kernels[0])

It needs Triton, whose package has an assembler and a disassembler, and no GPU.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import json
import os
import re
import subprocess
import types
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas

from miniclip.kernels import triton_ops
from miniclip.kernels.cycles import sass
from miniclip.kernels.device import INTERPRETING, replaced
from miniclip.kernels.ladder import describe
from miniclip.kernels.table import KERNELS

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
# What the assembler says where it makes asynchronous products wait for each other.
WARNING = r"\(C75\d\d\) Potential Performance Loss: .*"
# Instructions of the matrix units: NVIDIA's, from sm_80, 90 and 100 on; and AMD's, of Instincts and of the others.
MATRIX = r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma|v_mfma_\w+|v_wmma_\w+)"


class Target(NamedTuple):
    """Facts of a GPU. A processor is NVIDIA's multiprocessor, or AMD's compute unit."""

    name: str
    shared: int  # KB of shared memory that a program may have
    all_shared: int = 0  # KB that the programs of a processor have together; 0: as much as one
    warps: int = 64  # that are on a processor at once
    programs: int = 32  # that are on a processor at once
    registers: int = 65536  # of a processor; a program takes as many as its threads take together
    step: int = 8  # a thread gets a multiple of this
    lanes: int = 32  # threads of a warp

    @property
    def reserved(self):
        """KB of shared memory that each program takes beside its own."""
        return max(0, self.all_shared - self.shared)


# NVIDIA: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". AMD: LLVM, AMDGPUBaseInfo.cpp:
# registers (getTotalNumVGPRs, times lanes and the 4 or 2 units of a processor) and warps (getMaxWavesPerEU).
TARGETS = {
    80: Target("A100", 163, 164),
    86: Target("RTX 3090", 99, 100, warps=48, programs=16),
    89: Target("RTX 4090, L4", 99, 100, warps=48, programs=24),
    90: Target("H100, H200", 227, 228),
    100: Target("B200", 227, 228),
    103: Target("B300", 227, 228),
    120: Target("RTX 5090", 99, 100, warps=48, programs=24),
    "gfx942": Target("MI300X", 64, warps=32, registers=4 * 512 * 64, lanes=64),
    "gfx950": Target("MI355X", 160, warps=32, registers=4 * 512 * 64, lanes=64),
    "gfx1201": Target("RX 9070", 64, warps=32, registers=2 * 1536 * 32, step=24),
}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One compiled kernel, and what it costs.

    capability what it is compiled for, a key of TARGETS
    registers  of a thread
    local      bytes of local memory of a thread: registers are spilled there if there are too few
    shared     bytes of shared memory of a program
    warps      of a program
    matrix     {instruction of the matrix units: how often it is in the code}
    warnings   what NVIDIA's assembler says of lost performance
    files      {".ptx", ".cubin", ".json", ...: the path of what Triton made}
    grid       how many programs were launched, along x, y and z
    arguments  what they were launched with: integers, and None for what is not one; constants left out
    """

    name: str
    capability: int | str
    registers: int
    local: int
    shared: int
    warps: int
    matrix: dict
    warnings: list
    files: dict
    grid: tuple = ()
    arguments: tuple = ()

    @property
    def code(self):
        """The machine code, `sass.Code`."""
        return sass.read(self.files[".cubin"])

    @property
    def instructions(self):
        """How many instructions the machine code has."""
        return len(self.code.instructions)

    @property
    def programs_per_processor(self):
        """How many run at once on a processor, which has slots, warps, registers and shared memory for so many."""
        target = TARGETS[self.capability]
        registers = -(-self.registers // target.step) * target.step * target.lanes * self.warps
        shared = (self.shared + (target.reserved << 10)) or 1
        all_shared = (target.all_shared or target.shared) << 10
        return min(target.programs, target.warps // self.warps, target.registers // registers, all_shared // shared)


@contextlib.contextmanager
def compiling(capability):
    """Compile for a capability in the block, instead of launching; yields the list of the kernels compiled so far."""
    kernels = []

    def loaded(module, function, name, files, key):
        kernels.append(_read(tuple(sorted(files.values())), capability))

    with replaced(_Driver(capability, kernels), loaded):
        yield kernels


class _Driver:
    """A GPU that does not exist: the part of Triton's driver interface that a launch uses."""

    def __init__(self, capability, kernels):
        self.capability = capability
        self.kernels = kernels  # the last one is the one that is launched
        self.utils = types.SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": TARGETS[capability].shared << 10},
            # module (None: then every launch loads, and is seen), function, registers, spills, most threads
            load_binary=lambda name, binary, shared, device: (None, None, 0, 0, 1024),
        )

    def launcher_cls(self, source, metadata):
        """A function that is called for each launch; this method is called once for each new kernel."""

        def launch(x, y, z, stream, function, packed, launch_metadata, enter, leave, *values):
            arguments = _arguments(source.signature.values(), values)
            self.kernels[-1] = dataclasses.replace(self.kernels[-1], grid=(x, y, z), arguments=arguments)

        return launch

    def get_current_target(self):
        backend = "hip" if isinstance(self.capability, str) else "cuda"
        return GPUTarget(backend, self.capability, TARGETS[self.capability].lanes)

    def get_current_device(self):
        return self.capability  # kernels are cached by device: one for each capability

    def get_current_stream(self, device):
        return 0


def _arguments(types, values):
    """The arguments that machine code finds in constant memory, in order; a tensor's address is made up."""
    arguments = []
    for kind, value in zip(types, values):
        if kind.startswith("tensordesc"):  # the copy engine's description, which no thread reads, and these
            arguments += [None, *value.shape, *value.strides]
        elif kind.startswith("*"):
            arguments.append(len(arguments) + 1 << 40)  # far from each other
        elif kind != "constexpr":
            arguments.append(value if isinstance(value, int) else None)
    return tuple(arguments)


@functools.cache
def _read(paths, capability):
    files = {Path(path).suffix: Path(path) for path in paths}
    metadata = json.loads(files[".json"].read_text())
    code = files[".amdgcn" if ".amdgcn" in files else ".ptx"].read_text()
    return Compiled(
        name=metadata["name"],
        capability=capability,
        shared=metadata["shared"],
        warps=metadata["num_warps"],
        matrix=dict(collections.Counter(re.findall(MATRIX, code))),
        files={Path(path).suffix: path for path in paths},
        **(_amd(code) if ".amdgcn" in files else _nvidia(files, code, capability)),
    )


def _nvidia(files, ptx, capability):
    dump = subprocess.run(
        [CUOBJDUMP, "--dump-resource-usage", files[".cubin"]], capture_output=True, text=True, check=True
    )
    used = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", dump.stdout)}
    warnings = []
    if "wgmma" in ptx or "setmaxnreg" in ptx:  # Triton's own call of the assembler has its warnings, and drops them
        command = [get_ptxas(capability).path, "-v", f"--gpu-name=sm_{capability}a", files[".ptx"], "-o", os.devnull]
        warnings = re.findall(WARNING, subprocess.run(command, capture_output=True, text=True, check=True).stderr)
    return {"registers": used["REG"], "local": used["STACK"] + used["LOCAL"], "warnings": warnings}


def _amd(assembly):
    """What the metadata at the assembly's end say. Scalar registers, one number a warp, spill into vector registers."""
    used = dict(re.findall(r"\.(vgpr_count|private_segment_fixed_size): +(\d+)", assembly))
    return {"registers": int(used["vgpr_count"]), "local": int(used["private_segment_fixed_size"]), "warnings": []}


# ------------------------------------------------------------------------------------- what ships, compiled


def launches(dtype):
    """{what: a function that launches it} for each kernel of the table at the shapes that it is compiled for."""

    def new(*shape):
        return torch.empty(shape, dtype=dtype, device="meta")

    return {
        describe(name, shape): partial(kernel.ours, **kernel.inputs(new, **shape))
        for name, kernel in KERNELS.items()
        for shape in (*kernel.clip, *kernel.compiled)
    }


def shipped(capability, only=None):
    """Compile every kernel with the tiles that ship, or `only` those: yields (what, dtype's name, Compiled) each."""
    for name in triton_ops.DTYPES:
        for what, launch in launches(getattr(torch, name)).items():
            if (only is None or what in only) and KERNELS[what.split()[0]].runs_on(capability):
                with compiling(capability) as kernels:
                    launch()
                for kernel in kernels:
                    yield what, name, kernel


def main():
    parser = argparse.ArgumentParser(
        prog="python -m miniclip.kernels.offline",
        description="What each kernel that ships is compiled to, one JSON object a line. Takes about a minute each.",
    )
    names = {str(target): target for target in TARGETS}
    parser.add_argument("targets", nargs="+", choices=names, metavar="TARGET", help=", ".join(names))
    parser.add_argument("--only", nargs="+", metavar="WHAT", help='such as "attention B=256 T=50 H=12 K=64"')
    options = parser.parse_args()
    if INTERPRETING:
        parser.error("TRITON_INTERPRET=1 is set, so nothing would be compiled: unset it")
    there = launches(torch.bfloat16)
    if unknown := [what for what in options.only or () if what not in there]:
        parser.error(f"--only: nothing that ships is {'; '.join(unknown)}; there is {'; '.join(there)}")
    for target in options.targets:
        for what, dtype, kernel in shipped(names[target], options.only):
            facts = {"what": what, "dtype": dtype, **dataclasses.asdict(kernel)}
            print(json.dumps({**facts, "programs": kernel.programs_per_processor}), flush=True)


if __name__ == "__main__":
    main()
