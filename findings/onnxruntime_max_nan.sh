#!/bin/sh
# Whether a maximum is NaN depends on where the NaN is.
#
# Packages: onnx 1.23.2, onnxruntime 1.32.0 (CPU provider).
# Expect:   ReduceMax either always passes a NaN on, as NumPy and ONNX's reference evaluator do, or
#           always ignores it. ArgMax agrees with it. TopK with k = 1 agrees with both.
# Found:    ReduceMax returns NaN if the NaN is the first value, and hides it otherwise. ArgMax
#           then points at a number, and TopK of the same tensor points at the NaN.
# Seen:     ReduceMax of [nan, 1, 2] = nan, of [1, nan, 2] = 2.0, of [1, 2, nan] = 2.0
#           of [1, nan, 2]: ArgMax 2, TopK index 1, value nan
# Matters:  a ReduceMax at the end of a graph is no test for broken activations.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$dir/env/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

tensor = helper.make_tensor_value_info
nodes = [
    helper.make_node("ReduceMax", ["x"], ["max"], keepdims=0),
    helper.make_node("ArgMax", ["x"], ["argmax"], keepdims=0),
    helper.make_node("TopK", ["x", "k"], ["top", "top_index"]),
]
outputs = [("max", TensorProto.FLOAT, []), ("argmax", TensorProto.INT64, []),
           ("top", TensorProto.FLOAT, [1]), ("top_index", TensorProto.INT64, [1])]
graph = helper.make_graph(nodes, "g", [tensor("x", TensorProto.FLOAT, [3])], [tensor(*o) for o in outputs],
                          [helper.make_tensor("k", TensorProto.INT64, [1], [1])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(*values):
    x = np.array(values, np.float32)
    assert np.isnan(ReferenceEvaluator(model).run(["max"], {"x": x})[0])
    return [np.ravel(y)[0] for y in session.run(None, {"x": x})]


nan = float("nan")
first, middle, last = run(nan, 1, 2), run(1, nan, 2), run(1, 2, nan)
print(f"ReduceMax of [nan, 1, 2] = {first[0]}, of [1, nan, 2] = {middle[0]}, of [1, 2, nan] = {last[0]}")
print(f"of [1, nan, 2]: ArgMax {middle[1]}, TopK index {middle[3]}, value {middle[2]}")
assert np.isnan(first[0]) and middle[0] == last[0] == 2
assert middle[1] == 2 and middle[3] == 1 and np.isnan(middle[2])
PYTHON
