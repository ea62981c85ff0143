#!/bin/sh
# The first use of OpenVINO's CPU device replaces the stack on which the main thread handles signals.
#
# Packages: openvino 2026.4.1.
# Expect:   a library that multiplies matrices does not change how a process handles signals.
# Found:    Core's first question to the CPU device sets an alternate signal stack (sigaltstack) of its own
#           instead of that of Python's faulthandler. Each Core sets one, smaller than Python's. One that has
#           ended puts back the stack that it found, even if that was another Core's and is no longer there.
# Seen:     faulthandler: 16880 bytes
#           a Core:       11568 bytes
#           it has ended: 16880 bytes
# Matters:  Python handles signals on this stack. After several Cores had ended, a test suite had a
#           segmentation fault at the next Ctrl-C, and faulthandler could not say where.
# Avoid:    make one Core in a process, and keep it.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile openvino==2026.4.1
cd "$dir"
HOME="$dir" "$dir/env/bin/python" - <<'PYTHON'
import ctypes
import faulthandler
import gc
import sys

sys.modules["openvino_telemetry"] = None  # it would report the import
import openvino


class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def stack():
    found = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.start, found.size


faulthandler.enable()
before = stack()
print("faulthandler:", before[1], "bytes")
core = openvino.Core()
core.get_versions("CPU")
meanwhile = stack()
print("a Core:      ", meanwhile[1], "bytes")
del core
gc.collect()
after = stack()
print("it has ended:", after[1], "bytes")
assert meanwhile[0] != before[0] and meanwhile[1] < before[1] and after == before
PYTHON
