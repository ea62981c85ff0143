#!/bin/sh
# ONNX's reference evaluator flips signs when it normalises by the L1 norm.
#
# Packages: onnx 1.23.2 (onnx.reference), onnxruntime 1.32.0.
# Expect:   LpNormalization with p = 1 divides by the sum of the ABSOLUTE values.
# Found:    the reference evaluator divides by the plain sum. For [1, -3] that is -2, so both values
#           change their sign; for [2, -2] it is 0, and the result is 0. ONNX Runtime is right. With
#           p = 2, where the sign does not matter, the two agree.
# Seen:     p=1 of [1, -3]: onnxruntime [0.25, -0.75], reference [-0.5, 1.5]
#           p=1 of [2, -2]: onnxruntime [0.5, -0.5], reference [0.0, 0.0]
#           p=2 of [3, -4]: onnxruntime [0.6, -0.8], reference [0.6, -0.8]
# Matters:  a test "against the reference" rejects a right implementation.
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

floats = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])


def both(p, values):
    node = helper.make_node("LpNormalization", ["x"], ["y"], axis=-1, p=p)
    graph = helper.make_graph([node], "g", [floats("x")], [floats("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x": np.array([values], np.float32)}
    results = [[round(float(v), 4) for v in run(None, feed)[0][0]] for run in (session.run, ReferenceEvaluator(model).run)]
    print(f"p={p} of {values}: onnxruntime {results[0]}, reference {results[1]}")
    return results


assert both(1, [1, -3]) == [[0.25, -0.75], [-0.5, 1.5]]
assert both(1, [2, -2]) == [[0.5, -0.5], [0, 0]]
assert both(2, [3, -4]) == [[0.6, -0.8], [0.6, -0.8]]
PYTHON
