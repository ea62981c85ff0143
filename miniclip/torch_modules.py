"""A miniclip model as a torch module: Parameters under another library's names, and a CLIP that computes with them.

The Parameters are the truth. A rename table (`families.names`) gives their names: each array of ours is one of theirs,
several that are joined, or one that is transposed. At first they share its memory.
From the Parameters as they are now, `bound` derives the tree that the towers read:

- if gradients are wanted, at each call with differentiable operations: `loss.backward()` reaches every Parameter
- else once, until a Parameter is another one, has moved or was changed in place

So `.half()`, `load_state_dict`, optimizers, `torch.func.functional_call` and assigned Parameters need no extra code.

Our convolutions have BatchNorms folded into them (`families.batch_norm`). Here they are two modules again, and deriving
folds them with the statistics that are stored: in training, too, BatchNorms stay as they are (frozen).

The submodules only keep Parameters: the towers do not call them. A submodule that would change the result if it was
called, one of another type or with a hook, is an error; except what PEFT puts around one for LoRA, which is added.
"""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from miniclip import ops, params, torch_arrays
from miniclip.config import ModelConfig
from miniclip.errors import InputError
from miniclip.families import batch_norm, names
from miniclip.model import CLIP
from miniclip.ops import torch_ops


class Source(NamedTuple):
    """An array of ours, and where it comes from."""

    ours: str
    theirs: tuple[str, ...]  # several are joined along the first axis
    line: str  # the first of them, as the table has it: its class says whether its shape is another one


class Recipe(NamedTuple):
    """A model without its parameters."""

    kind: type[CLIP]
    config: ModelConfig
    backend: str
    tokenizer: Any

    @classmethod
    def of(cls, model: CLIP) -> "Recipe":
        # the tokenizer, or the function that finds it if nobody has asked for it yet
        return cls(type(model), model.config, model.backend, vars(model).get("tokenizer", model._tokenizer))

    def model(self, tree: dict, backend: Any) -> CLIP:
        """The model with these parameters, used as they are, on an ops module."""
        config = self.config
        if "text" in tree and (rows := len(tree["text"]["embed"]["table"])) != config.text.vocab_size:  # was resized
            config = dataclasses.replace(config, text=dataclasses.replace(config.text, vocab_size=rows))
        projections = [
            tree[name]["projection"]["weight"] for name in ("visual", "text") if "projection" in tree.get(name, {})
        ]
        if projections and config.embed_dim not in (None, len(projections[0])):  # were replaced
            config = dataclasses.replace(config, embed_dim=len(projections[0]))
        model = self.kind(config, tree, backend, tokenizer=self.tokenizer)
        model.dtype = str(next(iter(params.flatten(tree).values())).dtype).removeprefix("torch.")
        return model


class Slots(NamedTuple):
    """Where the tensors of a module are."""

    root: nn.Module
    links: list[tuple[dict, str, nn.Module, tuple]]  # the `_modules` of a parent, a child's name, the child, _signature
    places: list[tuple[dict, str, Any]]  # a module's `_parameters` or `_buffers`, a tensor's name, the module


