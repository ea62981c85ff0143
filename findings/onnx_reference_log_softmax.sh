#!/bin/sh
# ONNX's reference evaluator loses the logarithm of small probabilities.
#
# Packages: onnx 1.23.2 (onnx.reference), onnxruntime 1.32.0.
# Expect:   the reference implementation of LogSoftmax is at least as exact as a runtime:
#           log softmax(x) = x - max(x) - log(sum(exp(x - max(x)))).
# Found:    it takes the softmax first and then its logarithm. In float32 the softmax of a value
#           104 below the maximum is 0, so the result is -inf where -104 is right; just above that
#           the result is off by 0.02. CLIP multiplies cosines by 100, so its logits may differ by
#           up to 200. ONNX Runtime is right.
# Seen:     logits [100.0, 0.0, -10.0]
#           onnxruntime [0.0, -100.0, -110.0]
#           reference   [0.0, -99.9831, -inf]
# Matters:  the cross-entropy of an exported model, "checked against the reference", becomes inf.
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

floats = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])
graph = helper.make_graph([helper.make_node("LogSoftmax", ["x"], ["y"], axis=-1)], "g", [floats("x")], [floats("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)

logits = np.array([[100, 0, -10]], np.float32)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
[runtime] = session.run(None, {"x": logits})
[reference] = ReferenceEvaluator(model).run(None, {"x": logits})
print("logits", logits[0].tolist())
for name, values in [("onnxruntime", runtime), ("reference  ", reference)]:
    print(name, [round(float(v), 4) for v in values[0]])
np.testing.assert_allclose(runtime, [[0, -100, -110]], atol=1e-4)
assert 0.01 < reference[0, 1] + 100 < 0.03 and np.isneginf(reference[0, 2])
PYTHON
