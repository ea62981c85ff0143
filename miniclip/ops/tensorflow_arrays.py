"""TensorFlow's tensors with the syntax that all arrays share: `+ @ reshape`, slices, shapes of numbers.

A tf.Tensor has no `reshape` and no `T`. TensorFlow can add them, to all tensors of the process, but then the sums of
other programs change their types, too. So the operations of `tensorflow_ops` return an `Array`, which has one tensor.
TensorFlow's functions take it as they take a tensor; `x.tensor` is the tensor itself.
"""

import numpy as np
import tensorflow as tf


class Array:
    """A tf.Tensor or a variable, in `tensor`, which may be a part of a function that TensorFlow is about to compile.

    Numbers and arrays in an expression with it become tensors of its dtype.
    """

    __array_priority__ = 1000  # so that ndarray + Array asks the Array
    __hash__ = None  # type: ignore[assignment]  # == makes an Array, as with arrays

    def __init__(self, tensor):
        self.tensor = tensor

    @property
    def shape(self):
        """The sizes: numbers, and for those that are not known yet, tensors."""
        sizes = self.tensor.shape.as_list()
        return tuple(tf.shape(self.tensor)[i] if n is None else n for i, n in enumerate(sizes))

    @property
    def dtype(self):
        return np.dtype(self.tensor.dtype.as_numpy_dtype)

    @property
    def device(self):
        """Such as "CPU:0"; "" in a function that is about to be compiled."""
        return self.tensor.device.rpartition("device:")[2]

    @property
    def ndim(self):
        return len(self.tensor.shape)

    @property
    def size(self):
        return self.tensor.shape.num_elements()

    @property
    def T(self):
        return Array(tf.transpose(self.tensor))

    def numpy(self):
        return self.tensor.numpy()

    def reshape(self, *shape):
        return Array(tf.reshape(self.tensor, shape))

    def transpose(self, *axes):
        return Array(tf.transpose(self.tensor, axes))

    def astype(self, dtype):
        return Array(tf.cast(self.tensor, dtype))

    def sum(self, axis=None):
        return Array(tf.reduce_sum(_counted(self.tensor), axis))

    def mean(self, axis=None):
        return Array(tf.reduce_mean(self.tensor, axis))

    def all(self, axis=None):
        return Array(tf.reduce_all(self.tensor, axis))

    def argmax(self, axis):
        return Array(tf.argmax(self.tensor, axis))  # the first of the largest

    def __add__(self, other):
        return Array(self.tensor + self._like(other))

    __radd__ = __add__

    def __sub__(self, other):
        return Array(self.tensor - self._like(other))

    def __rsub__(self, other):
        return Array(self._like(other) - self.tensor)

    def __mul__(self, other):
        x = Array(_counted(self.tensor))
        return Array(x.tensor * x._like(other))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return Array(self.tensor / self._like(other))

    def __rtruediv__(self, other):
        return Array(self._like(other) / self.tensor)

    def __pow__(self, other):
        return Array(self.tensor ** self._like(other))

    def __neg__(self):
        return Array(-self.tensor)

    def __matmul__(self, other):
        return Array(self.tensor @ self._like(other))

    def __rmatmul__(self, other):
        return Array(self._like(other) @ self.tensor)

    def __eq__(self, other):
        return Array(tf.equal(self.tensor, self._like(other)))

    def _like(self, other):
        if isinstance(other, Array):
            return other.tensor
        return other if tf.is_tensor(other) else tf.convert_to_tensor(other, self.tensor.dtype)

    def __getitem__(self, key):
        return Array(self.tensor[key])

    def __len__(self):
        return len(self.tensor)

    def __iter__(self):
        return map(Array, self.tensor)

    def __bool__(self):
        return bool(self.tensor)

    def __float__(self):
        return float(self.tensor)

    def __int__(self):
        return int(self.tensor)

    def __repr__(self):
        return f"Array({self.tensor!r})"

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numpy(), dtype)

    def __tf_tensor__(self, dtype=None, name=None):
        return self.tensor if dtype is None else tf.cast(self.tensor, dtype)

    def __reduce__(self):  # TensorFlow's own pickles forget bfloat16
        return _again, (self.numpy(),)


class Joined(Array):
    """Variables of Keras that are one parameter of ours, joined and turned only where no operation takes them apart.

    Ours is a vector (out,), or a weight, (out, in) or (out, C, k, k); Keras's kernels are (in, out) or (k, k, C, out).
    """

    def __init__(self, *parts):
        self.parts = parts

    @property
    def tensor(self):
        x = tf.concat(self.parts, -1)
        axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[len(x.shape)]
        return tf.transpose(x, axes)


def _counted(x):
    return tf.cast(x, tf.int64) if x.dtype == tf.bool else x  # as in NumPy, where True is 1


def _again(x):
    return Array(tf.constant(x))


def tensor(x):
    """x as a tf.Tensor: an Array, a tensor, a variable, an ndarray or what becomes one."""
    return x.tensor if isinstance(x, Array) else tf.convert_to_tensor(x)
