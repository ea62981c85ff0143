#!/bin/sh
# The same ONNX model has fewer inputs in OpenVINO if it is read from memory instead of from its file.
#
# Packages: openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0.
# Expect:   a model has the inputs that it declares, as in ONNX Runtime, wherever its bytes come from: a mask
#           that changes nothing can be given all the same.
# Found:    read_model(path) keeps an input that no node uses, read_model(bytes) leaves it out. Then giving
#           its value is an error, by name or in order, and the input after it has another number.
# Seen:     onnxruntime:          mask, x
#           openvino, from file:  mask, x
#           openvino, from bytes: x; Port for tensor name mask was not found.
# Matters:  files of CLIP's text tower declare attention_mask, which changes no feature of a whole text. One
#           caller cannot serve both ways.
# Avoid:    let a result depend on every input, or ask the compiled model which inputs it has.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0
cd "$dir"
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
model = model.SerializeToString()
with open("model.onnx", "wb") as file:
    file.write(model)
given = {"mask": np.ones(1, np.float32), "x": np.full(1, -3, np.float32)}

session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
print("onnxruntime:         ", ", ".join(x.name for x in session.get_inputs()))
assert session.run(None, given)[0][0] == 3

core = openvino.Core()
compiled = core.compile_model(core.read_model("model.onnx"), "CPU")
print("openvino, from file: ", ", ".join(x.any_name for x in compiled.inputs))
assert compiled(given)[0][0] == 3

compiled = core.compile_model(core.read_model(model), "CPU")
names = [x.any_name for x in compiled.inputs]
try:
    compiled(given)
    reason = "accepted"
except RuntimeError as error:
    reason = next(line for line in str(error).splitlines() if "not found" in line)
print("openvino, from bytes:", ", ".join(names) + ";", reason)
assert names == ["x"] and "mask was not found" in reason
PYTHON
