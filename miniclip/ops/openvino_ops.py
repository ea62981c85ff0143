"""NumPy's operations, with towers that OpenVINO compiles and computes on the CPU.

Arrays are ndarrays, before and after; what is no tower, such as logits, is computed by `numpy_ops`. All cores work on
the same chunk of a batch.
"""

import functools
import sys
import threading

from miniclip.ops import refuse
from miniclip.ops.compiled import Runtime, captured
from miniclip.ops.onnx_ops import *  # noqa: F403
from miniclip.runtime import cpu

# When it is imported, openvino reports this to Google Analytics, in a process that it forks, unless the package
# openvino_telemetry is missing (openvino 2026.4, openvino/tools/ovc/__init__.py): here it is missing for a moment.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino
finally:
    if sys.modules["openvino_telemetry"] is None:
        del sys.modules["openvino_telemetry"]

NAME = "openvino"
DTYPES = ("float32", "bfloat16", "int8")
LENGTH_STEP = 1
PACKAGES = ("numpy",)
ANY_DEVICE = False
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
IN_MEMORY = "*/_ORT_MEM_ADDR_/*"  # the name of a file that means an address, for OpenVINO's reader of ONNX


def capture(function, parameters, *, dtype=None, batch_invariant=False, compile=False):
    refuse(NAME, batch_invariant=batch_invariant, compile=compile)
    return captured(RUNTIME, function, parameters, dtype)


@functools.cache
def core():
    """OpenVINO's Core. A process should have one, this one.

    Each sets a stack for the main thread's signals, and when it ends, the one from before it is set again. If another
    Core's was there, and that has ended meanwhile, the next Ctrl-C is a crash (openvino 2026.4).
    """
    return openvino.Core()


def _compile(graph, result, dtype):
    constants, lock = [], threading.Lock()  # the model has only the addresses of the constants

    def place(name, x):
        constants.append(x)
        return {"location": IN_MEMORY, "offset": x.ctypes.data, "length": x.nbytes}

    model = core().read_model(graph.model({"features": result}, place).SerializeToString())
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": cpu.threads(),
        # by itself it chooses bfloat16 on processors that have it
        "INFERENCE_PRECISION_HINT": PRECISIONS.get(dtype, "f32"),
    }
    compiled = core().compile_model(model, "CPU", settings)

    def program(inputs):
        """The result for {name: ndarray}."""
        with lock:  # it has one request, for which all cores work
            return compiled(inputs, share_outputs=False)[0]

    # the constants are not in the model: they must live as long as the program
    program.constants = constants
    return program


RUNTIME = Runtime("OpenVINO", _compile)
