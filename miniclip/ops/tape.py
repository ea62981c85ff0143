"""Backpropagation: a `Variable` is an array that remembers how it was made, and can send a gradient back the same way.

Builds on NumPy alone. Every operation computes its value at once and leaves a Variable with two notes: the sources of
the value, and a function `send` from ∂L/∂value to ∂L/∂source, one for each source. These notes are the "tape".
`loss.backward()` reads it from its end: the chain rule, one operation at a time (Rumelhart, Hinton and Williams,
Learning representations by back-propagating errors, 1986; the same for single numbers is Karpathy's micrograd).

What is to be differentiated is a Variable. Every ndarray is a constant, and what is made of constants alone has no
tape. This file has only the syntax that all arrays share; the operations are in `numpy_grad`.
"""

import itertools

import numpy as np

from miniclip.errors import InputError

_clock = itertools.count()


class Variable:
    """An array, and how it was made.

    value     an ndarray of floats
    gradient  ∂L/∂value after `L.backward()`, if this is a leaf, made from nothing: a parameter, say. None before;
              another Variable may have the same array, so replace it, but do not write to it
    """

    __array_ufunc__ = None  # so that ndarray + Variable asks the Variable, and is not an array of objects

    def __init__(self, value, sources=(), send=None, place=...):
        """A result of `sources`, Variables or constants. send(∂L/∂value) has a ∂L/∂source for each; None: it has none.

        place  of the sources only this part was used, which is as large as the gradients that are sent
        """
        self.value, self.gradient = np.asarray(value), None
        self._sources, self._send, self._place = sources, send, place
        self._time = next(_clock)  # a result is always later than its sources

    def backward(self, gradient=None):
        """Add ∂L/∂leaf to `gradient` of every leaf that this one was made from; L is the sum of it, often one number.

        gradient  ∂L/∂value, of value's shape, if L is not the sum
        Raises InputError for another shape, and if this tape, or a part of it, was read before: that frees memory.
        """
        gradient = np.ones_like(self.value) if gradient is None else np.asarray(gradient, self.dtype)
        if gradient.shape != self.shape:
            raise InputError(f"a gradient of shape {gradient.shape} is not one of a value of shape {self.shape}")
        self._receive(gradient)
        # From the last result to the first: then each has heard from all that used it before it sends its own gradient.
        results = sorted(self._made_from(), key=lambda result: result._time)
        while results:
            result = results.pop()
            for source, part in zip(result._sources, result._send(result.gradient), strict=True):
                if isinstance(source, Variable) and part is not None:
                    source._receive(part, result._place)
            # only leaves keep their gradient; and the arrays that `send` kept can go now
            result.gradient, result._sources, result._send = None, (), _spent

    def _made_from(self):
        """This result and all others that it was made from, without the leaves."""
        found, new = set(), [self]
        while new:
            result = new.pop()
            if result._send and result not in found:
                found.add(result)
                new += [source for source in result._sources if isinstance(source, Variable)]
        return found

    def _receive(self, gradient, place=...):
        """The gradients of all uses of one value add up (the chain rule for several variables)."""
        if self.gradient is None and place is ...:
            self.gradient, self._owned = gradient, False  # perhaps it is another's as well: nobody may change it
            return
        if self.gradient is None:
            self.gradient, self._owned = np.zeros_like(self.value), True
        elif not self._owned:
            self.gradient, self._owned = np.array(self.gradient), True
        self.gradient[place] += gradient

    # ------------------------------------------------------------------------------------- sums and products

    def __add__(self, other):
        """y = a + b: both get dy, ∂L/∂y."""
        return Variable(self.value + value(other), (self, other), lambda dy: (fitted(dy, self), fitted(dy, other)))

    def __mul__(self, other):
        """y = a · b, element by element: da = dy · b, db = dy · a."""
        a, b = self.value, value(other)
        return Variable(a * b, (self, other), lambda dy: (fitted(dy * b, self), fitted(dy * a, other)))

    def __truediv__(self, other):
        """y = a / b: da = dy / b, db = -dy · a / b²."""
        a, b = self.value, value(other)
        return Variable(a / b, (self, other), lambda dy: (fitted(dy / b, self), fitted(-dy * a / b**2, other)))

    def __matmul__(self, other):
        """y = a @ b, a (..., n, m) · b (..., m, k): da = dy @ bᵀ, db = aᵀ @ dy; no other products have these shapes."""
        a, b = self.value, value(other)

        def send(dy):
            return fitted(dy @ b.swapaxes(-1, -2), self), fitted(a.swapaxes(-1, -2) @ dy, other)

        return Variable(a @ b, (self, other), send)

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __rtruediv__(self, other):
        y = other / self.value
        return Variable(y, (self,), lambda dy: (fitted(-dy * y / self.value, self),))

    def __rmatmul__(self, other):
        return Variable(other) @ self

    __radd__, __rmul__ = __add__, __mul__

    def sum(self):
        """The sum of all elements: each gets dy."""
        return Variable(self.value.sum(), (self,), lambda dy: (np.broadcast_to(dy, self.shape),))

    def mean(self):
        """The mean of all elements."""
        return self.sum() / self.value.size

    # ---------------------------------------------------------------------------- the same numbers, elsewhere

    def reshape(self, *shape):
        return Variable(self.value.reshape(*shape), (self,), lambda dy: (dy.reshape(self.shape),))

    @property
    def T(self):
        return Variable(self.value.T, (self,), lambda dy: (dy.T,))

    def __getitem__(self, place):
        """A part, named by numbers and slices, so that it has no element twice; the rest gets no gradient."""
        if any(hasattr(axis, "__len__") for axis in (place if isinstance(place, tuple) else (place,))):
            raise InputError("a Variable has no part named by an array: use `gather` or `embed` of numpy_grad")
        return Variable(self.value[place], (self,), lambda dy: (dy,), place)

    def __len__(self):
        return len(self.value)

    def __float__(self):
        return float(self.value)

    def __repr__(self):
        return f"Variable({self.value})"

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)


def _spent(gradient):
    raise InputError("backward() has already gone through this Variable: compute it again, or add the losses first")


def record(y, sources, send, place=...):
    """y as a Variable, made from these sources (see there); y itself if all of them are constants."""
    return Variable(y, sources, send, place) if any(isinstance(x, Variable) for x in sources) else y


def value(x):
    """The ndarray of a Variable; a constant is its own value."""
    return x.value if isinstance(x, Variable) else x


def values(*xs):
    """The ndarrays of several."""
    return map(value, xs)


def fitted(gradient, source):
    """A gradient in the shape of its source: undoes broadcasting. None if the source is a constant.

    An element that was broadcast was used many times, so that it gets the sum over its uses.
    """
    if not isinstance(source, Variable):
        return None
    new = gradient.ndim - source.ndim  # axes that broadcasting put before the others
    axes = [new + i for i, n in enumerate(source.shape) if n == 1 < gradient.shape[new + i]]  # and those it stretched
    return gradient.sum(axis=(*range(new), *axes)).reshape(source.shape) if new or axes else gradient
