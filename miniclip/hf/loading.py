"""`from_pretrained`: which files, configuration, backend and dtype its arguments mean."""

import contextlib
import contextvars
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from miniclip import api, ops
from miniclip.checkpoints import huggingface
from miniclip.errors import InputError
from miniclip.hf.files import WHERE, find_adapted
from miniclip.hf.modules import one_tower
from miniclip.hf.outputs import check_options
from miniclip.model import CLIP

# The model whose parameters the next object takes: subclasses have constructors of their own, without a `model`.
_given: contextvars.ContextVar = contextvars.ContextVar("given", default=None)


@contextlib.contextmanager
def giving(model: CLIP) -> Iterator[None]:
    """The first model that is made in this context takes the parameters of `model`."""
    token = _given.set(model)
    try:
        yield
    finally:
        _given.reset(token)


def take() -> CLIP | None:
    """What `giving` gives, once."""
    model = _given.get()
    _given.set(None)
    return model


def select(backend: str, device: Any = None) -> ModuleType:
    """As `ops.select`, but "auto" prefers torch to NumPy if it is installed: users of transformers expect modules."""
    chosen = ops.select(backend, device)
    if backend == "auto" and chosen.NAME == "numpy" and importlib.util.find_spec("torch"):
        return ops.select("torch", device)
    return chosen


class Request(NamedTuple):
    """What `from_pretrained` was asked for."""

    path: Path | None
    adapter: Path | None  # of PEFT, which is added to the weights
    config: Any
    backend: str
    device: Any
    dtype: Any
    arguments: dict[str, Any]  # of the class itself

    @classmethod
    def of(cls, kind, name, backend, device, dtype, config, options):
        dtype, older = dtype, options.pop("torch_dtype", None)
        dtype, device = (older if dtype is None else dtype), _device(device, options.pop("device_map", None))
        variant, where = options.pop("variant", None), {key: options.pop(key, None) for key in WHERE}
        path, adapter = (None, None) if name is None else find_adapted(name, dict(where))
        for option, file in FROM.items():
            path = _from(path, file, option, options.pop(option, None))
        config = kind.config_class.from_pretrained(path) if config is None else _config(kind, config)
        arguments = {key: options.pop(key) for key in _parameters(kind) & options.keys()}
        for key in options.keys() & {*vars(config), "output_hidden_states", "output_attentions", "return_dict"}:
            setattr(config, key, options.pop(key))
        check_options(kind, options)
        if variant and path:
            path = path / f"model.{variant}.safetensors"
            if not path.exists():
                raise InputError(f"{path}: no such file: variant is {variant!r}, a part of a weights file's name")
        return cls(path, adapter, config, backend, device, None if dtype == "auto" else dtype, arguments)

    def model(self, kind: Any) -> CLIP | None:
        """The model for objects of this class; None: a random one."""
        if self.path is None:
            return None
        backend = select(self.backend, self.device).NAME
        model, _ = api.load(self.path, backend, self.device, self.dtype, adapter=self.adapter, tower=kind.tower)
        if str(model.device) == "meta" and str(self.device) != "meta":
            raise InputError(
                f"{self.path}: tensors on the meta device have no values: load it outside torch.device('meta')"
            )
        if not kind.projected:
            return one_tower(model, kind.tower)
        if model.config.embed_dim is None:
            raise InputError(f"{self.path}: has no projection, which {kind.__name__} needs")
        if hasattr(self.config, "projection_dim"):  # a tower's own configuration may not have it from the whole model
            self.config.projection_dim = model.config.embed_dim
        return model


FROM = {"from_flax": huggingface.FLAX, "from_tf": huggingface.TENSORFLOW}
# Values of these options: read such weights if there are any; the same, unless there is a model.safetensors.
IF_THERE, UNLESS_SAFE = "if there", "unless there is a model.safetensors"


def _from(path, file, option, wanted):
    """The path of this file of weights if it is wanted and in this directory, else the same path."""
    if not wanted or path is None or not path.is_dir():
        return path
    others = [name for name in huggingface.WEIGHTS if (path / name).exists()]
    safe = huggingface.WEIGHTS[0]
    if wanted == UNLESS_SAFE and (safe in others or (path / f"{safe}.index.json").exists()):
        return path
    if file in others:
        return path / file
    if others and ((path / f"{file}.index.json").exists() or wanted not in (IF_THERE, UNLESS_SAFE)):
        raise InputError(
            f"{path}: has no {file} in one file, but {others[0]}, which may be another model: load it with "
            f"from_pt=True or without {option}, or move it away"
        )
    return path


def _parameters(kind):
    """The arguments of a subclass's own constructor."""
    names = set(inspect.signature(kind.__init__).parameters)
    return names - {"self", "config", "model", "backend", "device", "dtype", "seed", "args", "kwargs", "options"}


def _config(kind, config):
    if isinstance(config, dict):
        return kind.config_class.from_dict(config)
    return config if isinstance(config, kind.config_class) else kind.config_class.from_pretrained(config)


def _device(device, device_map):
    """The device that accelerate's `device_map` names; InputError for a map to several."""
    if isinstance(device_map, dict):
        devices = set(map(str, device_map.values()))
        if len(devices) != 1:
            raise InputError(f"device_map is {device_map!r}, but miniclip puts a model on one device")
        (device_map,) = devices
        device_map = f"cuda:{device_map}" if device_map.isdigit() else device_map
    if device is not None or device_map in (None, "auto", "balanced", "sequential"):
        return device
    return f"cuda:{device_map}" if isinstance(device_map, int) else device_map
