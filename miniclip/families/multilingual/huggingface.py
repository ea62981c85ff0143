"""transformers' Chinese-CLIP and AltCLIP for `checkpoints.huggingface`: names, configuration, image settings.

Both have CLIP's image tower. Chinese-CLIP's text tower is a BERT, AltCLIP's an XLM-RoBERTa; the text head decides which
of the two is written, "linear" or "norm". An image tower alone is written as Chinese-CLIP's: AltCLIP's is the same. A
text tower alone may be M-CLIP's, which transformers does not have (see `mclip`).
"""

import dataclasses
import re

from miniclip.config import VisionConfig
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.families.bert import BertConfig
from miniclip.families.bert_names import BERT, bert, bert_to, table
from miniclip.families.clip import huggingface as clip
from miniclip.families.clip.huggingface import PREPROCESSOR, preprocessor, read_pictures  # noqa: F401  the same
from miniclip.families.multilingual import bases, mclip
from miniclip.families.multilingual.config import MultilingualConfig
from miniclip.families.multilingual.tokenizer_files import (  # noqa: F401  for the record
    CHINESE_LENGTH,
    load_tokenizer,
    save_tokenizer,
    tokenizer_json,
)

KINDS = ("chinese_clip", "altclip")
MODEL_TYPES = tuple(f"{kind}{part}" for kind in KINDS for part in ("", "_text_model", "_vision_model"))
MODEL_TYPES += (mclip.MODEL_TYPE,)
ALT_LENGTH = 77  # tokens of a text in AltCLIP's training, as CLIP's


def _names(text, blocks="encoder.layer.{}."):
    """The table of names of a model whose text tower's begin with `text`."""
    return {
        **{ours: theirs for ours, theirs in clip.NAMES.items() if ours.startswith("visual.")},
        **table(text, blocks),
        "text.projection.weight": ("text_projection.weight",),
        "logit_scale": ("logit_scale",),
    }


# Names in transformers, modeling_chinese_clip.py; only a text tower alone has a pooler.
CHINESE = _names("text_model.")
# Names in transformers, modeling_altclip.py.
ALT = {
    **_names("text_model.roberta.", "encoder.layers.{}."),
    **names.modules("text.", "text_model.", {"ln_pooled": ("pre_LN",), "hidden": ("transformation",)}),
}
# AltCLIP's names in the files of transformers 4, and in those that 5.23 writes; `prepare` makes them those above.
_LAYERS = {ours: tuple(name.replace(".layers.", ".layer.") for name in theirs) for ours, theirs in ALT.items()}
_INSIDE = {ours: tuple(f"vision_model.{x}" for x in theirs) for ours, theirs in ALT.items() if ours[0] == "v"}
TABLES = (CHINESE, ALT, _LAYERS, _INSIDE, mclip.NAMES)


def names_of(config):
    """The table of a model's names."""
    if _is_mclip(config):
        return mclip.NAMES
    return ALT if _kind(config) == "altclip" else CHINESE


def _is_mclip(config):
    return not config.visual and config.text.pool == "mean"


def _kind(config):
    return "altclip" if config.text and config.text.head == "norm" else "chinese_clip"


def config_from(source, settings=None):
    """The contents of a config.json -> MultilingualConfig; missing values have transformers' defaults.

    The image processor's `settings` say how pictures are prepared, without them the defaults: transformers' in any case
    (`pictures` is never None), since these are no models of OpenAI's.
    """
    kind = source["model_type"]
    if kind == mclip.MODEL_TYPE:
        return mclip.config_from(source)
    read_text = _alt_text if kind.startswith("altclip") else _chinese_text
    if kind.endswith("_vision_model"):
        return MultilingualConfig(_vision(source, settings), None, embed_dim=None)
    if kind.endswith("_text_model"):
        return MultilingualConfig(None, read_text({"add_pooling_layer": True, **source}), embed_dim=None)
    # As in CLIP's `config_from`: older files have the author's settings in a "_dict".
    vision, text = (source.get(f"{tower}_config_dict") or source.get(f"{tower}_config") or {} for tower in clip.TOWERS)
    width = source.get("projection_dim", 768 if kind == "altclip" else 512)
    return MultilingualConfig(_vision(vision, settings), read_text(text), embed_dim=width)