class Container(nn.Module):
    """Parameters and nothing to compute."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise InputError("this part of the model only keeps parameters: call the model, or one of its towers")


class TorchModel(nn.Module):
    """The base of torch modules whose Parameters are those of a miniclip model: `adopt` registers them.

    `bound()` is the miniclip.CLIP, or a model of another family, that computes with the Parameters as they are now.
    """

    def adopt(
        self, model: CLIP, table: Mapping[str, Sequence[str]], norms: Sequence = (), norm_eps: float = 0.0
    ) -> None:
        """Register the parameters of `model`, whose arrays are tensors, under the names of a rename table.

        norms     the endings of the names of convolutions and of their BatchNorms, as in `batch_norm.fold`
        norm_eps  of these BatchNorms

        Names that are registered already, such as those of a submodule that has adopted its own part, stay as they are.
        """
        flat = params.flatten(model.params)
        self._recipe = Recipe.of(model)
        self._sources = _sources(flat, table)
        self._norm_eps = norm_eps
        self._kinds: dict[str, type] = {}  # of the modules that have the parameters
        tensors: dict[str, torch.Tensor] = {}
        makers: dict[str, str] = {}
        for ours, theirs, line in self._sources:
            x = flat[ours].detach()
            if x.is_inference():  # could never be trained
                with torch.inference_mode(False):
                    x = x.clone()
            parts = x.chunk(len(theirs)) if len(theirs) > 1 else [names.to_theirs(x, line)]
            tensors |= zip(theirs, parts)
            makers |= dict.fromkeys(theirs, ours)
        self._norms = [pair for pair in batch_norm.pairs(tensors, norms) if f"{pair[0]}.bias" in tensors]
        with torch.inference_mode(False):
            buffers = torch_arrays.unfold(tensors, self._norms, norm_eps)
        self._names = [*tensors, *(name for name in buffers if not name.endswith(batch_norm.COUNT))]
        for name, x in tensors.items():
            owner, leaf = self._owner(name, x, makers.get(name))
            if leaf not in owner._parameters or owner._parameters[leaf] is None or owner._parameters[leaf].is_meta:
                owner.register_parameter(leaf, nn.Parameter(x))
        for name, x in buffers.items():
            owner, leaf = self._owner(name)
            if leaf not in owner._buffers:
                owner.register_buffer(leaf, x)
        self._signatures = {path: _signature(self.get_submodule(path)) for path in self._kinds}
        self._forget()

    def _owner(self, name, x=None, ours=None):
        """(the module that has the tensor of this name, the last part of the name); missing modules are made."""
        *path, leaf = name.split(".")
        owner: nn.Module = self
        for i, key in enumerate(path):
            child = owner._modules.get(key)
            if child is None:
                if path[i + 1 : i + 2] and path[i + 1].isdigit():
                    child = nn.ModuleList()
                else:
                    last = i == len(path) - 1
                    child = self._module(ours, x) if last and ours and leaf == "weight" else Container()
                owner.add_module(key, child)
            owner = child
            self._kinds[".".join(path[: i + 1])] = type(child)
        return owner, leaf

    def _module(self, ours, x):
        """torch's module for a weight of this name of ours; one with another computation is a Container."""
        path = ours.split(".")
        tower, parent, last = path[0], path[-2], path[-1]
        options = {"device": "meta", "dtype": x.dtype}  # its own parameters are replaced at once
        bias = f"{ours.removesuffix('weight')}bias" in {source.ours for source in self._sources}
        if parent.startswith("ln_"):
            return nn.LayerNorm(x.shape, eps=getattr(self._recipe.config, tower).eps, **options)
        if last in ("table", "position_embedding", "type_embedding"):
            rows, width = x.shape
            return nn.Embedding(rows, width, _weight=torch.empty(x.shape, **options))  # given, it is not made random
        if parent == "patch_embed" and x.ndim == 4:
            return nn.Conv2d(x.shape[1], x.shape[0], x.shape[2], x.shape[2], bias=bias, **options)
        if x.ndim == 2:
            return nn.Linear(x.shape[1], x.shape[0], bias=bias, **options)
        return Container()

    # ------------------------------------------------------------------------------ the model of today's Parameters

    def bound(self) -> CLIP:
        """The miniclip model that computes with the Parameters as they are now.

        If Parameters want gradients, it is differentiable, on the torch backend. Raises InputError if a
        submodule was replaced by one of another type, or has a hook.
        """
        values = self._values()
        if torch.jit.is_tracing():  # a trace, and the check of it, must see where each tensor comes from
            return self._derive(values, torch.cat, torch_ops)
        if torch.is_grad_enabled() and any(x.requires_grad for x in values):
            return self._derive(values, torch_arrays.join_differentiably, torch_ops)
        try:
            state = _state(values)
        except RuntimeError:  # the tensors of torch.func's transformations have no address
            return self._derive(values, torch.cat, torch_ops)
        found = self.__dict__.get("_found")
        if found and all(map(operator.is_, found[0], values)) and found[1] == state:
            return found[2]
        with torch.inference_mode(False), torch.no_grad():
            # The Parameters may move when they are joined: only then are their addresses those to remember.
            model = self._derive(values, torch_arrays.join, None)
            if self._only_views(values):  # of a copy, nobody would see what is written to `.data`
                self.__dict__["_found"] = values, _state(values), model
        return model

    def _only_views(self, values):
        """Whether what is derived shares the Parameters' memory: joined ones are neighbours, all have one dtype."""
        tensors = dict(zip(self._names, values))
        joined = [[tensors[name] for name in theirs] for _, theirs, _ in self._sources if len(theirs) > 1]
        dtypes = {x.dtype for x in values if x.numel() > 1}
        return len(dtypes) == 1 and all(torch_arrays.neighbours(parts) is not None for parts in joined)

    def train(self, mode: bool = True) -> "TorchModel":
        """As in torch. Nothing depends on the mode, for there is no dropout, and BatchNorms keep their statistics."""
        self._forget()
        return super().train(mode)

    def _forget(self):
        self.__dict__.pop("_found", None)
        self.__dict__.pop("_slots", None)

    def __getstate__(self) -> dict:
        return {name: x for name, x in self.__dict__.items() if name not in ("_found", "_slots")}

    def _derive(self, values, join, backend):
        tensors = dict(zip(self._names, values))
        for conv, norm in self._norms:
            torch_arrays.fold(tensors, conv, norm, self._norm_eps)
        flat = {}
        for ours, theirs, line in self._sources:
            x = tensors[theirs[0]] if len(theirs) == 1 else join([tensors[name] for name in theirs])
            if not torch.is_grad_enabled():
                x = x.detach()
            flat[ours] = names.from_theirs(x, line)
        dtype = next(iter(flat.values())).dtype  # of the first weight, as in OpenAI's model: theirs may have several
        tree = params.unflatten({ours: x.to(dtype) if x.ndim else x for ours, x in flat.items()})
        return self._recipe.model(tree, backend or _backend(self._recipe.backend, next(iter(flat.values()))))

    def _values(self):
        """The tensors, in the order of `_names`."""
        slots = self.__dict__.get("_slots")
        if slots is None or slots.root is not self or not all(_as_before(*link) for link in slots.links):
            slots = self.__dict__["_slots"] = self._find()
        # A parametrization, a copy by torch.nn.DataParallel or an adapter has tensors elsewhere than in `_parameters`.
        values = [
            x if (x := place.get(leaf)) is not None else getattr(owner, leaf) for place, leaf, owner in slots.places
        ]
        if any(x is None for x in values):
            missing = next(name for name, x in zip(self._names, values) if x is None)
            raise InputError(f"{missing} is None, but miniclip's towers need it: give it a value")
        return values

    def _find(self):
        modules: dict[str, nn.Module] = {"": self}
        adapted: dict[str, torch_arrays.Adapted] = {}
        links: list[tuple[dict, str, nn.Module, tuple]] = []
        places: list[tuple[dict, str, Any]] = []
        for path, kind in self._kinds.items():
            above, _, key = path.rpartition(".")
            parent = modules[above]
            place: dict = parent._modules
            child: Any = place.get(key)
            while inner := torch_arrays.inside(child):  # PEFT has put something around it
                _check_hooks(path, child)
                links.append((place, key, child, _signature(child)))
                if inner[1] == "base_layer":
                    adapted[path] = torch_arrays.Adapted(child, path)
                place, key = inner
                child = place[key]
            if not _is_one(child, kind):
                raise InputError(
                    f"{path} is now a {type(child).__name__}, which miniclip does not call: its towers only read the "
                    f"parameters of a {kind.__name__} there. Leave the module as it is, and change its parameters"
                )
            _check_hooks(path, child)
            if _signature(child) != self._signatures[path] and not is_parametrized(child):
                raise InputError(
                    f"{path} has another submodule, parameter, forward or setting than at first, which miniclip does "
                    f"not see: its towers only read the parameters that were there. Undo this change"
                )
            modules[path] = child
            links.append((place, key, child, _signature(child)))
        for name in self._names:
            path, _, leaf = name.rpartition(".")
            owner = modules[path]
            if path in adapted:
                places.append(({}, leaf, adapted[path]))
            else:
                places.append((owner._buffers if leaf in owner._buffers else owner._parameters, leaf, owner))
        return Slots(self, links, places)


