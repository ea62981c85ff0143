"""transformers 4's Flax CLIP models, on JAX: parameters beside the model, calls that are pure functions of them.

They need JAX (the extra `jax`), not Flax. `params` are a nested dict with Flax's names and layouts. A call takes other
ones, also in functions that JAX compiles and differentiates:

    loss = lambda params: model(**inputs, params=params).logits_per_image.sum()
    gradient = jax.grad(loss)(model.params)
"""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from miniclip import ops
from miniclip.checkpoints.huggingface import FLAX
from miniclip.errors import InputError
from miniclip.formats import flax_files
from miniclip.hf import loading
from miniclip.hf.configuration import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from miniclip.hf.functional import FIELDS, WHOLE
from miniclip.hf.modeling import check_config, check_present
from miniclip.hf.modeling_functional import FunctionalModel
from miniclip.hf.outputs import check_options


class FlaxPreTrainedModel(FunctionalModel):
    """The base class of the Flax models.

    config       transformers' configuration, an object of `config_class`
    input_shape  changes nothing: no parameter depends on it
    seed         for random weights, which have Flax's distributions, but not its numbers
    dtype        of the computation: float32 (None), bfloat16 or float16. The parameters keep their own, float32
    _do_init     False: the model has no parameters, and each call gets them

    A call takes Flax's arguments in Flax's order: arrays of NumPy or JAX, or tensors, and `params`, other parameters
    than the model's. `train` and `dropout_rng` change nothing, because there is no dropout. Outputs are arrays of JAX.
    Raises InputError; in functions that JAX compiles, texts with a mask that is refused elsewhere give NaN.
    """

    base_model_prefix = ""
    framework = "flax"

    def __init__(
        self, config: Any, input_shape: Any = None, seed: int = 0, dtype: Any = None, _do_init: bool = True
    ) -> None:
        check_config(self, config)
        backend = ops.select("jax")  # or an error that says what to install
        self._running = importlib.import_module("miniclip.hf.flax_running")
        self.config, self.input_shape = config, input_shape
        self.dtype = np.dtype(ops.dtype_name(dtype, backend))
        self.key = self._running.jax.random.PRNGKey(seed)
        given = loading.take()
        self._ours = config.ours() if given is None else given.config
        if not self.projected:
            self._ours = dataclasses.replace(self._ours, embed_dim=None)
        self._is_initialized = _do_init
        self._params: Any = None  # Flax's; made of `_tree` when someone asks for them
        self._tree: Any = None  # miniclip's
        self._leaves: list = []  # the arrays in `_params` that `_tree` was made of
        if given is not None:
            self._tree = self._running.jax.tree.map(backend.asarray, given.params)
        elif _do_init:
            self._params = self.init_weights(self.key)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        dtype: Any = None,
        *args: Any,
        config: Any = None,
        from_pt: bool = False,
        _do_init: bool = True,
        **options: Any,
    ) -> Any:
        """A model with its weights, from Flax's files or PyTorch's; with `_do_init=False` (model, its parameters).

        dtype    of the computation, as for the class
        config   another configuration of the same model: an object, a dictionary or a directory
        from_pt  if a directory has both, read PyTorch's files instead of Flax's

        The name, `cache_dir`, `subfolder`, `local_files_only` and `revision` are as in the models for torch. Of a
        repository on the hub that has both, PyTorch's files are fetched. Raises InputError, also if weights are missing
        or have another shape.
        """
        name, options = pretrained_model_name_or_path, {**options, "from_flax": not from_pt and loading.IF_THERE}
        check_present(pretrained_model_name_or_path=name)
        request = loading.Request.of(cls, name, "numpy", None, None, config, options)
        with loading.giving(request.model(cls)):
            model = cls(request.config, *args, **{"dtype": dtype, **request.arguments})
        if _do_init:
            return model
        parameters = model.params
        model._is_initialized, model._params, model._tree = False, None, None
        return model, parameters

    def save_pretrained(
        self,
        save_directory: Any,
        params: Any = None,
        push_to_hub: bool = False,
        max_shard_size: Any = "10GB",
        token: Any = None,
        safe_serialization: bool = False,
        **options: Any,
    ) -> None:
        """Write config.json and flax_model.msgpack into a directory, which is created if needed.

        params  parameters that are written instead of the model's
        safe_serialization  write model.safetensors with Flax's names

        The weights are always in one file. Raises InputError for `push_to_hub`.
        """
        check_options(type(self), {"push_to_hub": push_to_hub, **options})
        flat = self._running.checked(self.params if params is None else params, self._ours)
        arrays = {name: np.asarray(x) for name, x in flat.items()}
        self._write(save_directory, arrays, safe_serialization, FLAX, self._write_msgpack)

    def _write_msgpack(self, path, arrays):
        flax_files.write(path, self._running.nested(arrays))

    # ------------------------------------------------------------------------------------------------- parameters

    @property
    def params(self) -> Any:
        """The parameters, a nested dict with Flax's names. Others can be set; arrays in it can be replaced."""
        if not self._is_initialized:
            raise InputError("a model with _do_init=False has no params: give them to each call")
        if self._params is None:
            with self._running.jax.ensure_compile_time_eval():  # what is kept has values, also in a function to compile
                self._params = self._running.from_ours(self._tree)
            self._leaves = self._running.jax.tree.leaves(self._params)
        return self._params

    @params.setter
    def params(self, params: Any) -> None:
        if not self._is_initialized:
            raise InputError("a model with _do_init=False has no params: give them to each call")
        self._running.checked(params, self._ours)
        self._params = self._running.nested(self._running.flatten(params))

    @property
    def required_params(self) -> set[tuple[str, ...]]:
        """The names of all parameters, each a tuple."""
        return {tuple(name.split(".")) for name in self._running.shapes(self._ours)}

    @property
    def params_shape_tree(self) -> Any:
        """The parameters' shapes and types, without numbers."""
        struct, shapes = self._running.jax.ShapeDtypeStruct, self._running.shapes(self._ours)
        return self._running.nested({name: struct(x, np.float32) for name, x in shapes.items()})

    def init_weights(self, rng: Any, input_shape: Any = None, params: Any = None) -> Any:
        """New random parameters; with `params`, only for names that these do not have."""
        scale = getattr(self.config, "logit_scale_init_value", 0.0)
        drawn = self._running.random(rng, self._ours, scale)
        if params is None:
            return drawn
        return self._running.nested({**self._running.flatten(drawn), **self._running.flatten(params)})

    def to_bf16(self, params: Any, mask: Any = None) -> Any:
        """A copy of these parameters in bfloat16; `mask`: the same tree with True where they are converted."""
        return self._cast(params, "bfloat16", mask)

    def to_fp16(self, params: Any, mask: Any = None) -> Any:
        """The same in float16."""
        return self._cast(params, "float16", mask)

    def to_fp32(self, params: Any, mask: Any = None) -> Any:
        """The same in float32."""
        return self._cast(params, "float32", mask)

    def _cast(self, params, dtype, mask):
        tree_map = self._running.jax.tree.map
        if mask is None:
            return tree_map(lambda x: x.astype(dtype), params)
        return tree_map(lambda x, chosen: x.astype(dtype) if chosen else x, params, mask)

    # ---------------------------------------------------------------------------------------------------- running

    def _weights(self, params):
        """(parameters, whether they have Flax's names); the model's own are renamed once, as long as they stay."""
        if params:
            return self._running.nested(self._running.flatten(params)), True
        if self._params is None and self._is_initialized:
            return self._tree, False
        jax, own = self._running.jax, self.params
        leaves = jax.tree.leaves(own)
        if len(leaves) != len(self._leaves) or any(x is not y for x, y in zip(leaves, self._leaves)):
            if not all(isinstance(x, jax.Array) and self._running.known(x) for x in leaves):
                return own, True  # NumPy's arrays may change
            with jax.ensure_compile_time_eval():
                self._tree, self._leaves = self._running.to_ours(own, self._ours), leaves
        return self._tree, False

    def _run(self, params, inputs, output_attentions=None, output_hidden_states=None, *, features=False):
        """(tokens, mask, pixels), None if there are none -> FlaxOutput, see `flax_running.run`."""
        look = self._look(output_attentions, output_hidden_states, features)
        weights, is_flax = self._weights(params)
        options = {"config": self._ours, "dtype": self.dtype, "look": look, "is_flax": is_flax}
        return self._running.run(weights, *inputs, **options)

    def _output(self, fields, return_dict):
        """FlaxOutput, or Flax's tuple, which has neither hidden states nor attentions."""
        if self.config.return_dict if return_dict is None else return_dict:
            return self._running.FlaxOutput(fields)
        values = {name: x for name, x in fields.items() if name not in ("hidden_states", "attentions")}
        return tuple(x[:2] if isinstance(x, Mapping) else x for x in values.values())


