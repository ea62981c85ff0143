"""NumPy's operations, with towers that ONNX Runtime compiles and computes on the CPU.

Arrays are ndarrays, before and after; what is no tower, such as logits, is computed by `numpy_ops`. All cores work on
the same chunk of a batch.
"""

import onnxruntime

from miniclip.ops import refuse
from miniclip.ops.compiled import Runtime, captured
from miniclip.ops.onnx_ops import *  # noqa: F403
from miniclip.runtime import cpu

NAME = "onnxruntime"
DTYPES = ("float32", "int8")
LENGTH_STEP = 1
PACKAGES = ("numpy",)
ANY_DEVICE = False


def capture(function, parameters, *, dtype=None, batch_invariant=False, compile=False):
    refuse(NAME, batch_invariant=batch_invariant, compile=compile)
    return captured(RUNTIME, function, parameters, dtype)


def _compile(graph, result, dtype):
    large = {}  # constants that stay where they are in memory, until ONNX Runtime has packed them

    def place(name, x):
        large[name] = onnxruntime.OrtValue.ortvalue_from_numpy(x)
        return {"location": "memory", "offset": 0, "length": x.nbytes}

    options = onnxruntime.SessionOptions()
    model = graph.model({"features": result}, place).SerializeToString()
    options.add_external_initializers([*large], [*large.values()])
    options.intra_op_num_threads = cpu.threads()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def program(inputs):
        """The result for {name: ndarray}."""
        return session.run(None, inputs)[0]

    return program


RUNTIME = Runtime("ONNX Runtime", _compile)
