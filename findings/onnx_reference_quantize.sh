#!/bin/sh
# The largest values become 0 in the reference evaluator's QuantizeLinear.
#
# Packages: onnx 1.23.2 (onnx.reference), onnxruntime 1.32.0.
# Expect:   QuantizeLinear to uint8 clips to 0..255, as its definition says ("saturation"): everything from
#           255 up is 255, infinity included.
# Found:    the reference evaluator converts to int32 before it clips. A value of 2**31 steps or more does not
#           fit, wraps to a negative number and is clipped to 0, the other end of the scale.
#           ONNX Runtime gives 255. With a small scale such values are not large: an outlier of 300
#           with a scale of 1e-7 is enough.
# Seen:     scale 1: onnxruntime [200, 255, 255, 255], reference [200, 255, 0, 0] (of 200, 1e9, 3e9, inf)
#           300 with scale 1e-07: onnxruntime 255, reference 0
# Note:     the conversion of a float that does not fit is left to the processor; this is x86-64.
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


def both(values, scale):
    tensor = lambda name, kind: helper.make_tensor_value_info(name, kind, [len(values)])
    constants = [helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
                 helper.make_tensor("zero", TensorProto.UINT8, [], [0])]
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    graph = helper.make_graph([node], "g", [tensor("x", TensorProto.FLOAT)], [tensor("y", TensorProto.UINT8)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x": np.array(values, np.float32)}
    return [run(None, feed)[0].tolist() for run in (session.run, ReferenceEvaluator(model).run)]


runtime, reference = both([200, 1e9, 3e9, np.inf], 1.0)
print(f"scale 1: onnxruntime {runtime}, reference {reference} (of 200, 1e9, 3e9, inf)")
assert runtime == [200, 255, 255, 255] and reference == [200, 255, 0, 0]
[small], [small_reference] = both([300], 1e-7)
print(f"300 with scale 1e-07: onnxruntime {small}, reference {small_reference}")
assert (small, small_reference) == (255, 0)
PYTHON