class FlaxCLIPTextModel(FlaxPreTrainedModel):
    """transformers' FlaxCLIPTextModel: the text tower without its projection."""

    config_class, tower, projected = CLIPTextConfig, "text", False

    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        params: Mapping | None = None,
        dropout_rng: Any = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        inputs = self._texts(input_ids, attention_mask, position_ids)
        found = self._run(params, inputs, output_attentions, output_hidden_states)
        fields = {name: getattr(found.text_model_output, name) for name in FIELDS}
        if self.projected:
            del fields["pooler_output"]
            fields = {"text_embeds": found.text_embeds, **fields}
        return self._output(fields, return_dict)


class FlaxCLIPTextModelWithProjection(FlaxCLIPTextModel):
    """transformers' FlaxCLIPTextModelWithProjection: the text tower with its projection to the shared space."""

    projected = True


class FlaxCLIPVisionModel(FlaxPreTrainedModel):
    """transformers' FlaxCLIPVisionModel: the image tower without its projection."""

    config_class, tower, projected = CLIPVisionConfig, "visual", False
    main_input_name = "pixel_values"

    def __call__(
        self,
        pixel_values: Any,
        params: Mapping | None = None,
        dropout_rng: Any = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Pictures (B, 3, height, width), as CLIPProcessor prepares them."""
        found = self._run(params, self._pictures(pixel_values), output_attentions, output_hidden_states)
        return self._output({name: getattr(found.vision_model_output, name) for name in FIELDS}, return_dict)


class FlaxCLIPModel(FlaxPreTrainedModel):
    """transformers' FlaxCLIPModel."""

    config_class = CLIPConfig

    def __call__(
        self,
        input_ids: Any,
        pixel_values: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        params: Mapping | None = None,
        dropout_rng: Any = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """FlaxCLIPOutput of B pictures (B, 3, height, width) and N texts: logits_per_image (B, N) and more."""
        tokens, mask, _ = self._texts(input_ids, attention_mask, position_ids)
        inputs = tokens, mask, self._pictures(pixel_values)[2]
        found = self._run(params, inputs, output_attentions, output_hidden_states)
        return self._output({name: getattr(found, name) for name in WHOLE}, return_dict)

    def get_text_features(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        params: Mapping | None = None,
        dropout_rng: Any = None,
        train: bool = False,
    ) -> Any:
        """Token ids (B, T) to features (B, E), not normalised."""
        return self._run(params, self._texts(input_ids, attention_mask, position_ids), features=True).text_embeds

    def get_image_features(
        self, pixel_values: Any, params: Mapping | None = None, dropout_rng: Any = None, train: bool = False
    ) -> Any:
        """Pictures (B, 3, height, width) to features (B, E), not normalised."""
        return self._run(params, self._pictures(pixel_values), features=True).image_embeds
