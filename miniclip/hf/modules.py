"""The base class of miniclip.hf's models: a torch module on torch's backends; elsewhere its names, for arrays.

`torch_modules` explains how the torch module works. Other backends have neither gradients nor modules, but the names
mean the same: `state_dict()` is {transformers' name: ndarray}, `parameters()` are the arrays, and so on.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from miniclip import families, ops, params
from miniclip.errors import InputError
from miniclip.families import batch_norm, names
from miniclip.hf.outputs import for_backend
from miniclip.model import CLIP
from miniclip.ops import numpy_ops

if TYPE_CHECKING:
    from miniclip.torch_modules import TorchModel
else:
    try:
        from miniclip.torch_modules import TorchModel
    except ImportError:  # torch is not installed

        class TorchModel:
            def __call__(self, *args, **kwargs):
                return self.forward(*args, **kwargs)


class LoadedKeys(NamedTuple):
    """What `load_state_dict` returns, as in torch."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module(TorchModel):
    """`model` is the miniclip model that computes. On torch's backends it is made of the module's Parameters."""

    config: Any
    tower: str | None = None

    def _hold(self, model: CLIP) -> None:
        """Take over the model's parameters."""
        self.__dict__["_arrays"] = None
        if "torch" not in model.ops.PACKAGES:
            self.__dict__["_arrays"] = model
            return
        for name, (kind, config, tower) in self._parts().items():
            self.add_module(name, kind(config, one_tower(model, tower)))
        self.adopt(model, self._table(model), *self._norms_and_eps(model))

    def _parts(self) -> dict[str, Any]:
        """{name: (class, configuration, tower)} of the models of one tower that this model is made of."""
        return {}

    def _part(self, name: str) -> Any:
        if self._arrays is None:
            return super().__getattr__(name)
        if name not in self.__dict__:  # on arrays it is made when it is first used
            kind, config, tower = self._parts()[name]
            self.__dict__[name] = kind(config, one_tower(self._arrays, tower))
        return self.__dict__[name]

    @property
    def model(self) -> CLIP:
        """The `miniclip.CLIP` that computes with the parameters as they are now."""
        return self.bound() if self._arrays is None else self._arrays

    def _table(self, model):
        """transformers' names for this model's parameters: those of a tower alone have no prefix."""
        prefix = "" if self._parts() else {"visual": "vision_model.", "text": "text_model.", None: ""}[self.tower]
        return {
            ours: tuple(type(name)(name.removeprefix(prefix)) for name in theirs)  # a class of `names`, or str
            for ours, theirs in families.of(model.config).names_of(model.config).items()
        }

    def _norms_and_eps(self, model):
        vision = getattr(self.config, "vision_config", self.config)
        norms = getattr(families.of(model.config).huggingface, "BATCH_NORMS", ())
        return norms, getattr(vision, "batch_norm_eps", 0.0)

    # --------------------------------------------------------------------------- torch's names, also for arrays

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """{transformers' name: tensor}, as in torch; on other backends ndarrays."""
        if self._arrays is None:
            return super().state_dict(*args, **options)
        model = self._arrays
        flat = params.flatten(params.tree_map(model.ops.to_numpy, model.params))
        return batch_norm.unfold(names.restore(flat, self._table(model)), *self._norms_and_eps(model))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Replace the parameters, as in torch. On other backends raises InputError, and `assign` changes nothing."""
        if self._arrays is None:
            return super().load_state_dict(state_dict, strict, assign)
        old, new = self.state_dict(), {name: np.asarray(for_backend(x, numpy_ops)) for name, x in state_dict.items()}
        result = LoadedKeys([name for name in old if name not in new], [name for name in new if name not in old])
        wrong = [name for name in old if name in new and old[name].shape != new[name].shape]
        if wrong or (strict and any(result)):
            raise InputError(
                f"the state does not fit this model: missing {result.missing_keys}, unexpected "
                f"{result.unexpected_keys}, of another shape {wrong}"
            )
        model = self._arrays
        known = {name: new.get(name, x) for name, x in old.items()}
        flat = names.rename(batch_norm.fold(known, *self._norms_and_eps(model)), self._table(model))
        self._hold(rebuilt(model, model.config, params.unflatten(flat)))
        self._clear_copies()
        return result

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[tuple[str, Any]]:
        if self._arrays is None:
            return super().named_parameters(*args, **options)
        statistics = (*batch_norm.VECTORS[2:], batch_norm.COUNT)
        return iter([(name, x) for name, x in self.state_dict().items() if not name.endswith(statistics)])

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        return (x for _, x in self.named_parameters(recurse=recurse))

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """The number of parameters."""
        return sum(
            int(np.prod(x.shape))
            for name, x in self.named_parameters()
            if not (exclude_embeddings and "embedding" in name.rpartition(".")[0].rpartition(".")[2])
            and (getattr(x, "requires_grad", True) or not only_trainable)
        )

    def train(self, mode: bool = True) -> Any:
        """Returns the same model, which computes the same in training: it has no dropout, and BatchNorms are frozen."""
        if self._arrays is None:
            return super().train(mode)
        return self

    def eval(self) -> Any:
        return self.train(False)

    @property
    def device(self) -> Any:
        return next(iter(self.parameters())).device if self._arrays is None else self._arrays.device

    @property
    def dtype(self) -> Any:
        return next(x for x in self.parameters() if np.prod(x.shape) != 1).dtype  # not of a scale, which is float32

    def to(self, *args: Any, **options: Any) -> Any:
        """Move the model to another device or dtype, as a torch module; returns the same object.

        If its backend does not run on the device, it gets one that does.
        """
        if self._arrays is None:
            return super().to(*args, **options)
        device, dtype = options.get("device"), options.get("dtype")
        for x in args:
            device, dtype = (device, x) if type(x).__name__ == "dtype" else (x, dtype)
        model = self._arrays
        backend = model.ops
        if device is not None and str(device) not in (str(model.device), "cpu" if backend.NAME == "numpy" else ""):
            backend = ops.select(backend.NAME if backend.ANY_DEVICE else "auto", device)
        else:
            device = model.device
        dtype = model.dtype if dtype is None else ops.dtype_name(dtype, backend)
        self._hold(rebuilt(model, model.config, model.params, backend, device, dtype))
        self._clear_copies()
        return self

    def cuda(self, device: Any = None) -> Any:
        return self.to(_cuda(device))

    def cpu(self) -> Any:
        return self.to("cpu")

    def half(self) -> Any:
        return super().half() if self._arrays is None else self.to(dtype="float16")

    def bfloat16(self) -> Any:
        return super().bfloat16() if self._arrays is None else self.to(dtype="bfloat16")

    def float(self) -> Any:
        return super().float() if self._arrays is None else self.to(dtype="float32")

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        return super().requires_grad_(requires_grad) if self._arrays is None else self

    def _clear_copies(self) -> None:
        for name in (*self._parts(), "_resized", "_spaces"):
            self.__dict__.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self.__dict__.get("_arrays") is None:
            return _missing(self, name) if TorchModel.__base__ is object else super().__getattr__(name)
        # On arrays, parts are names for them.
        if name in self._parts():
            return self._part(name)
        if name not in (parts := self._attributes()):
            _missing(self, name)
        return parts[name]

    def _attributes(self):
        """On arrays: {the name of a part: its array, or a namespace of arrays}."""
        if "_spaces" not in self.__dict__:
            self.__dict__["_spaces"] = _spaces(params.unflatten(self.state_dict()))
        return vars(self.__dict__["_spaces"])

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get("_arrays") is not None and name in self._attributes():
            raise InputError(READ_ONLY)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        base = super().__getstate__() if TorchModel.__base__ is not object else dict(self.__dict__)
        state = {name: x for name, x in base.items() if name not in ("_resized", "_spaces")}
        return state


def _missing(module, name):
    raise AttributeError(f"{type(module).__name__!r} object has no attribute {name!r}")


def _cuda(device):
    return "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device


READ_ONLY = "on this backend the parameters cannot be set: use load_state_dict, or backend='torch'"


class _Namespace(SimpleNamespace):
    """Parts of a model as attributes, to be read."""

    def __setattr__(self, name, value):
        raise InputError(READ_ONLY)


def _spaces(tree):
    """A parameter tree whose branches have attributes instead of keys; its arrays cannot be written to."""
    if isinstance(tree, dict):
        return _Namespace(**{name: _spaces(branch) for name, branch in tree.items()})
    if isinstance(tree, list):
        return [_spaces(branch) for branch in tree]
    view = tree.view()
    view.flags.writeable = False
    return view


def _tokenizer(model):
    return vars(model).get("tokenizer", model._tokenizer)  # without looking for one that nobody has asked for


def rebuilt(
    model: CLIP, config: Any, tree: dict, backend: Any = None, device: Any = None, dtype: str | None = None
) -> CLIP:
    """A copy of the model with this configuration and parameters; None: the same backend, device or dtype."""
    if backend not in (None, model.ops):
        tree = params.tree_map(model.ops.to_numpy, tree)
    return type(model)(
        config,
        tree,
        backend or model.ops,
        tokenizer=_tokenizer(model),
        device=model.device if device is None else device,
        dtype=model.dtype if dtype is None else dtype,
        **model.options,
    )


def one_tower(model: CLIP, tower: str) -> CLIP:
    """The model of one tower, without its projection."""
    config = dataclasses.replace(model.config, **{"visual": None, "text": None, tower: getattr(model.config, tower)})
    if "projection" in model.params[tower]:
        config = dataclasses.replace(config, embed_dim=None)
    branch = {name: x for name, x in model.params[tower].items() if name != "projection"}
    return rebuilt(model, config, {tower: branch})
