"""transformers 4's TensorFlow CLIP models: calls on variables with Keras's names, for tf.GradientTape and tf.function.

They need TensorFlow (the extra `tensorflow`), not Keras: there is no `fit`, but every optimizer takes their gradients.

    with tf.GradientTape() as tape:
        loss = model(**inputs, return_loss=True).loss
    gradients = tape.gradient(loss, model.trainable_variables)
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from miniclip import ops
from miniclip.checkpoints.huggingface import TENSORFLOW, WEIGHTS
from miniclip.errors import InputError
from miniclip.families import tensorflow_names
from miniclip.formats import hdf5_files
from miniclip.hf import loading
from miniclip.hf.configuration import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from miniclip.hf.functional import FIELDS, WHOLE
from miniclip.hf.initial import random_model
from miniclip.hf.modeling import check_config, check_pairs, check_present
from miniclip.hf.modeling_functional import FunctionalModel
from miniclip.hf.outputs import check_options


def _unpacking(function):
    """A method that may get its arguments in one mapping, as Keras's may: model(inputs) for model(**inputs)."""

    @functools.wraps(function)
    def method(self, *args, **options):
        if args and isinstance(args[0], Mapping):
            args, options = args[1:], {**args[0], **options}
        return function(self, *args, **options)

    return method


class TFPreTrainedModel(FunctionalModel):
    """The base class of the TensorFlow models.

    config  transformers' configuration, an object of `config_class`
    name    that the variables' names begin with; None: that of transformers, such as "tfclip_model"

    Random weights have the distributions of transformers' models for TensorFlow; tf.random.set_seed makes them
    repeatable. A call takes transformers' arguments in their order, or all in one mapping: arrays, or tensors.
    `training` changes nothing, because there is no dropout. Outputs are tensors of float32. Raises InputError; in
    functions that TensorFlow compiles, texts with a mask that is refused elsewhere give NaN.
    """

    own_name: str  # that Keras gives to the first model of the class
    base_model_prefix = tensorflow_names.LAYER
    framework = "tf"
    trainable = True  # False: there are no trainable_variables

    def __init__(self, config: Any, *, name: str | None = None) -> None:
        check_config(self, config)
        ops.select("tensorflow")  # or an error that says what to install
        self._running = importlib.import_module("miniclip.hf.tensorflow_running")
        self.config, self.name = config, name or self.own_name
        given = loading.take() or random_model(
            type(self), config, ops.select("numpy"), None, None, self._running.seed(), True
        )
        self._ours = given.config if self.projected else dataclasses.replace(given.config, embed_dim=None)
        self._variables = self._running.variables(given.params, self.name)
        self._tree = self._running.to_ours(self._variables)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        *args: Any,
        config: Any = None,
        from_pt: bool = False,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Any:
        """A model with its weights, from model.safetensors, else from tf_model.h5, else from other files of weights.

        config   another configuration of the same model: an object, a dictionary or a directory
        from_pt  if a directory has both, read PyTorch's pytorch_model.bin instead of tf_model.h5
        output_loading_info  return (model, transformers' report on names of weights), which has no faults

        The name, `cache_dir`, `subfolder`, `local_files_only` and `revision` are as in the models for torch. Of a
        repository on the hub that has several, PyTorch's files are fetched. Raises InputError, also if weights are
        missing or have another shape.
        """
        name, options = pretrained_model_name_or_path, {"from_tf": not from_pt and loading.UNLESS_SAFE, **options}
        check_present(pretrained_model_name_or_path=name)
        request = loading.Request.of(cls, name, "numpy", None, None, config, options)
        with loading.giving(request.model(cls)):
            model = cls(request.config, *args, **request.arguments)
        report: dict[str, list] = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
        return (model, report) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: Any,
        saved_model: bool = False,
        version: int = 1,
        push_to_hub: bool = False,
        signatures: Any = None,
        max_shard_size: Any = "5GB",
        create_pr: bool = False,
        safe_serialization: bool = False,
        token: Any = None,
        **options: Any,
    ) -> None:
        """Write config.json and tf_model.h5 into a directory, which is created if needed.

        safe_serialization  write model.safetensors, with TensorFlow's names, instead of tf_model.h5

        The weights are always in one file. Raises InputError for `saved_model` and `push_to_hub`, and for a directory
        with a model.safetensors, which `from_pretrained` would read instead of the tf_model.h5.
        """
        given = {"saved_model": saved_model, "signatures": signatures, "push_to_hub": push_to_hub}
        check_options(type(self), {**given, **options})
        if not safe_serialization and (Path(save_directory) / WEIGHTS[0]).exists():
            raise InputError(
                f"{save_directory}: has a {WEIGHTS[0]}, which would be read instead of {TENSORFLOW}: save with "
                f"safe_serialization=True, or into another directory"
            )
        arrays = {tensorflow_names.from_flax(name): x.numpy() for name, x in self._variables.items()}
        self._write(save_directory, arrays, safe_serialization, TENSORFLOW, self._write_hdf5)

    def _write_hdf5(self, path, arrays):
        hdf5_files.write(path, self.base_model_prefix, {f"{self.name}/{name}": x for name, x in arrays.items()})

    # --------------------------------------------------------------------------------------------------- variables

    @property
    def variables(self) -> list:
        """All parameters, each a tf.Variable, in the order of transformers' model."""
        return [*self._variables.values()]

    @property
    def trainable_variables(self) -> list:
        """Those that are trained: all, or none if `trainable` is False."""
        return self.variables if self.trainable else []

    @property
    def non_trainable_variables(self) -> list:
        return [] if self.trainable else self.variables

    weights, trainable_weights, non_trainable_weights = variables, trainable_variables, non_trainable_variables

    def get_weights(self) -> list[np.ndarray]:
        """The parameters as ndarrays, in the order of `variables`."""
        return [x.numpy() for x in self.variables]

    def set_weights(self, weights: Any) -> None:
        """Replace the parameters by arrays of the same shapes, in the same order. Raises InputError for others."""
        given, expected = [np.shape(x) for x in weights], [tuple(x.shape) for x in self.variables]
        if given != expected:
            wrong = next((pair for pair in zip(given, expected) if pair[0] != pair[1]), "")
            raise InputError(f"there are {len(given)} weights, expected {len(expected)}; first wrong shape: {wrong}")
        for variable, x in zip(self.variables, weights):
            variable.assign(x)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """The number of parameters."""
        return sum(int(np.prod(x.shape)) for x in (self.trainable_variables if only_trainable else self.variables))

    count_params = num_parameters

    # ----------------------------------------------------------------------------------------------------- running

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.call(*args, **options)

    call: Any

    def _run(self, inputs, output_attentions=None, output_hidden_states=None, *, features=False):
        """(tokens, mask, pixels), None if there are none -> TFOutput, see `tensorflow_running.run`."""
        look = self._look(output_attentions, output_hidden_states, features)
        return self._running.run(self._tree, *inputs, config=self._ours, look=look)

    def _output(self, fields, return_dict):
        output = self._running.TFOutput(fields)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()


