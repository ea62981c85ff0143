#!/bin/sh
# A float16 model on the CPU is not rounded to float16 between its operations.
#
# Packages: onnx 1.23.2, onnxruntime 1.32.0 (CPU provider).
# Expect:   the graph Sqrt(Mul(x, x)) of float16 tensors overflows at x = 300, because 300 * 300 =
#           90000 is more than float16 can hold (65504). ONNX's own reference evaluator gives inf.
# Found:    ONNX Runtime computes both operations in float32 and rounds once at the end, so it
#           returns 300. It does so with all graph optimisations switched off, too. As soon as the
#           intermediate tensor is also an output of the graph, the overflow is visible there,
#           while the final output still does not have it.
# Seen:     reference [inf]
#           onnxruntime, optimisations off [300.]; on [300.]
#           with the intermediate as an output: square [inf], root [300.]
# Matters:  a float16 export that passes its test on a CPU can overflow on a device that keeps
#           float16 between operations.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$dir/env/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

half = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1])


def model(outputs):
    nodes = [helper.make_node("Mul", ["x", "x"], ["square"]), helper.make_node("Sqrt", ["square"], ["root"])]
    graph = helper.make_graph(nodes, "g", [half("x")], [half(name) for name in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(outputs, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model(outputs).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


x = np.array([300], np.float16)
[reference] = ReferenceEvaluator(model(["root"])).run(None, {"x": x})
[off] = run(["root"], ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
[on] = run(["root"], ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
square, root = run(["square", "root"], ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
print("reference", reference)
print(f"onnxruntime, optimisations off {off}; on {on}")
print(f"with the intermediate as an output: square {square}, root {root}")
assert np.isinf(reference[0]) and off[0] == on[0] == 300
assert np.isinf(square[0]) and root[0] == 300
PYTHON
