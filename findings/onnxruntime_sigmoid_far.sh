#!/bin/sh
# The logistic function of ONNX Runtime is 7% off at -14, twice too large at -17, and 0 at -20.
#
# Packages: onnx 1.23.2, onnxruntime 1.32.0 (CPU provider).
# Expect:   Sigmoid(-20) in float32 is 2.06e-9, a number that float32 holds with seven digits, as NumPy,
#           PyTorch and ONNX's own reference evaluator say.
# Found:    it is 0. The function is a quotient of polynomials, with its input limited to -18 and 18: its
#           absolute error is small, 1e-8, but small probabilities have no right digit, and their logarithm
#           is -inf.
# Seen:     x = -14: 7.75e-07 instead of 8.32e-07; -17: 8.94e-08 instead of 4.14e-08; -20 and -30: 0
# Matters:  a sigmoid loss or score (SigLIP's, for one) takes its logarithm: log(Sigmoid(x)) is -inf where
#           the answer is x. -Softplus(-x) is right.
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

x = np.array([-9, -14, -17, -20, -30], np.float32)
tensor = helper.make_tensor_value_info
nodes = [helper.make_node("Sigmoid", ["x"], ["sigmoid"])]
graph = helper.make_graph(nodes, "g", [tensor("x", TensorProto.FLOAT, ["n"])], [tensor("sigmoid", TensorProto.FLOAT, ["n"])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
found, reference = session.run(None, {"x": x})[0], ReferenceEvaluator(model).run(None, {"x": x})[0]
exact = 1 / (1 + np.exp(-x.astype(np.float64)))
for row in zip(x, exact, reference, found):
    print("x %.0f: exact %.3g, reference %.3g, onnxruntime %.3g" % row)
assert np.allclose(reference, exact, rtol=1e-5)
assert np.abs(found - exact).max() < 1e-7
assert found[-2] == found[-1] == 0
assert np.abs(found / exact - 1)[1:].max() > 0.01
PYTHON
