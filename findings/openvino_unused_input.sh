#!/bin/sh
# OpenVINO forgets an input that no node uses, and then refuses its value.
#
# Packages: openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0.
# Expect:   a model has the inputs that its file declares, as in ONNX Runtime: a mask that changes nothing
#           can be given all the same.
# Found:    OpenVINO's reader of ONNX leaves such an input out. Giving its value is an error, by name or in
#           the order of the file, and the input after it has another number.
# Seen:     onnxruntime: inputs mask, x; result 3.0
#           openvino:    inputs x; by name: Port for tensor name mask was not found.
# Matters:  files of CLIP's text tower declare attention_mask, which changes no feature. One caller cannot
#           serve both runtimes.
# Avoid:    let a result depend on every input, or ask the compiled model which inputs it has.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0
HOME="$dir" "$dir/env/bin/python" - <<'PYTHON'
import sys

sys.modules["openvino_telemetry"] = None  # it would report the import
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, checker, helper

inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("mask", "x")]
outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", inputs, outputs)
opsets = [helper.make_opsetid("", 20)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
checker.check_model(model, full_check=True)
model, given = model.SerializeToString(), {"mask": np.ones(1, np.float32), "x": np.full(1, -3, np.float32)}

session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
names = [x.name for x in session.get_inputs()]
(y,) = session.run(None, given)
print(f"onnxruntime: inputs {', '.join(names)}; result {y[0]}")
assert names == ["mask", "x"] and y[0] == 3

compiled = openvino.Core().compile_model(openvino.Core().read_model(model), "CPU")
names = [x.any_name for x in compiled.inputs]
try:
    compiled(given)
    reason = "accepted"
except RuntimeError as error:
    reason = next(line for line in str(error).splitlines() if "not found" in line)
print(f"openvino:    inputs {', '.join(names)}; by name: {reason}")
assert names == ["x"] and "mask was not found" in reason
assert compiled([given["x"]])[0][0] == 3
PYTHON
