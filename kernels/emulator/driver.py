"""The emulator as a GPU of Triton: inside `emulating(90)` it runs kernels that are launched on CPU tensors."""

import contextlib
import types
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.driver import make_tensordesc_arg

from miniclip.errors import InputError
from miniclip.kernels import offline
from miniclip.kernels.device import INTERPRETING, replaced
from miniclip.kernels.emulator import program
from miniclip.kernels.emulator.errors import EmulatorError

CAPABILITIES = (80, 86, 89, 90)
SWIZZLES = (0, 32, 64, 128)  # bytes, by the code that Triton gives to tensor maps


@contextlib.contextmanager
def emulating(capability=90, *, late=True, truncate=False, trace=None, edit=None):
    """In the block, kernels launched on CPU tensors are compiled for a compute capability, and run by the emulator.

    Yields the list of what was run so far, a `program.Launch` each. late, truncate and trace are as of `program.run`;
    edit is a function of the PTX that was compiled, a text, that gives what is run instead, to see what is missed.
    Raises InputError for a capability that it does not have, and if Triton interprets.
    """
    if capability not in CAPABILITIES:
        raise InputError(f"the emulator has compute capabilities {', '.join(map(str, CAPABILITIES))}, not {capability}")
    if INTERPRETING:
        raise InputError("TRITON_INTERPRET=1 is set, so nothing would be compiled: unset it before Python starts")
    launches = []
    driver = _Driver(capability, launches, edit, {"late": late, "truncate": truncate, "trace": trace})

    def loaded(module, function, name, files, key):
        if function is not None:  # of `offline`
            function.files.update({Path(path).suffix: str(path) for path in files.values()})

    with replaced(driver, loaded):
        yield launches


class _Driver:
    """The part of Triton's driver interface that a launch uses."""

    runs_on_cpu = True  # see `device.emulating`

    def __init__(self, capability, launches, edit, options):
        self.capability, self.launches, self.edit, self.options = capability, launches, edit, options
        self.utils = types.SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": offline.TARGETS[capability].shared << 10},
            # module, function, registers, spills, most threads; the hook fills in the function's files
            load_binary=lambda name, binary, shared, device: (1, types.SimpleNamespace(files={}), 0, 0, 1024),
        )

    def launcher_cls(self, source, metadata):
        """A function that is called for each launch. Triton keeps it, also for later blocks with another driver."""

        def launch(x, y, z, stream, function, *rest):
            arguments = rest[4:]  # after metadata and hooks
            driver = triton.runtime.driver.active
            text = Path(function.files[".ptx"]).read_text()
            text = driver.edit(text) if driver.edit else text
            driver.launches.append(
                program.run(
                    program.parsed(text), list(_arguments(source, metadata, arguments)), (x, y, z),
                    shared=max(16, metadata.shared), files=function.files, **driver.options,
                )
            )  # fmt: skip

        return launch

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return f"emulator {self.capability}"  # kernels are cached by device: these are not `offline`'s

    def get_current_stream(self, device):
        return 0


def _arguments(source, metadata, arguments):
    """The parameters of a compiled kernel: no constants, and for a tensor descriptor a map, a shape and strides."""
    maps = iter(getattr(metadata, "tensordesc_meta", None) or [])
    for kind, x in zip(source.signature.values(), arguments):
        if kind == "constexpr":
            continue
        parts = [x]
        if kind.startswith("tensordesc"):
            if x.padding != "zero":
                raise EmulatorError(f"the copy engine of the emulator pads with zeros, not with {x.padding}")
            meta = next(maps, None)  # None: before 9.0 there is no copy engine, and the kernel loads by itself
            box = meta and (x.base, meta["block_size"], SWIZZLES[meta["swizzle"]])
            parts = [box, *x.shape, *x.strides] if box else make_tensordesc_arg(x, None)
        yield from (int(part) if isinstance(part, bool) else part for part in parts)
