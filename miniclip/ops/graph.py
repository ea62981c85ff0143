"""A recorded computation: values that have a name and a shape but no numbers yet, and the ONNX nodes between them.

Builds on the `onnx` package. A tower that is called with the operations of `onnx_ops` and with values of a `Graph`
leaves its nodes there; `Graph.model` is then an ONNX model, which other programs run. This file has the syntax that all
arrays share, such as `+` and slices; the operations are in `onnx_ops`.

A size that is not known yet has a name instead of a number: ("B", 77, 512).
"""

import hashlib
import math

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from miniclip import params
from miniclip._version import __version__
from miniclip.errors import InputError

OPSET = 20  # the first with Gelu; LayerNormalization came with 17
OPSET_BFLOAT16 = 22  # the first with convolutions and pooling of bfloat16
LARGE = 1 << 10  # bytes, of a constant that can be outside of the model


class Graph:
    """Nodes, and constants in `dtype`: "float32", "float16", "bfloat16", or "int8" for weights of products alone."""

    def __init__(self, dtype="float32"):
        self.dtype, self.inputs, self.nodes, self.constants = dtype, [], [], {}
        self._sizes, self._known = {}, {}

    def input(self, name, dtype, *shape):
        """A Value that is given when the graph runs. Names in `shape` are sizes that are known only then."""
        value = Value(self, name, dtype, shape)
        self.inputs.append(value)
        for axis, size in enumerate(shape):
            self._sizes.setdefault(size, (value, axis))
        return value

    def parameters(self, tree, prefix=""):
        """A parameter tree as constants, with the tree's names after `prefix`."""
        flat = params.flatten(tree)
        return params.unflatten({name: self._parameter(np.asanyarray(x), prefix + name) for name, x in flat.items()})

    def _parameter(self, x, name):
        dtype = "float32" if self.dtype == "int8" or not x.ndim else self.dtype  # scales, the only scalars, are float32
        return self.constant(x.astype(_numpy(dtype), copy=False), name)

    def constant(self, x, name=None):
        """A Value with numbers: an ndarray or what becomes one. Without a name equal ones are one constant."""
        x = np.asanyarray(x)  # `onnx_int8` has a kind of its own
        name = name or f"{x.dtype.name}{[*x.shape]}{x.ravel().tolist() if x.size < 99 else _digest(x)}"
        self.constants[name] = x
        return Value(self, name, x.dtype.name, x.shape)

    def node(self, kind, *inputs, shape, dtype=None, **attributes):
        """Record one node of ONNX; returns its result, a Value of `shape` and of `dtype` (None: the first input's).

        Inputs that are not Values become constants. The same node is recorded only once. If `shape` is a list of
        shapes, there is a result for each, and `dtype` is a list, too.
        """
        inputs = [x if isinstance(x, Value) else self.constant(x) for x in inputs]
        shapes = shape if isinstance(shape, list) else [shape]
        dtypes = dtype if isinstance(dtype, list) else [dtype or inputs[0].dtype]
        names = tuple(x.name for x in inputs)
        key = kind, names, repr(sorted(attributes.items()))
        if key not in self._known:
            results = [f"{kind}_{len(self.nodes)}_{i}" for i in range(len(shapes))]
            self.nodes.append(helper.make_node(kind, names, results, results[0], **attributes))
            self._known[key] = [Value(self, *x) for x in zip(results, dtypes, shapes)]
        return self._known[key] if isinstance(shape, list) else self._known[key][0]

    def size(self, size):
        """A size, a number or a name, as a Value, (1,)."""
        if not isinstance(size, str):
            return self.constant(np.array([size], np.int64))
        value, axis = self._sizes[size]
        return self.node("Shape", value, shape=(1,), dtype="int64", start=axis, end=axis + 1)

    def arange(self, size):
        """The integers from 0 to before `size`, (size,)."""
        stop = self.node("Squeeze", self.size(size), shape=())
        return self.node("Range", np.int64(0), stop, np.int64(1), shape=(size,))

    def model(self, outputs, place=None):
        """The ONNX model whose results are `outputs`, {name: Value}.

        place(name, ndarray) says where the model finds a large constant, as ONNX's external data do: {"location": ...,
        "offset": ..., "length": ...}. None: in the model itself, which ONNX limits to 2 GB.
        """
        nodes = [helper.make_node("Identity", [x.name], [name]) for name, x in outputs.items()]
        used = {x.name for x in outputs.values()}
        for node in reversed(self.nodes):  # only those that an output needs
            if used.intersection(node.output):
                nodes.insert(0, node)
                used.update(node.input)
        given = [_info(x.name, x) for x in self.inputs]
        results = [_info(name, x) for name, x in outputs.items()]
        # runtimes do not find all shapes by themselves, and join fewer nodes without
        made = [x for values in self._known.values() for x in values if x.name in used]
        known = [_info(x.name, x) for x in made if all(n in self._sizes for n in x.shape if isinstance(n, str))]
        graph = helper.make_graph(nodes, "miniclip", given, results, value_info=known)
        opsets = [helper.make_opsetid("", OPSET_BFLOAT16 if self.dtype == "bfloat16" else OPSET)]
        about = {"producer_name": "miniclip", "producer_version": __version__}
        version = helper.find_min_ir_version_for(opsets)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=version, **about)
        for name, x in self.constants.items():
            if name in used:
                _fill(model.graph.initializer.add(), name, x, place)
        return model


