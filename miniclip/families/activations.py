"""transformers' names of activations and ours (transformers/activations.py, ACT2FN)."""

TANH = ("gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh", "gelu_pytorch_tanh")  # one formula
OURS = {"swish": "silu", "gelu_python": "gelu", **dict.fromkeys(TANH, "gelu_tanh")}
THEIRS = {"gelu_tanh": "gelu_pytorch_tanh", "silu": "swish"}  # "swish" is the default of their ALIGN


def ours(name):
    """Our name of transformers' activation; unknown names stay as they are, and the configuration refuses them."""
    return OURS.get(name, name) if isinstance(name, str) else name


def theirs(name):
    """transformers' name of our activation; they have our names for the others."""
    return THEIRS.get(name, name)
