"""The backends that the tests run on, on this machine."""

import importlib.util
import os

from miniclip.ops import BACKENDS

# `make gpu` leaves JAX and TensorFlow out, also where they are installed: XLA compiles for minutes, and both take most
# of a GPU's memory.
LEFT_OUT = os.environ.get("MINICLIP_WITHOUT", "").split(",")
OPTIONAL = ("jax", "tensorflow", "onnxruntime", "openvino")
HERE = [name for name in BACKENDS if name not in LEFT_OUT and (name not in OPTIONAL or importlib.util.find_spec(name))]
COMPUTED = [name for name in HERE if name != "openvino"]  # of operations: it runs the graphs that onnxruntime runs
# Commands run with these: Triton's interpreter takes minutes, and TensorFlow writes notices about itself.
QUICK = [name for name in HERE if name not in ("triton", "tensorflow")]
