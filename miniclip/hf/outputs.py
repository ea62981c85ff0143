"""The outputs of processors and models: transformers' containers, with tensors or arrays.

torch is imported only if the user passes tensors or asks for them.
"""

from typing import Any

import numpy as np

from miniclip import ops
from miniclip.errors import InputError


class BatchEncoding(dict):
    """The output of a processor, by key or attribute; the input of a model: `model(**inputs)`."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"this encoding has no {name}, only {', '.join(self)}")
        return self[name]

    def to(self, *args: Any, **kwargs: Any) -> "BatchEncoding":
        """Tensor.to for all tensors, but only floats get another dtype. Returns the same object."""
        names = {name: x for name, x in kwargs.items() if name != "dtype"}
        places = [x for x in args if type(x).__name__ != "dtype"]
        for name, x in self.items():
            if is_tensor(x):
                floating = x.is_floating_point()
                self[name] = x.to(*args, **kwargs) if floating else x.to(*places, **names) if places or names else x
        return self


class ModelOutput(dict):
    """The output of a model, by attribute, key or position. A value that is None has neither key nor position."""

    def __init__(self, values: Any = (), /, **named: Any):
        given = {**dict(values), **named}
        super().__init__({name: value for name, value in given.items() if value is not None})
        self.__dict__["_absent"] = tuple(name for name, value in given.items() if value is None)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return super().__getitem__(name)
        absent = self.__dict__.get("_absent", ())
        if name not in absent:
            raise AttributeError(f"this output has no {name}, only {', '.join([*absent, *self])}")
        return None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        names = list(self)[key]
        return self._item(names) if isinstance(names, str) else tuple(map(self._item, names))

    def _item(self, name):
        value = self[name]
        return value.to_tuple() if isinstance(value, ModelOutput) else value

    def __repr__(self):
        return f"ModelOutput({', '.join(self)})"

    def to_tuple(self) -> tuple:
        """The values in order, as a tuple; outputs among them become tuples too."""
        return self[:]


# Arguments of transformers' methods that change nothing here, or only how files are written.
IGNORED_OPTIONS = {
    *("attn_implementation", "local_files_only", "low_cpu_mem_usage", "trust_remote_code", "use_fast"),
    *("use_safetensors", "max_shard_size", "safe_serialization", "token", "use_auth_token", "weights_only"),
    *("offload_folder", "offload_buffers", "offload_state_dict", "max_memory", "is_main_process", "save_function"),
    *("resume_download", "proxies", "mirror", "tp_plan", "adapter_kwargs", "save_original_format"),
}
# Arguments that may only have these values, which are transformers' defaults.
IDLE_VALUES: dict[str, tuple] = {
    "revision": (None, "main"),
    **dict.fromkeys(("push_to_hub", "force_download", "saved_model", "signatures"), (None, False)),
    **dict.fromkeys(("ignore_mismatched_sizes", "state_dict", "quantization_config", "variant"), (None, False)),
    **dict.fromkeys(("subfolder",), (None, "")),
}


def check_options(kind: Any, options: dict[str, Any]) -> None:
    """Raise InputError for arguments that miniclip does not have and cannot ignore."""
    for name, value in options.items():
        if name in IDLE_VALUES and not any(value is idle or value == idle for idle in IDLE_VALUES[name]):
            idle = IDLE_VALUES[name][-1]
            raise InputError(f"{kind.__name__} takes no {name} = {value!r} here, only {idle!r}: leave it out")
    unknown = sorted(options.keys() - IGNORED_OPTIONS - IDLE_VALUES.keys())
    if unknown:
        raise InputError(f"{kind.__name__} takes no {', '.join(unknown)} here: leave it out")


def is_tensor(x):
    return _package(x) == "torch"


def _package(x):
    return type(x).__module__.partition(".")[0]


def for_backend(x, ops):
    """x for this backend: a torch tensor becomes an ndarray, unless the backend computes with tensors."""
    if is_tensor(x) and "torch" not in ops.PACKAGES:
        from miniclip.ops import torch_ops

        return torch_ops.to_numpy(x)
    return np.asarray(x) if isinstance(x, (list, tuple)) else x


def converter_like(example, ops):
    """A function that converts a backend's arrays to the kind of `example`: tensors, or else ndarrays.

    If `example` is one of the backend's own arrays, such as a jax.Array, the results are arrays of its kind.
    """
    if _package(example) in ops.PACKAGES:
        return lambda x: x if isinstance(x, type(example)) else getattr(x, "tensor", x)  # of an Array that has one
    if is_tensor(example):
        import torch

        return lambda x: torch.from_numpy(np.asarray(ops.to_numpy(x)))
    return ops.to_numpy


def as_batch(lists, return_tensors):
    """{name: rows} as a BatchEncoding; `return_tensors` None: the rows as they are, "np": arrays, "pt": tensors.

    "tf": TensorFlow's tensors, with integers of 32 bits, as in transformers.
    """
    if return_tensors is None:
        return BatchEncoding(lists)
    if return_tensors not in ("np", "pt", "tf"):
        raise InputError(f"return_tensors is {return_tensors!r}, expected 'np', 'pt', 'tf' or None")
    arrays: dict[str, Any] = {}
    for name, rows in lists.items():
        try:
            arrays[name] = np.asarray(rows) if len(rows) else np.zeros((0, 0), int)
        except ValueError as error:
            raise InputError(f"{name} has rows of different lengths: pass padding=True") from error
    if return_tensors == "pt":
        import torch

        arrays = {name: torch.from_numpy(x) for name, x in arrays.items()}
    if return_tensors == "tf":
        tensorflow = ops.select("tensorflow")  # or an error that says what to install
        small = {name: x.astype(np.int32) if x.dtype == np.int64 else x for name, x in arrays.items()}
        arrays = {name: tensorflow.asarray(x).tensor for name, x in small.items()}
    return BatchEncoding(arrays)