def _vision(source, settings):
    visual = clip.vision_from(source)
    size = visual.image_size
    pictures = read_pictures({"size": {"shortest_edge": size}, "crop_size": size, **(settings or {})})
    return dataclasses.replace(visual, pictures=pictures)


def _chinese_text(source):
    pooler = source.get("add_pooling_layer", False)  # an argument in transformers: a whole model's tower has none
    return BertConfig(**bert({**BERT, **source}), pooler=pooler, head="linear", longest_text=CHINESE_LENGTH)


def _alt_text(source):
    fields = bert({**ALT_DEFAULTS, **source})
    first = fields["pad_token_id"] + 1
    return BertConfig(
        **{**fields, "context_length": fields["context_length"] - first},
        pooler=False,
        first_position=first,
        head="norm",
        hidden_width=source.get("project_dim", 768),
        longest_text=ALT_LENGTH,
    )


def config_to(config):
    """MultilingualConfig -> the contents of a config.json; the inverse of `config_from`."""
    visual = config.visual
    if visual and (type(visual) is not VisionConfig or type(visual.image_size) is not int):
        raise InputError("transformers' Chinese-CLIP and AltCLIP have only Vision Transformers for square pictures")
    if config.text and config.text.pool == "mean" and not (_is_mclip(config) and bases.name_of(config.text)):
        raise InputError("transformers has no model with these texts, the mean of their tokens: convert to miniclip")
    return described(config)


def described(config):
    """The same for every MultilingualConfig: also of an image tower or of a text head that transformers lacks."""
    if _is_mclip(config) and (name := bases.name_of(config.text)):
        return mclip.config_to(config, name)
    kind, towers = _kind(config), {}
    if config.visual:
        towers["vision_config"] = {"model_type": f"{kind}_vision_model", **clip.vision_to(config.visual)}
    if config.text:
        towers["text_config"] = {"model_type": f"{kind}_text_model", **_text_to(config.text)}
    name = {"chinese_clip": "ChineseCLIP", "altclip": "AltCLIP"}[kind]
    if config.visual and config.text:
        shared = {} if config.embed_dim is None else {"projection_dim": config.embed_dim}
        return {"model_type": kind, "architectures": [f"{name}Model"], **shared, **towers}
    (source,) = towers.values()
    if config.text and kind == "chinese_clip" and not config.text.pooler:
        source["add_pooling_layer"] = False
    return {**source, "architectures": [f"{name}{'Vision' if config.visual else 'Text'}Model"]}


def _text_to(text):
    positions = {"max_position_embeddings": text.first_position + text.context_length}
    hidden = {"project_dim": text.hidden_width} if text.head == "norm" else {}
    return {**bert_to(text), **positions, **hidden}


ALT_DEFAULTS = _text_to(bases.bert("xlm-roberta-large"))


def prepare(tensors, source):
    """The weights under the names of transformers 5.23's modules, which are not those of its files (see `TABLES`)."""
    if not source["model_type"].startswith("altclip"):
        return tensors
    changes = ((r"^vision_model\.vision_model\.", "vision_model."), (r"\.encoder\.layer\.", ".encoder.layers."))
    for old, new in changes:
        tensors = {re.sub(old, new, name): x for name, x in tensors.items()}
    return tensors


def undo(tensors, source):
    if "logit_scale" in tensors:
        return tensors
    return names.without_tower(tensors)


def fit(config, flat, source):
    """The configuration with what the weights have: a pooler, and of one tower alone its projection."""
    if config.text:
        text = dataclasses.replace(config.text, pooler="text.pooler.weight" in flat)
        config = dataclasses.replace(config, text=text)
    return clip.fit(config, flat, source)
