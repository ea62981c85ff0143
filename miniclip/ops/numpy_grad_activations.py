"""The activations on a tape; `numpy_grad` explains the form, and exports them."""

import functools

from miniclip.ops import numpy_activation_gradients as by_hand
from miniclip.ops import numpy_ops
from miniclip.ops.tape import record, value


def _on_tape(function, gradient):
    """The activation, element by element; gradient(dy, x) is its formula."""

    @functools.wraps(function)
    def activation(x):
        return record(function(value(x)), (x,), lambda dy: (gradient(dy, value(x)),))

    return activation


relu = _on_tape(numpy_ops.relu, by_hand.relu_gradient)
sigmoid = _on_tape(numpy_ops.sigmoid, by_hand.sigmoid_gradient)
silu = _on_tape(numpy_ops.silu, by_hand.silu_gradient)
tanh = _on_tape(numpy_ops.tanh, by_hand.tanh_gradient)
quick_gelu = _on_tape(numpy_ops.quick_gelu, by_hand.quick_gelu_gradient)
gelu = _on_tape(numpy_ops.gelu, by_hand.gelu_gradient)
gelu_tanh = _on_tape(numpy_ops.gelu_tanh, by_hand.gelu_tanh_gradient)

ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu, "sigmoid": sigmoid, "silu": silu, "tanh": tanh}
ACTIVATIONS["quick_gelu"] = quick_gelu
