"""The base classes of transformers' models: its arguments and outputs around `miniclip.CLIP` and `ALIGN`, any backend.

A call returns everything that transformers returns, also the hidden states after the end of a text.
`get_image_features` and `get_text_features` compute features only, and are faster.
"""

import dataclasses
import functools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from miniclip import api, families, ops, params
from miniclip.checkpoints import huggingface
from miniclip.config import pair
from miniclip.errors import InputError
from miniclip.fetch import hub
from miniclip.hf.outputs import ModelOutput, check_options, converter_like, for_backend
from miniclip.loss import contrastive_loss
from miniclip.ops import numpy_ops
from miniclip.towers import bert, efficientnet, text, vit


class Stages(NamedTuple):
    """The stages of a tower (names as its `trace` sees them) that are transformers' outputs."""

    first: str  # the first hidden state
    block: str  # the other hidden states, a pattern
    last: str | None  # `last_hidden_state`; None: the last of the hidden states
    pooled: str  # `pooler_output`


STAGES = {
    vit: Stages("ln_pre", r"blocks\.\d+\.mlp", None, "features"),
    text: Stages("embeddings", r"blocks\.\d+\.mlp", "ln_final", "features"),
    efficientnet: Stages("stem", r"blocks\.\d+", None, "features"),
    bert: Stages("embeddings", r"blocks\.\d+\.mlp", None, "pooler"),
}


class PreTrainedModel:
    """The base class of all models.

    config  transformers' configuration, an object of `config_class`
    model   the miniclip.CLIP or ALIGN that computes; None: a new one with random weights
    backend, device, dtype  of a model with random weights, as in `miniclip.load`

    A call takes transformers' arguments in transformers' order, and `output_hidden_states`, `output_attentions` and
    `return_dict` by name. Inputs are tensors or arrays, on any device; outputs are of the same kind. Raises
    InputError.
    """

    config_class: type
    tower: str | None = None  # "visual" or "text", None for both
    projected = True  # whether the features are in the space that pictures and texts share
    any_size = False  # whether pictures of other sizes need no `interpolate_pos_encoding`

    def __init__(self, config, model=None, *, backend="auto", device=None, dtype=None):
        if not isinstance(config, self.config_class):
            raise InputError(f"{type(self).__name__} takes a {self.config_class.__name__}, not {config!r}")
        self.config = config
        self.model = model or _random(type(self), config, ops.select(backend, device), device, dtype)
        self._resized = {}

    @classmethod
    def from_pretrained(
        cls, name, *, backend="auto", device=None, dtype=None, torch_dtype=None, cache_dir=None, **options
    ):
        """A model with its weights: `name`, `backend`, `device` and `dtype` as in `miniclip.load`; dtype None: float32.

        `torch_dtype` is the older name of `dtype`; `cache_dir` is the directory for downloads.
        """
        check_options(cls, options)
        dtype = torch_dtype if dtype is None else dtype
        path = hub.find(name, cache_dir)
        config = cls.config_class.from_pretrained(path)
        model, _ = api.load(path, backend, device, None if dtype == "auto" else dtype, tower=cls.tower)
        if not cls.projected:
            model = _one_tower(model, cls.tower)
        elif model.config.embed_dim is None:
            raise InputError(f"{path}: has no projection, which {cls.__name__} needs")
        return cls(config, model)

    def save_pretrained(self, directory, **options):
        """Write config.json and model.safetensors into a directory, which is created if needed."""
        check_options(type(self), options)
        Path(directory).mkdir(parents=True, exist_ok=True)
        tree = params.tree_map(self.model.ops.to_numpy, self.model.params)
        source = {**self.config.to_dict(), "architectures": [type(self).__name__]}
        huggingface.save_model(directory, self.model.config, tree, source)

    def __call__(self, *inputs, **options):
        return self.forward(*inputs, **options)

    def eval(self):
        """Returns the same model. It is always in evaluation mode, because it has no dropout."""
        return self

    def to(self, device=None, dtype=None):
        """Move the model to another device or dtype, like a torch module; returns the same object.

        If its backend does not run on the device, it gets one that does.
        """
        if type(device).__name__ == "dtype":
            device, dtype = None, device
        backend = self.model.ops
        if device is not None and str(device) != str(self.model.device):
            backend = ops.select(backend.NAME if backend.ANY_DEVICE else "auto", device)
        else:
            device = self.model.device
        dtype = self.model.dtype if dtype is None else ops.dtype_name(dtype, backend)
        self.model = _rebuilt(self.model, self.model.config, self.model.params, backend, device, dtype)
        self._clear_copies()
        return self

    def _clear_copies(self):
        self._resized.clear()

    @property
    def device(self):
        return self.model.device

    @property
    def dtype(self):
        return next(iter(params.flatten(self.model.params).values())).dtype

    def num_parameters(self):
        """The number of parameters. BatchNorms are folded into their convolutions, and so are not counted."""
        return sum(int(np.prod(x.shape)) for x in params.flatten(self.model.params).values())

    # ---------------------------------------------------------------------------------------- running a tower

    def _encode_image(self, pixel_values, interpolate_pos_encoding=False):
        """A function that encodes these pictures; it takes the options of `encode_image`, such as `trace`."""
        check_present(pixel_values=pixel_values)
        model = self._of_size(np.shape(pixel_values)[-2:], interpolate_pos_encoding)
        return functools.partial(model.encode_image, for_backend(pixel_values, model.ops))

    def _encode_text(self, input_ids, attention_mask=None, *others):
        """A function that encodes these texts; it takes the options of `encode_text`, such as `trace`."""
        check_present(input_ids=input_ids)
        try:
            tokens = np.asarray(for_backend(input_ids, numpy_ops))
        except ValueError as error:
            raise InputError("input_ids has rows of different lengths: pad them to one length") from error
        lengths = None
        if attention_mask is not None:
            lengths = _lengths(np.asarray(for_backend(attention_mask, numpy_ops)), tokens)
        return functools.partial(self.model.encode_text, tokens, **self._text_options(tokens, lengths, *others))

    def _text_options(self, tokens, lengths):
        """The other arguments of `encode_text`: lengths (B,), None if there is no attention_mask. tokens is (B, T)."""
        ends = text.end_of_text(tokens, self.model.config.text.eot_token_id)
        if lengths is not None and (ends >= lengths).any():
            raise InputError("attention_mask hides the end of a text: it must be 1 up to the end-of-text token")
        return {"lengths": lengths}

    def _of_size(self, size, interpolate):
        """The model for pictures of size (height, width), with interpolated positions if the size is another one."""
        config, size = self.model.config, tuple(size)
        if not (interpolate or self.any_size) or len(size) != 2 or size == pair(config.visual.image_size):
            return self.model
        if size not in self._resized:
            alone = dataclasses.replace(config, text=None)
            tree = params.tree_map(self.model.ops.to_numpy, {"visual": self.model.params["visual"]})
            self._resized[size] = _rebuilt(self.model, *families.with_image_size(alone, tree, size))
        return self._resized[size]


