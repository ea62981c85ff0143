"""The backends that the tests run on, on this machine."""

import importlib.util

from miniclip.ops import BACKENDS

HERE = [name for name in BACKENDS if name != "jax" or importlib.util.find_spec("jax")]  # `make gpu` needs no JAX
QUICK = [name for name in HERE if name != "triton"]  # its interpreter takes minutes, the others seconds