class Value:
    """What a graph will have computed: an array with a name, a dtype and a shape."""

    __array_ufunc__ = None  # so that ndarray + Value asks the Value
    __hash__ = None  # type: ignore[assignment]  # == makes a Value, as with arrays

    def __init__(self, graph, name, dtype, shape):
        self.graph, self.name, self.dtype, self.shape = graph, name, dtype, tuple(shape)

    def node(self, kind, *others, shape=None, dtype=None, **attributes):
        """`Graph.node` with this value as the first input; `shape` None: this value's."""
        shape = self.shape if shape is None else shape
        return self.graph.node(kind, self, *others, shape=shape, dtype=dtype, **attributes)

    def astype(self, dtype):
        return self if dtype == self.dtype else self.node("Cast", dtype=dtype, to=_onnx(dtype))

    def __add__(self, other):
        return self._elementwise("Add", other)

    __radd__ = __add__

    def __sub__(self, other):
        return self._elementwise("Sub", other)

    def __mul__(self, other):
        x = self.astype("int64") if self.dtype == "bool" else self  # as in NumPy, where True is 1
        return x._elementwise("Mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self._elementwise("Div", other)

    def __eq__(self, other):
        return self._elementwise("Equal", other, "bool")

    def _elementwise(self, kind, other, dtype=None):
        if not isinstance(other, Value):
            other = self.graph.constant(np.asarray(other, _numpy(self.dtype)))
        return self.node(kind, other, shape=_broadcast(self.shape, other.shape), dtype=dtype)

    def __matmul__(self, other):
        lead = _broadcast(self.shape[:-2], other.shape[:-2])
        return self.node("MatMul", other, shape=(*lead, self.shape[-2], other.shape[-1]))

    def argmax(self, axis):
        return self.node(
            "ArgMax", shape=self.shape[:axis] + self.shape[axis:][1:], dtype="int64", axis=axis, keepdims=0
        )

    def reshape(self, *shape):
        """Sizes with names must stay in their places; -1 becomes what is left."""
        if any(isinstance(n, str) and self.shape[i : i + 1] != (n,) for i, n in enumerate(shape)):
            raise InputError(f"{self.shape} cannot be recorded as {shape}: sizes with names must stay in their places")
        if -1 in shape:  # now: for an empty batch a runtime could not
            have, rest = (math.prod(n for n in s if not isinstance(n, str)) for s in (self.shape, shape))
            shape = tuple(have // -rest if n == -1 else n for n in shape)
        sizes = [0 if isinstance(n, str) else n for n in shape]  # 0: the size that the input has there
        return self.node("Reshape", np.array(sizes, np.int64), shape=shape)

    def flattened(self):
        """All axes before the last as one, of "rows": (..., n) -> (rows, n)."""
        if len(self.shape) == 2:
            return self
        return self.node("Reshape", np.array([-1, self.shape[-1]], np.int64), shape=("rows", self.shape[-1]))

    def unflattened(self, lead):
        """The inverse: (rows, n) -> (*lead, n)."""
        if len(lead) == 1:
            return self
        shape = self.graph.size(lead[0]).node(
            "Concat", *map(self.graph.size, (*lead[1:], self.shape[-1])), axis=0, shape=(len(lead) + 1,)
        )
        return self.node("Reshape", shape, shape=(*lead, self.shape[-1]))

    def transpose(self, *axes):
        return self.node("Transpose", shape=tuple(self.shape[i] for i in axes), perm=axes)

    def first(self, stop, axis):
        """The first `stop` along an axis: a Value, (1,), whose name is the name of the new size."""
        ends, shape = (np.array([0], np.int64), stop, np.array([axis], np.int64)), self.shape
        x = self.node("Slice", *ends, shape=(*shape[:axis], stop.name, *shape[axis + 1 :]))
        self.graph._sizes[stop.name] = x, axis
        return x

    def __getitem__(self, key):
        """Of each axis all, one place, or a slice with step 1; None makes a new axis. One axis at a time is a node.

        A part of a constant is a constant.
        """
        parts = key if isinstance(key, tuple) else (key,)
        if self.name in self.graph.constants and not any(isinstance(getattr(x, "stop", None), str) for x in parts):
            return self.graph.constant(self.graph.constants[self.name][key], f"{self.name}{key}")
        x, axis = self, 0
        for part in parts:
            before, after = x.shape[:axis], x.shape[axis + 1 :]
            if part is None:
                x = x.node("Unsqueeze", np.array([axis], np.int64), shape=(*before, 1, *x.shape[axis:]))
            elif isinstance(part, int):
                x = x.node("Gather", np.int64(part), shape=before + after, axis=axis)
                continue
            elif part != slice(None):
                start, stop = part.start or 0, part.stop
                ends = self.graph.constant(np.array([start], np.int64)), self.graph.size(stop)
                size = stop if isinstance(stop, str) else stop - start
                x = x.node("Slice", *ends, np.array([axis], np.int64), shape=(*before, size, *after))
            axis += 1
        return x


def _broadcast(first, second):
    """The shape of a result of two shapes; a size with a name is treated as larger than 1."""
    longer, shorter = sorted((first, second), key=len, reverse=True)
    shorter = (1,) * (len(longer) - len(shorter)) + tuple(shorter)
    return tuple(b if a == 1 else a for a, b in zip(longer, shorter))


def _numpy(dtype):
    return getattr(ml_dtypes, dtype) if dtype == "bfloat16" else np.dtype(dtype)


def _onnx(dtype):
    """The number of a dtype in ONNX's files."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(_numpy(dtype)))


def _digest(x):
    return hashlib.sha256(x.tobytes()).hexdigest()


def _info(name, x):
    return helper.make_tensor_value_info(name, _onnx(x.dtype), x.shape)


def _fill(tensor, name, x, place):
    """Make a TensorProto that is in its model already that of a constant: one made elsewhere would be copied twice."""
    tensor.name, tensor.data_type = name, _onnx(x.dtype.name)
    tensor.dims.extend(x.shape)
    if place is None or x.nbytes < LARGE:
        tensor.raw_data = x.tobytes()
        return
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place(name, np.ascontiguousarray(x)).items():
        tensor.external_data.add(key=key, value=str(value))