def run_tower(encode, tower, convert, output_hidden_states=None, output_attentions=None):
    """(features, transformers' output of the tower): features are the backend's arrays, the output's are converted.

    encode is a function that takes a trace, tower the module that it comes from, convert a function of one array.
    """
    names, stages = STAGES[tower], {}

    def trace(name, value):
        stages[name] = value

    trace.attentions = bool(output_attentions)
    features = encode(trace=trace)
    blocks = [x for name, x in stages.items() if re.fullmatch(names.block, name)]
    weights = [x for name, x in stages.items() if name.endswith("attention_weights")]
    pooled = stages.get(names.pooled)
    return features, ModelOutput(
        last_hidden_state=convert(stages[names.last] if names.last else blocks[-1]),
        pooler_output=None if pooled is None else convert(pooled),
        hidden_states=tuple(map(convert, [stages[names.first], *blocks])) if output_hidden_states else None,
        attentions=tuple(map(convert, weights)) if weights else None,
    )


def _lengths(mask, tokens):
    """attention_mask (B, T), ones then zeros in each row -> the number of ones in each row, (B,)."""
    lengths = (mask != 0).sum(-1)
    if mask.shape != tokens.shape or not ((mask != 0) == (np.arange(mask.shape[-1]) < lengths[..., None])).all():
        raise InputError(
            f"attention_mask is {mask.shape}, for tokens {tokens.shape}: it must have the same shape, and in each row "
            f"ones and then zeros, because texts are padded on the right"
        )
    return lengths


def check_present(**inputs):
    for name, value in inputs.items():
        if value is None:
            raise InputError(f"{name} is missing")


def check_absent(**inputs):
    """Raise InputError for arguments of transformers that miniclip does not support."""
    for name, value in inputs.items():
        if value is not None:
            raise InputError(f"{name} is given, but miniclip does not take it: leave it out")


# ------------------------------------------------------------------------------------------ models from other models


