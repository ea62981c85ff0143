"""A GPU that compiles kernels and never runs them: what a kernel costs on a machine that is not there.

Inside `compiling(90)` every launch on tensors of the device "meta" is compiled for that compute capability, exactly as
it would be there (same specialisation on alignment and values), its machine code is read, and nothing is run:

    with offline.compiling(90) as kernels:
        triton_ops.attention(*torch.empty(3, 256, 50, 12, 64, dtype=torch.bfloat16, device="meta"))
    print(kernels[0])  # name, registers, stack, spills, matrix instructions, shared memory

Needs Triton, which carries the assembler and disassembler, and no GPU.
"""

import collections
import contextlib
import dataclasses
import re
import subprocess
import tempfile
import types
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes a program may have (CUDA C++ guide, table 30)


MATRIX = ("HMMA", "HGMMA", "UTCHMMA")  # the matrix units' instructions of sm_80, sm_90 and sm_100


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One kernel as compiled: `spills` counts loads and stores of local memory, `matrix` the instructions by name."""

    name: str
    capability: int
    registers: int
    stack: int
    spills: int
    shared: int
    warps: int
    matrix: dict

    @property
    def programs_per_processor(self):
        """How many run at once on one multiprocessor: 64 warps, 64K registers and its shared memory are the limits."""
        registers = -(-self.registers // 8) * 8 * 32 * self.warps  # handed out by eights
        return min(
            64 // self.warps, 65536 // registers, (SHARED_MEMORY[self.capability] + 1024) // (self.shared + 1024)
        )


@contextlib.contextmanager
def compiling(capability):
    """Put the GPU that is not there in the place of the driver; yields the list of what gets compiled."""
    kernels = []
    active = triton.runtime.driver._active
    triton.runtime.driver.set_active(_Driver(capability, kernels))
    try:
        yield kernels
    finally:
        triton.runtime.driver._active = active


class _Driver:
    """As much of Triton's driver interface as a launch touches."""

    def __init__(self, capability, kernels):
        self.capability, self.kernels = capability, kernels
        self.utils = types.SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": SHARED_MEMORY[capability]},
            load_binary=self.load_binary,
        )

    def launcher_cls(self, source, metadata):
        """Called once for each new kernel, before its binary is loaded; what it returns is called for each launch."""
        self.metadata = metadata
        return lambda *arguments: None

    def load_binary(self, name, binary, shared, device):
        self.kernels.append(_read(binary, self.metadata, self.capability))
        return None, None, 0, 0, 1024  # module, function, registers, spills, threads at most

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return self.capability  # kernels are cached by device: one for each capability

    def get_current_stream(self, device):
        return 0


def _read(binary, metadata, capability):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage, code = (
            subprocess.run([TOOLS / "cuobjdump", option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "--dump-sass")
        )
    instructions = collections.Counter(re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\d\s+)?(\w+)", code, re.MULTILINE))
    used = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", usage)}
    return Compiled(
        name=metadata.name,
        capability=capability,
        registers=used["REG"],
        stack=used["STACK"],
        spills=instructions["LDL"] + instructions["STL"],
        shared=metadata.shared,
        warps=metadata.num_warps,
        matrix={name: count for name, count in instructions.items() if name in MATRIX},
    )