def _as_before(modules, key, child, signature):
    return modules.get(key) is child and _signature(child) == signature


def _signature(child):
    """What of a submodule, besides the values of its parameters, would change what it computes if it was called."""
    values = vars(child)
    parameters = sum(x is not None for x in child._parameters.values())
    peft = str(values.get("_active_adapter")), values.get("_disable_adapters")  # which module is `inside`
    settings = "forward" in values, values.get("eps"), values.get("max_norm"), *peft
    return len(child._modules), parameters, _has_hooks(child), *settings


def _check_hooks(path, child):
    if _has_hooks(child):
        raise InputError(
            f"{path} has a hook, which miniclip does not call: remove it, and use output_hidden_states=True or a hook "
            f"of the whole model"
        )


def _has_hooks(child):
    return bool(child._forward_hooks or child._forward_pre_hooks or child._backward_hooks or child._backward_pre_hooks)


def _is_one(child, kind):
    """Whether a submodule only keeps parameters, as a module of this kind does: of no other class that computes."""
    return type(child) is kind or (isinstance(child, kind) and (issubclass(kind, TorchModel) or is_parametrized(child)))


def _state(values):
    """What changes if a tensor moves or is changed in place."""
    try:
        return [(x.data_ptr(), x._version) for x in values]
    except RuntimeError:
        return [(x.data_ptr(), _version(x)) for x in values]


def _version(x):
    try:
        return x._version
    except RuntimeError:  # a tensor from inference mode does not count its changes
        return -1


def _backend(name, x):
    """The ops module of this name, or torch's if it cannot compute with the tensor x."""
    if name != torch_ops.NAME:
        try:
            chosen = ops.select(name, x.device)
        except InputError:
            return torch_ops
        if str(x.dtype).removeprefix("torch.") in chosen.DTYPES:
            return chosen
    return torch_ops


def _sources(flat, table):
    """[Source] for our flat names, in the table's order."""
    blocks = sorted({int(number) for name in flat for number in names.NUMBERS.findall(name)})
    found = []
    for ours, theirs in table.items():
        for block in blocks if "{}" in ours else [""]:
            if ours.format(block) in flat:
                found.append(Source(ours.format(block), tuple(str(name).format(block) for name in theirs), theirs[0]))
    return found
