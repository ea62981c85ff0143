"""What transformers' models have in common, around `miniclip.CLIP` and `ALIGN`: its arguments and outputs, any backend.

A call gives all that transformers gives, hidden states behind a text's end included. Whoever wants features and nothing
else is served faster by `get_image_features` and `get_text_features`.
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
from miniclip.hf.outputs import ModelOutput, check_options, given, taken
from miniclip.loss import contrastive_loss
from miniclip.ops import numpy_ops
from miniclip.towers import bert, efficientnet, text, vit


class Stages(NamedTuple):
    """By which of our names for its stages (see the towers) transformers' outputs of a tower are known."""

    first: str  # hidden state
    block: str  # the other hidden states, a pattern
    last: str | None  # hidden state; None: the last of those
    pooled: str


STAGES = {
    vit: Stages("ln_pre", r"blocks\.\d+\.mlp", None, "features"),
    text: Stages("embeddings", r"blocks\.\d+\.mlp", "ln_final", "features"),
    efficientnet: Stages("stem", r"blocks\.\d+", None, "features"),
    bert: Stages("embeddings", r"blocks\.\d+\.mlp", None, "pooler"),
}


class PreTrainedModel:
    """What all models have in common.

    config  transformers' configuration, an object of `config_class`
    model   the miniclip.CLIP or ALIGN behind it; None: one with random weights
    backend, device, dtype  of a model with random weights, as in `miniclip.load`

    A call takes transformers' arguments, in its order, and by name `output_hidden_states`, `output_attentions` and
    `return_dict`. Inputs are tensors or arrays, wherever the model computes; outputs are of the same kind. Raises
    InputError.
    """

    config_class: type
    tower: str | None = None  # "visual" or "text", None for both
    projected = True  # whether its features are in the space that pictures and texts share
    any_size = False  # whether pictures may have other sizes without being asked for

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
        """A model with its weights: `name`, `backend`, `device` and `dtype` as in `miniclip.load`, float32 for None.

        `torch_dtype` is the older name of `dtype`; `cache_dir` is the directory for what has to be fetched.
        """
        check_options(cls, options)
        dtype = torch_dtype if dtype is None else dtype
        path = api.find(name, cache_dir)
        config = cls.config_class.from_pretrained(path)
        model, _ = api.load(path, backend, device, None if dtype == "auto" else dtype, tower=cls.tower)
        if not cls.projected:
            model = _alone(model, cls.tower)
        elif model.config.embed_dim is None:
            raise InputError(f"{path}: has no projection, which a {cls.__name__} needs")
        return cls(config, model)

    def save_pretrained(self, directory, **options):
        """Write config.json and model.safetensors into a directory, which is made if it is not there."""
        check_options(type(self), options)
        Path(directory).mkdir(parents=True, exist_ok=True)
        tree = params.tree_map(self.model.ops.to_numpy, self.model.params)
        source = {**self.config.to_dict(), "architectures": [type(self).__name__]}
        huggingface.save_model(directory, self.model.config, tree, source)

    def __call__(self, *inputs, **options):
        return self.forward(*inputs, **options)

    def eval(self):
        """Returns the same model: it is always in this mode, as it has no dropout."""
        return self

    def to(self, device=None, dtype=None):
        """Put the model on another device, for a backend that computes there, or in another dtype, as torch's does.

        Returns the same object.
        """
        if type(device).__name__ == "dtype":
            device, dtype = None, device
        backend = self.model.ops
        if device is not None and str(device) != str(self.model.device):
            backend = ops.select(backend.NAME if backend.ANY_DEVICE else "auto", device)
        else:
            device = self.model.device
        dtype = self.model.dtype if dtype is None else api.dtype_name(dtype, backend)
        self.model = _rebuilt(self.model, self.model.config, self.model.params, backend, device, dtype)
        self._forget()
        return self

    def _forget(self):
        self._resized.clear()

    @property
    def device(self):
        return self.model.device

    @property
    def dtype(self):
        return next(iter(params.flatten(self.model.params).values())).dtype

    def num_parameters(self):
        """How many numbers it has learned, those of BatchNorms folded into their convolutions."""
        return sum(int(np.prod(x.shape)) for x in params.flatten(self.model.params).values())

    # --------------------------------------------------------------------------------------- what towers give

    def _encode_image(self, pixel_values, interpolate_pos_encoding=False):
        """A function of options, a trace for one, that encodes these pictures."""
        check_present(pixel_values=pixel_values)
        model = self._of_size(np.shape(pixel_values)[-2:], interpolate_pos_encoding)
        return functools.partial(model.encode_image, taken(pixel_values, model.ops))

    def _encode_text(self, input_ids, attention_mask=None, *others):
        """The same for texts."""
        check_present(input_ids=input_ids)
        try:
            tokens = np.asarray(taken(input_ids, numpy_ops))
        except ValueError as error:
            raise InputError("input_ids has rows of different lengths: pad them") from error
        lengths = None
        if attention_mask is not None:
            lengths = _lengths(np.asarray(taken(attention_mask, numpy_ops)), tokens)
        return functools.partial(self.model.encode_text, tokens, **self._text_options(tokens, lengths, *others))

    def _text_options(self, tokens, lengths):
        """What `encode_text` takes beside tokens (B, T): lengths (B,), or None without an attention_mask."""
        ends = text.end_of_text(tokens, self.model.config.text.eot_token_id)
        if lengths is not None and (ends >= lengths).any():
            raise InputError("attention_mask hides where a text ends: it must be 1 up to the end-of-text token")
        return {"lengths": lengths}

    def _of_size(self, size, interpolate):
        """The model for pictures (height, width)."""
        config, size = self.model.config, tuple(size)
        if not (interpolate or self.any_size) or len(size) != 2 or size == pair(config.visual.image_size):
            return self.model
        if size not in self._resized:
            alone = dataclasses.replace(config, text=None)
            tree = params.tree_map(self.model.ops.to_numpy, {"visual": self.model.params["visual"]})
            self._resized[size] = _rebuilt(self.model, *families.with_image_size(alone, tree, size))
        return self._resized[size]


