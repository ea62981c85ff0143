"""Values as JSON: what a law and a student's function give each other from one process to the other.

Numbers, texts, lists and dicts go as they are, arrays as their bytes. Nothing that arrives is run, as a pickle would
be. Of objects, only those go that the laws hand over: a tokenizer, a configuration, `ops`, a model, a trace. Any other
object arrives as a `Foreign`, which has its `repr`.

    pack(value, arrays) -> plain        `arrays` collects the arrays in it,
    unpack(plain, arrays) -> value      and in the same order those that were made: arguments may be written to.
"""

import base64
import sys

import numpy as np

from miniclip.config import VisionConfig
from miniclip.learn.laws.objective import Dictionary
from miniclip.ops import numpy_ops
from miniclip.tokenizer import Tokenizer


class Recorder:
    """A trace that keeps its calls in order."""

    def __init__(self, attentions=True):
        self.attentions, self.calls = attentions, []

    def __call__(self, name, value):
        self.calls.append([name, value])


NAMES = {"ops": numpy_ops, "Tokenizer": Tokenizer}
KINDS = {  # kind: (class, its contents, how to make it from them)
    "config": (VisionConfig, lambda config: dict(vars(config)), lambda fields: VisionConfig(**fields)),
    "tokenizer": (Tokenizer, lambda tokenizer: tokenizer.merges, lambda merges: Tokenizer(map(tuple, merges))),
    "trace": (Recorder, lambda trace: trace.attentions, Recorder),
    "model": (Dictionary, lambda model: model.seed, Dictionary),
}


class Foreign:
    """An object that cannot be handed over: its type's name and its text."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def pack(value, arrays=None):
    """A value as what JSON can write."""
    arrays = [] if arrays is None else arrays
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [pack(item, arrays) for item in value]}
    for kind, (type_, contents, _) in KINDS.items():
        if isinstance(value, type_):
            return {kind: pack(contents(value), arrays)}
    for name, known in NAMES.items():
        if value is known:
            return {"name": name}
    if type(value) is dict:
        return {"dict": [[pack(key, arrays), pack(item, arrays)] for key, item in value.items()]}
    if "torch" in sys.modules and isinstance(value, sys.modules["torch"].Tensor):
        view = [list(value.shape), list(value.stride()), value.storage_offset()]
        return {"tensor": [pack(memory_of(value), arrays), *view]}
    return _pack_array(value, arrays)


def memory_of(tensor):
    """All numbers of a tensor's storage, those around it too, as an array that shares them."""
    size = tensor.untyped_storage().nbytes() // tensor.itemsize
    return tensor.detach().as_strided((size,), (1,), 0).numpy()


def _pack_array(value, arrays):
    try:
        array = np.asarray(value)
    except Exception:
        array = np.asarray(None)
    if array.dtype.kind not in "biufc":
        return {"foreign": repr(value)[:300]}
    if not isinstance(value, np.generic):
        arrays.append(value)
    data = base64.b64encode(array.tobytes()).decode()
    return {"number" if isinstance(value, np.generic) else "array": [array.dtype.str, list(array.shape), data]}


def unpack(plain, arrays=None):
    """The value again. Raises an exception of any kind for what `pack` does not write."""
    arrays = [] if arrays is None else arrays
    if plain is None or isinstance(plain, (bool, int, float, str)):
        return plain
    ((kind, content),) = plain.items()
    if kind in ("list", "tuple"):
        items = [unpack(item, arrays) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return {unpack(key, arrays): unpack(item, arrays) for key, item in content}
    if kind == "name":
        return NAMES[content]
    if kind in KINDS:
        return KINDS[kind][2](unpack(content, arrays))
    if kind == "foreign":
        return Foreign(str(content))
    if kind == "tensor":
        memory, shape, stride, offset = content
        if "torch" not in sys.modules:
            return Foreign("a tensor")
        return sys.modules["torch"].from_numpy(unpack(memory, arrays)).as_strided(shape, stride, offset)
    dtype, shape, data = content
    dtype = np.dtype(dtype)
    if dtype.kind not in "biufc":
        raise ValueError(f"not numbers: {dtype}")
    array = np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()
    if kind == "number":
        return array[()]
    arrays.append(array)
    return array