def _rebuilt(model, config, tree, backend=None, device=None, dtype=None):
    """A copy of the model with this configuration and parameters; None: the same backend, device or dtype."""
    if backend not in (None, model.ops):
        tree = params.tree_map(model.ops.to_numpy, tree)
    return type(model)(
        config,
        tree,
        backend or model.ops,
        tokenizer=vars(model).get("tokenizer", model._tokenizer),  # without looking for one that nobody has asked for
        device=model.device if device is None else device,
        dtype=model.dtype if dtype is None else dtype,
        batch_invariant=model.batch_invariant,
    )


def _one_tower(model, tower):
    """The model of one tower, without its projection."""
    config = dataclasses.replace(model.config, **{"visual": None, "text": None, tower: getattr(model.config, tower)})
    if "projection" in model.params[tower]:
        config = dataclasses.replace(config, embed_dim=None)
    branch = {name: x for name, x in model.params[tower].items() if name != "projection"}
    return _rebuilt(model, config, {tower: branch})


def _random(kind, config, backend, device, dtype):
    """A model with random weights: normal, deviation `config.initializer_range`; norms are 1, biases 0."""
    ours, deviation = config.ours(), getattr(config, "initializer_range", 0.02)  # CLIPConfig has none
    if not kind.projected and "projection" in ours.shapes()[kind.tower]:
        ours = dataclasses.replace(ours, embed_dim=None)
    rng, flat = np.random.default_rng(), {}
    for name, shape in params.flatten(ours.shapes()).items():
        if name == ours.scale:
            flat[name] = np.asarray(getattr(config, f"{name}_init_value"), np.float32)
        elif name.endswith("bias"):
            flat[name] = np.zeros(shape, np.float32)
        elif ".ln_" in name:
            flat[name] = np.ones(shape, np.float32)
        else:
            flat[name] = deviation * rng.standard_normal(shape, dtype=np.float32)
    model = families.of(ours).model
    return model(ours, params.unflatten(flat), backend, device=device, dtype=ops.dtype_name(dtype, backend))


# ----------------------------------------------------------------------------------------------------- the models


class WholeModel(PreTrainedModel):
    """Both towers. A tower alone is a `text_class` or a `vision_class`."""

    text_class: type
    vision_class: type
    label_smoothing = 0.0

    @functools.cached_property
    def text_model(self):
        """The text tower alone, with the same weights."""
        return self.text_class(self.config.text_config, _one_tower(self.model, "text"))

    @functools.cached_property
    def vision_model(self):
        """The image tower alone, with the same weights."""
        return self.vision_class(self.config.vision_config, _one_tower(self.model, "visual"))

    def _clear_copies(self):
        super()._clear_copies()
        for name in ("text_model", "vision_model"):
            self.__dict__.pop(name, None)

    def _run(self, encode_image, encode_text, example, return_loss, return_dict=None, **outputs):
        """CLIPOutput or AlignOutput of B pictures and N texts, in tensors or arrays, whichever `example` is."""
        backend, convert = self.model.ops, converter_like(example, self.model.ops)
        config = self.model.config
        image, vision_model_output = run_tower(encode_image, config.visual.tower, convert, **outputs)  # (B, E)
        texts, text_model_output = run_tower(encode_text, config.text.tower, convert, **outputs)  # (N, E)
        logits = self.model.logits(image, texts)  # (B, N)
        if return_loss and logits.shape[0] != logits.shape[1]:
            raise InputError(
                f"return_loss needs one text for each picture, but there are {logits.shape[0]} pictures and "
                f"{logits.shape[1]} texts"
            )
        loss = contrastive_loss(logits, ops=backend, label_smoothing=self.label_smoothing) if return_loss else None
        output = ModelOutput(
            loss=None if loss is None else convert(loss),
            logits_per_image=convert(logits),
            logits_per_text=convert(logits.T),
            text_embeds=convert(backend.l2_normalize(texts)),
            image_embeds=convert(backend.l2_normalize(image)),
            text_model_output=text_model_output,
            vision_model_output=vision_model_output,
        )
        return output.to_tuple() if return_dict is False else output


class TowerModel(PreTrainedModel):
    """One tower. `embeds` is transformers' name for its features, if it has a projection."""

    embeds: str

    def _run(self, encode, example, return_dict=None, **outputs):
        convert = converter_like(example, self.model.ops)
        features, output = run_tower(encode, getattr(self.model.config, self.tower).tower, convert, **outputs)
        if self.projected:
            others = ("last_hidden_state", "hidden_states", "attentions")
            output = ModelOutput(**{self.embeds: convert(features)}, **{name: getattr(output, name) for name in others})
        return output.to_tuple() if return_dict is False else output
