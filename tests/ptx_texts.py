"""Small kernels in PTX, for tests of the emulator."""

import struct

import numpy as np

from miniclip.kernels import emulator

HEAD = """
.version 8.7
.target sm_90a
.address_size 64
.extern .shared .align 16 .b8 global_smem[];
.visible .entry kernel({parameters})
.reqntid {threads}
{{
.reg .pred %p<8>; .reg .b16 %rs<64>; .reg .b32 %r<320>; .reg .b64 %rd<16>;
{loads}
{lines};
ret;
}}
"""


def text(lines, tensors, threads):
    """A kernel with the addresses of its tensors, if they are no tensor maps, in %rd0, %rd10, %rd11, ..."""
    parameters = ", ".join(f".param .u64 .ptr .global .align 1 kernel_param_{i}" for i in range(len(tensors)))
    names = ["%rd0", *(f"%rd{9 + i}" for i in range(1, len(tensors)))]
    loads = "\n".join(
        f"ld.param.b64 {name}, [kernel_param_{i}];"
        for i, (name, x) in enumerate(zip(names, tensors))
        if not isinstance(x, tuple)
    )
    return HEAD.format(parameters=parameters, threads=threads, loads=loads, lines=lines.strip().rstrip(";"))


def run(lines, *tensors, threads=32, **options):
    """Run the lines on tensors; returns the Launch."""
    return emulator.run(text(lines, tensors, threads), tensors, **options)


def float_bits(x):
    return struct.unpack("I", struct.pack("f", x))[0]


def computed(lines, a, b):
    """%r0 after the lines, if %r1 and %r2 are a and b, 32 bits each."""
    inputs, out = np.array([a, b], np.uint32), np.zeros(1, np.uint32)
    run(f"ld.global.v2.b32 {{%r1, %r2}}, [%rd0]; {lines}; st.global.b32 [%rd10], %r0", inputs, out)
    return int(out[0])