class TFCLIPTextModel(TFPreTrainedModel):
    """transformers' TFCLIPTextModel: the text tower without its projection."""

    config_class, tower, projected, own_name = CLIPTextConfig, "text", False, "tfclip_text_model"

    @_unpacking
    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = False,
    ) -> Any:
        inputs = self._texts(input_ids, attention_mask, position_ids)
        found = self._run(inputs, output_attentions, output_hidden_states)
        return self._output({name: getattr(found.text_model_output, name) for name in FIELDS}, return_dict)


class TFCLIPVisionModel(TFPreTrainedModel):
    """transformers' TFCLIPVisionModel: the image tower without its projection."""

    config_class, tower, projected, own_name = CLIPVisionConfig, "visual", False, "tfclip_vision_model"
    main_input_name = "pixel_values"

    @_unpacking
    def call(
        self,
        pixel_values: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = False,
    ) -> Any:
        """Pictures (B, 3, height, width), as CLIPProcessor prepares them."""
        found = self._run(self._pictures(pixel_values), output_attentions, output_hidden_states)
        return self._output({name: getattr(found.vision_model_output, name) for name in FIELDS}, return_dict)


class TFCLIPModel(TFPreTrainedModel):
    """transformers' TFCLIPModel."""

    config_class, own_name = CLIPConfig, "tfclip_model"

    @_unpacking
    def call(
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        return_loss: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Any:
        """The output for B pictures (B, 3, height, width) and N texts: logits_per_image (B, N) and more.

        `return_loss` adds the contrastive loss, (1,), of B pictures and their B texts.
        """
        tokens, mask, _ = self._texts(input_ids, attention_mask, position_ids)
        inputs = tokens, mask, self._pictures(pixel_values)[2]
        found = self._run(inputs, output_attentions, output_hidden_states)
        logits = found.logits_per_image  # (B, N)
        if return_loss:
            check_pairs(*logits.shape)
        loss = self._running.loss(logits) if return_loss else None
        return self._output({"loss": loss, **{name: getattr(found, name) for name in WHOLE}}, return_dict)

    @_unpacking
    def get_text_features(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Any:
        """Token ids (B, T) to features (B, E), not normalised."""
        return self._run(self._texts(input_ids, attention_mask, position_ids), features=True).text_embeds

    @_unpacking
    def get_image_features(
        self,
        pixel_values: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Any:
        """Pictures (B, 3, height, width) to features (B, E), not normalised."""
        return self._run(self._pictures(pixel_values), features=True).image_embeds
