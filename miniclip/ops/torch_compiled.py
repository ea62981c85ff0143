"""torch.compile for `torch_cpu`: what is between the products, compiled into few loops.

torch.compile cannot read packed weights, and without them it loses more than its loops win. So each product is one
operator of torch, which has the weight's number instead of the weight, and stays in the compiled code as it is.
"""

import functools
import itertools
import weakref

import torch

from miniclip import params
from miniclip.errors import InputError
from miniclip.kernels.operators import register
from miniclip.ops import torch_cpu

NUMBERS = itertools.count()
MATRICES: weakref.WeakValueDictionary[int, torch.Tensor] = weakref.WeakValueDictionary()  # by number


class OnCPU(torch_cpu.OnCPU):
    """As `torch_cpu.OnCPU`, compiled at its first calls with one row and with more. InputError without a C++ compiler.

    A parameter that has changed is packed again, under the number that it had: nothing is compiled again.
    """

    def __init__(self, function, parameters):
        super().__init__(function, parameters, copied=True)
        self.numbered, self.given = {}, None  # {name: NumberedWeight}, and the tree with them
        _check_compiler()
        operations = Operations(*function.args, scaled=True)
        # dynamic: for any size of batch. fullgraph: all of it, or an error. One thread: each core has its own chunk
        encode = _own_code(functools.partial(function.func, operations, **function.keywords))
        self.function = torch.compile(encode, dynamic=True, fullgraph=True, options={"cpp.threads": 1})

    def _tree(self, leaves):
        before, tree = self.found[2], super()._tree(leaves)
        if tree is not before:
            flat = params.flatten(tree)
            weights = {name: x for name, x in flat.items() if isinstance(x, torch_cpu.Weight)}
            if self.numbered.keys() != weights.keys():
                self.numbered = {name: NumberedWeight(next(NUMBERS)) for name in weights}
            for name, weight in weights.items():
                self.numbered[name].take(weight)
            self.given = params.unflatten(flat | self.numbered)
        return self.given


def _own_code(function):
    """The same function with Python code of its own: torch.compile compiles the same code a few times, and no more."""

    def encode(*batches, **parameters):
        return function(*batches, **parameters)

    encode.__code__ = encode.__code__.replace(co_name=f"encode_{next(NUMBERS)}")
    return encode


class NumberedWeight:
    """A weight that compiled code knows by its number."""

    def __init__(self, number):
        self.number = number

    def take(self, weight):
        self.shape, self.matrix = weight.shape, weight.matrix
        MATRICES[self.number] = weight.matrix


class Operations(torch_cpu.Operations):
    """As `torch_cpu.Operations`, with `NumberedWeight`s."""

    def product(self, x, weight, bias, name, formula):
        return PRODUCT(x, weight.number, bias, name, formula)


def _run(x, number, bias, name, formula):
    return torch_cpu.PRODUCT(x, MATRICES[number], bias, name, [], formula)


def _empty(x, number, bias, name, formula):
    return x.new_empty(*x.shape[:-1], MATRICES[number].shape[0])


PRODUCT = register(_run, "product", "(Tensor x, int number, Tensor? bias, str name, str formula) -> Tensor", _empty)


def _check_compiler():
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler as error:
        raise InputError(
            "compile=True needs a C++ compiler, and torch finds none: install g++ (on Debian and Ubuntu: apt install "
            "g++) or set the variable CXX to one, or leave compile=True out"
        ) from error
