"""NumPy's operations, with towers that ONNX Runtime compiles and computes on the CPU.

Arrays are ndarrays, before and after; what is no tower, such as logits, is computed by `numpy_ops`. Each core works on
chunks of a batch by itself, as in `runtime.chunks`; a single chunk is computed by all cores.
"""

import functools

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

    model = graph.model({"features": result}, place).SerializeToString()

    @functools.cache
    def session(threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        options.add_external_initializers([*large], [*large.values()])
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def program(inputs):
        """The results for a list of {name: ndarray}."""
        cores = cpu.blas_threads()
        if len(inputs) == 1:
            return session(cores).run(None, inputs[0])
        alone = session(1)
        return cpu.on_cores(lambda x: alone.run(None, x)[0], inputs, cores)

    session(cpu.blas_threads())  # now, so that what it refuses is known, and packed only once
    return program


RUNTIME = Runtime("ONNX Runtime", _compile, pictures=8, tokens=400, at_once=cpu.blas_threads)
