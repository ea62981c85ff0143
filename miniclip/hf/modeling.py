"""The base classes of transformers' models: its arguments and outputs around `miniclip.CLIP` and `ALIGN`, any backend.

A call returns everything that transformers returns, also the hidden states after the end of a text.
`get_image_features` and `get_text_features` compute features only, and are faster.
"""

import copy
import functools
from typing import Any, ClassVar

import numpy as np

from miniclip import params
from miniclip.checkpoints import huggingface
from miniclip.config import pair
from miniclip.errors import InputError
from miniclip.hf import loading
from miniclip.hf.initial import random_model, resized
from miniclip.hf.modules import Module
from miniclip.hf.outputs import ModelOutput, check_options, converter_like, for_backend
from miniclip.hf.running import check_ends, lengths_of, run_tower, with_image_size
from miniclip.loss import contrastive_loss
from miniclip.model import CLIP
from miniclip.ops import numpy_ops

OUTPUTS = {"output_hidden_states", "output_attentions", "return_dict"}  # options of every call


class PreTrainedModel(Module):
    """The base class of all models: a torch.nn.Module on torch's backends.

    config  transformers' configuration, an object of `config_class`
    model   the `miniclip.CLIP` whose parameters it takes; None: new ones, which are random
    backend, device, dtype  of a model with random weights, as in `from_pretrained`
    seed    for random weights; None: torch.manual_seed counts on torch's backends, elsewhere numpy.random.seed

    A call takes transformers' arguments in transformers' order, and `output_hidden_states`, `output_attentions` and
    `return_dict` by name; their defaults are those of the configuration. Inputs are tensors or arrays, on any device;
    outputs are of the same kind. Raises InputError.
    """

    config_class: type
    base_model_prefix = ""
    main_input_name = "input_ids"
    projected = True  # whether the features are in the space that pictures and texts share
    any_size = False  # whether pictures of other sizes need no `interpolate_pos_encoding`

    def __init__(
        self,
        config: Any,
        model: CLIP | None = None,
        *,
        backend: str = "auto",
        device: Any = None,
        dtype: Any = None,
        seed: int | None = None,
    ):
        super().__init__()
        check_config(self, config)
        self.config = config
        self.name_or_path = getattr(config, "name_or_path", "")
        self._hold(
            model
            or loading.take()
            or random_model(type(self), config, loading.select(backend, device), device, dtype, seed)
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        *args: Any,
        backend: str = "auto",
        device: Any = None,
        dtype: Any = None,
        config: Any = None,
        state_dict: Any = None,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Any:
        """A model with its weights, in evaluation mode; the name, `device` and `dtype` are as in `miniclip.load`.

        backend   "numpy", "torch", "triton", "jax", "tensorflow"; "auto": triton for a GPU that it supports, else
                  torch, or numpy if torch is not installed
        dtype     None: float32; `torch_dtype` is its older name
        config    another configuration of the same model: an object, a dictionary or a directory
        state_dict  the weights instead of those in the files; then the name may be None, with a `config`
        output_loading_info  return (model, transformers' report on names of weights), which has no faults: weights that
                  are missing, unknown or have another shape raise InputError

        `cache_dir` (the directory for downloads), `subfolder`, `variant`, `device_map` (one device), `local_files_only`
        and `revision="main"` are as in transformers. Arguments that change nothing here are ignored, settings of the
        configuration are changed, and the class gets its own arguments. Others raise InputError.
        """
        name = pretrained_model_name_or_path
        request = loading.Request.of(cls, name, backend, device, dtype, config, options)
        given = request.model(cls)
        if given is None:
            options = {"backend": backend, "device": request.device, "dtype": request.dtype, **request.arguments}
        else:
            options = request.arguments
        with loading.giving(given):
            model = cls(request.config, *args, **options)
        model.name_or_path = "" if name is None else str(name)
        if state_dict is not None:
            model.load_state_dict(state_dict)
        report: dict[str, Any] = {
            "missing_keys": set(),
            "unexpected_keys": set(),
            "mismatched_keys": set(),
            "error_msgs": [],
        }
        return (model.eval(), report) if output_loading_info else model.eval()

    @classmethod
    def _from_config(cls, config: Any, **options: Any) -> Any:
        dtype = options.pop("torch_dtype", None) or options.pop("dtype", None)
        check_options(cls, options)
        return cls(config, dtype=dtype)

    def save_pretrained(self, save_directory: Any, state_dict: Any = None, **options: Any) -> None:
        """Write config.json and model.safetensors into a directory, which is created if needed.

        `state_dict`, if given, has the weights that are written. Raises InputError for `push_to_hub` and other
        arguments that would change the files.
        """
        check_options(type(self), options)
        model = self.model
        if state_dict is not None:
            other = copy.deepcopy(self)
            other.load_state_dict(state_dict)
            model = other.model
        tree = params.tree_map(model.ops.to_numpy, model.params)
        source = {**self.config.to_dict(), "architectures": [type(self).__name__]}
        huggingface.save_model(save_directory, model.config, tree, source)

    def get_input_embeddings(self) -> Any:
        """The module of the token embeddings; of a tower for pictures, that of the patches or the first convolution."""
        if self.tower != "visual" and self._parts():
            return self.text_model.get_input_embeddings()
        part = self.vision_model if self._parts() else self
        return getattr(part.embeddings, part.input_embeddings)

    def set_input_embeddings(self, value: Any) -> None:
        """Replace them by a module of the same type."""
        if self.tower != "visual" and self._parts():
            return self.text_model.set_input_embeddings(value)
        part = self.vision_model if self._parts() else self
        setattr(part.embeddings, part.input_embeddings, value)

    input_embeddings: str

    def get_output_embeddings(self) -> None:
        """None: these models write no text."""

    @classmethod
    def can_generate(cls) -> bool:
        return False

    # What transformers' own tools ask of a class.
    supports_gradient_checkpointing = is_gradient_checkpointing = _is_stateful = False
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = False
    _tied_weights_keys = _keys_to_ignore_on_save = _keys_to_ignore_on_load_missing = None
    _keys_to_ignore_on_load_unexpected = _no_split_modules = None
    _keep_in_fp32_modules: tuple = ()
    _keep_in_fp32_modules_strict: tuple = ()

    def init_weights(self) -> None:
        """Draw all weights again, at random."""
        model = self.model
        new = random_model(type(self), self.config, model.ops, model.device, model.dtype)
        self.load_state_dict(type(self)(self.config, new).state_dict())

    def tie_weights(self) -> None:
        """No weights are tied."""

    def resize_token_embeddings(self, new_num_tokens: int | None = None, **options: Any) -> Any:
        """Give the vocabulary another size; new rows are the mean of the old ones. Returns the token embeddings.

        Only for torch's backends. Raises InputError for a tower for pictures.
        """
        if self.tower == "visual" or self._arrays is not None:
            raise InputError(f"{type(self).__name__} has no token embeddings that can be resized: load it on torch")
        old = self.get_input_embeddings()
        if new_num_tokens not in (None, len(old.weight)):
            self.set_input_embeddings(resized(old, new_num_tokens))
            for config in {id(x): x for x in (self.config, self.config.get_text_config())}.values():
                if hasattr(config, "vocab_size"):
                    config.vocab_size = new_num_tokens
            if self._parts():
                self.text_model.config.vocab_size = new_num_tokens
        return self.get_input_embeddings()

    @property
    def base_model(self) -> Any:
        return getattr(self, self.base_model_prefix) if self.base_model_prefix in self._parts() else self

    # ---------------------------------------------------------------------------------------- running a tower

    def _encode_image(self, model, pixel_values, interpolate_pos_encoding=False):
        """A function that encodes these pictures; it takes the options of `encode_image`, such as `trace`."""
        check_present(pixel_values=pixel_values)
        model = self._of_size(model, np.shape(pixel_values)[-2:], interpolate_pos_encoding)
        return functools.partial(model.encode_image, for_backend(pixel_values, model.ops))

    def _encode_text(self, model, input_ids, attention_mask=None, *others):
        """A function that encodes these texts; it takes the options of `encode_text`, such as `trace`."""
        check_present(input_ids=input_ids)
        try:
            tokens = np.asarray(for_backend(input_ids, numpy_ops))
        except InputError:
            raise
        except ValueError as error:
            raise InputError("input_ids has rows of different lengths: pad them to one length") from error
        lengths = None
        if attention_mask is not None:
            lengths = lengths_of(np.asarray(for_backend(attention_mask, numpy_ops)), tokens)
        return functools.partial(model.encode_text, tokens, **self._text_options(model, tokens, lengths, *others))

    def _text_options(self, model, tokens, lengths):
        """The other arguments of `encode_text`: lengths (B,), None if there is no attention_mask. tokens is (B, T)."""
        if lengths is not None:
            check_ends(tokens, lengths, model.config.text)
        return {"lengths": lengths}

    def _of_size(self, model, size, interpolate):
        """The model for pictures of size (height, width), with interpolated positions if the size is another one."""
        config, size = model.config, tuple(size)
        if not (interpolate or self.any_size) or len(size) != 2 or size == pair(config.visual.image_size):
            return model
        resized = self.__dict__.setdefault("_resized", {})
        if size not in resized or resized[size][0] is not model:
            resized[size] = model, with_image_size(model, size)
        return resized[size][1]

    def _chosen(self, options):
        """The options of a call; those that are None have the value of the configuration, or of a tower's."""
        towers = (getattr(self.config, f"{name}_config", None) for name in ("text", "vision"))
        configs, chosen = [self.config, *filter(None, towers)], dict(options)
        unknown = options.keys() - {"output_hidden_states", "output_attentions", "return_dict"}
        if unknown:
            raise InputError(f"this call of {type(self).__name__} takes no {', '.join(sorted(unknown))}: leave it out")
        for name in ("output_hidden_states", "output_attentions"):
            if options.get(name) is None:
                chosen[name] = any(getattr(config, name) for config in configs)
        if options.get("return_dict") is None:
            chosen["return_dict"] = all(config.return_dict is not False for config in configs)
        return chosen


def check_config(model, config):
    """Raise InputError for a configuration of another class, or of transformers itself."""
    if not isinstance(config, model.config_class):
        kind = f"{type(config).__module__.partition('.')[0]}'s {type(config).__name__}"
        raise InputError(f"{type(model).__name__} takes a {model.config_class.__name__} of miniclip.hf, not {kind}")


def check_present(**inputs):
    for name, value in inputs.items():
        if value is None:
            raise InputError(f"{name} is missing")


def check_absent(**inputs):
    """Raise InputError for arguments of transformers that miniclip does not support."""
    for name, value in inputs.items():
        if value is not None:
            raise InputError(f"{name} is given, but miniclip does not take it: leave it out")


def check_pairs(B, N):
    """Raise InputError if B pictures and N texts are not pairs; a number that is not known yet is None."""
    if None not in (B, N) and B != N:
        raise InputError(f"return_loss needs one text for each picture, but there are {B} pictures and {N} texts")


# ----------------------------------------------------------------------------------------------------- the models


class WholeModel(PreTrainedModel):
    """Both towers. A tower alone is a `text_class` or a `vision_class`."""

    text_class: type
    vision_class: type
    label_smoothing = 0.0
    pooled: ClassVar[dict[str, str]] = {}  # {tower: the stage that is its `pooler_output`}, if it is another one here

    def _parts(self):
        return {
            "text_model": (self.text_class, self.config.text_config, "text"),
            "vision_model": (self.vision_class, self.config.vision_config, "visual"),
        }

    def _loss(self, logits, backend):
        return contrastive_loss(logits, ops=backend, label_smoothing=self.label_smoothing)

    def _features(self, model, encode, tower, example, options):
        """Features; with an option of transformers 5, such as return_dict=True, its output, which also has states."""
        convert, wanted = converter_like(example, model.ops), vars(self.config).keys() & OUTPUTS
        if not (wanted or any(value is not None for value in options.values())):
            return convert(encode())
        outputs = self._chosen(options)
        return_dict = outputs.pop("return_dict")
        features, output = run_tower(encode, getattr(model.config, tower).tower, convert, **outputs)
        output.pooler_output = convert(features)
        return output if return_dict else output.to_tuple()

    def _run(self, model, encode_image, encode_text, example, return_loss, options):
        """CLIPOutput or AlignOutput of B pictures and N texts, in tensors or arrays, whichever `example` is."""
        backend, convert, outputs = model.ops, converter_like(example, model.ops), self._chosen(options)
        return_dict, config = outputs.pop("return_dict"), model.config
        image, vision_model_output = run_tower(  # (B, E)
            encode_image, config.visual.tower, convert, **outputs, pooled=self.pooled.get("visual")
        )
        texts, text_model_output = run_tower(  # (N, E)
            encode_text, config.text.tower, convert, **outputs, pooled=self.pooled.get("text")
        )
        logits = model.logits(image, texts)  # (B, N)
        if return_loss:
            check_pairs(*logits.shape)
        loss = self._loss(logits, backend) if return_loss else None
        output = ModelOutput(
            loss=None if loss is None else convert(loss),
            logits_per_image=convert(logits),
            logits_per_text=convert(logits.T),
            text_embeds=convert(backend.l2_normalize(texts)),
            image_embeds=convert(backend.l2_normalize(image)),
            text_model_output=text_model_output,
            vision_model_output=vision_model_output,
        )
        return output if return_dict else output.to_tuple()


class TowerModel(PreTrainedModel):
    """One tower. `embeds` is transformers' name for its features, if it has a projection."""

    embeds: str

    def _run(self, model, encode, example, options):
        convert, outputs = converter_like(example, model.ops), self._chosen(options)
        return_dict = outputs.pop("return_dict")
        features, output = run_tower(encode, getattr(model.config, str(self.tower)).tower, convert, **outputs)
        if self.projected:
            others = ("last_hidden_state", "hidden_states", "attentions")
            output = ModelOutput(**{self.embeds: convert(features)}, **{name: getattr(output, name) for name in others})
        return output if return_dict else output.to_tuple()
