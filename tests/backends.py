"""The backends that are tested on this machine, for the tests that run over them."""

import importlib.util

from miniclip.ops import BACKENDS

HERE = [name for name in BACKENDS if name != "jax" or importlib.util.find_spec("jax")]  # `make gpu` does without JAX
QUICK = [name for name in HERE if name != "triton"]  # whose interpreter takes minutes where others take seconds
