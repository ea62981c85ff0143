#!/bin/sh
# 500 as a float8 is 448 in PyTorch and in ONNX Runtime, and not a number in JAX.
#
# Packages: torch 2.13.0 (CPU), jax 0.10.2, ml_dtypes 0.6.0, onnx 1.23.2, onnxruntime 1.32.0.
# Expect:   libraries that share the type float8_e4m3fn (largest value 448) round alike, and each
#           library treats overflow alike in its float8 types.
# Found:    PyTorch and ONNX Runtime clip to 448; JAX and NumPy with ml_dtypes make NaN. For float8_e5m2
#           PyTorch changes sides: it gives infinity, as JAX does, where ONNX Runtime clips to
#           57344. Even infinity becomes 448 in PyTorch.
# Seen:                   e4m3fn of 500, inf    e5m2 of 1e6
#           torch         448.0, 448.0          inf
#           onnxruntime   448.0, 448.0          57344.0
#           jax           nan, nan              inf
#           ml_dtypes     nan, nan              inf
# Matters:  the same float32 weights, quantised in two libraries, differ in their largest values.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
JAX_PLATFORMS=cpu "$dir/env/bin/python" -W ignore - <<'PYTHON'
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import onnxruntime as ort
import torch
from onnx import TensorProto, helper


def onnx_runtime(x, name):
    floats = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [len(x)]) for n in "xy"]
    to = {"float8_e4m3fn": TensorProto.FLOAT8E4M3FN, "float8_e5m2": TensorProto.FLOAT8E5M2}[name]
    nodes = [helper.make_node("Cast", ["x"], ["small"], to=to),
             helper.make_node("Cast", ["small"], ["y"], to=TensorProto.FLOAT)]
    model = helper.make_model(helper.make_graph(nodes, "g", floats[:1], floats[1:]),
                              opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


libraries = {
    "torch": lambda x, name: torch.tensor(x).to(getattr(torch, name)).float(),
    "onnxruntime": onnx_runtime,
    "jax": lambda x, name: jnp.asarray(x).astype(getattr(jnp, name)).astype(jnp.float32),
    "ml_dtypes": lambda x, name: x.astype(getattr(ml_dtypes, name)).astype(np.float32),
}
inf, nan = float("inf"), float("nan")
expected = {"torch": [448, 448, inf], "onnxruntime": [448, 448, 57344], "jax": [nan, nan, inf], "ml_dtypes": [nan, nan, inf]}
for library, convert in libraries.items():
    a, b = convert(np.array([500, inf], np.float32), "float8_e4m3fn").tolist()
    [c] = convert(np.array([1e6], np.float32), "float8_e5m2").tolist()
    print(f"{library:13} {f'{a}, {b}':21} {c}")
    np.testing.assert_array_equal([a, b, c], expected[library])
PYTHON