def see(encode, tower, give, output_hidden_states=None, output_attentions=None):
    """(features, what transformers says of the tower): the first the backend's own arrays, the others handed to `give`.

    encode takes a trace, tower is the module that it comes from.
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
        last_hidden_state=give(stages[names.last] if names.last else blocks[-1]),
        pooler_output=None if pooled is None else give(pooled),
        hidden_states=tuple(map(give, [stages[names.first], *blocks])) if output_hidden_states else None,
        attentions=tuple(map(give, weights)) if weights else None,
    )


def _lengths(mask, tokens):
    """(B, T) of ones, then zeros -> how many ones, (B,)."""
    lengths = (mask != 0).sum(-1)
    if mask.shape != tokens.shape or not ((mask != 0) == (np.arange(mask.shape[-1]) < lengths[..., None])).all():
        raise InputError(
            f"attention_mask is {mask.shape}, for tokens {tokens.shape}: it has to be of the same shape, in each row "
            f"ones and then zeros: texts are padded at their ends"
        )
    return lengths


def check_present(**inputs):
    for name, value in inputs.items():
        if value is None:
            raise InputError(f"{name} is missing")


def check_absent(**inputs):
    """InputError for arguments of transformers' that miniclip has no use for."""
    for name, value in inputs.items():
        if value is not None:
            raise InputError(f"{name} is given, which miniclip does not take: leave it out")


# --------------------------------------------------------------------------------------------- models made of others


def _rebuilt(model, config, tree, backend=None, device=None, dtype=None):
    """A model with another configuration, other parameters, or on another backend, device or dtype."""
    if backend not in (None, model.ops):
        tree = params.tree_map(model.ops.to_numpy, tree)
    return type(model)(
        config,
        tree,
        backend or model.ops,
        tokenizer=lambda: model.tokenizer,
        device=model.device if device is None else device,
        dtype=model.dtype if dtype is None else dtype,
        batch_invariant=model.batch_invariant,
    )


def _alone(model, tower):
    """One tower, without its projection."""
    config = dataclasses.replace(model.config, **{"visual": None, "text": None, tower: getattr(model.config, tower)})
    if "projection" in model.params[tower]:
        config = dataclasses.replace(config, embed_dim=None)
    branch = {name: x for name, x in model.params[tower].items() if name != "projection"}
    return _rebuilt(model, config, {tower: branch})


def _random(kind, config, backend, device, dtype):
    """Normal numbers, of deviation `config.initializer_range`, for all weights except norms, and biases of 0."""
    ours, deviation = config.ours(kind.__name__), getattr(config, "initializer_range", 0.02)  # a CLIPConfig has none
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
    return model(ours, params.unflatten(flat), backend, device=device, dtype=api.dtype_name(dtype, backend))


# ----------------------------------------------------------------------------------------------------- the models


class WholeModel(PreTrainedModel):
    """Both towers, of which each alone is a model of `text_class` and `vision_class`."""

    text_class: type
    vision_class: type
    label_smoothing = 0.0

    @functools.cached_property
    def text_model(self):
        """The text tower alone, with the same weights."""
        return self.text_class(self.config.text_config, _alone(self.model, "text"))

    @functools.cached_property
    def vision_model(self):
        """The image tower alone, with the same weights."""
        return self.vision_class(self.config.vision_config, _alone(self.model, "visual"))

    def _forget(self):
        super()._forget()
        for name in ("text_model", "vision_model"):
            self.__dict__.pop(name, None)

    def _joined(self, encode_image, encode_text, example, return_loss, return_dict=None, **look):
        """CLIPOutput or AlignOutput of B pictures and N texts, of the kind of `example`."""
        backend, give = self.model.ops, given(self.model.ops, example)
        config = self.model.config
        image, vision_model_output = see(encode_image, config.visual.tower, give, **look)  # (B, E)
        texts, text_model_output = see(encode_text, config.text.tower, give, **look)  # (N, E)
        logits = self.model.logits(image, texts)  # (B, N)
        if return_loss and logits.shape[0] != logits.shape[1]:
            raise InputError(f"return_loss wants a text for each picture, and there are {tuple(logits.shape)} of them")
        loss = contrastive_loss(logits, ops=backend, label_smoothing=self.label_smoothing) if return_loss else None
        output = ModelOutput(
            loss=None if loss is None else give(loss),
            logits_per_image=give(logits),
            logits_per_text=give(logits.T),
            text_embeds=give(backend.l2_normalize(texts)),
            image_embeds=give(backend.l2_normalize(image)),
            text_model_output=text_model_output,
            vision_model_output=vision_model_output,
        )
        return output.to_tuple() if return_dict is False else output


class TowerModel(PreTrainedModel):
    """One tower. `embeds` is what transformers calls its features, where it has a projection."""

    embeds: str

    def _seen(self, encode, example, return_dict=None, **look):
        give = given(self.model.ops, example)
        features, output = see(encode, getattr(self.model.config, self.tower).tower, give, **look)
        if self.projected:
            others = ("last_hidden_state", "hidden_states", "attentions")
            output = ModelOutput(**{self.embeds: give(features)}, **{name: getattr(output, name) for name in others})
        return output.to_tuple() if return_dict is False else output
