"""OpenCLIP's models with a RoBERTa of transformers' for texts, for `checkpoints.open_clip`: names and configuration."""

import dataclasses

from miniclip import params
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.families.bert_names import table
from miniclip.families.clip import open_clip as clip
from miniclip.families.clip import openai
from miniclip.families.clip.open_clip import preprocessing_to  # noqa: F401  the same
from miniclip.families.multilingual import bases
from miniclip.families.multilingual.config import MultilingualConfig

# OpenCLIP's settings of these text towers: the name says the sizes, and the others do not change them.
TEXT = clip.TEXT | {"hf_model_name"}
POOLS = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "first"}
HEADS = {"mlp": "mlp", "linear": "linear", None: "none"}

_TOWER = "text.transformer."
# An MLP and a single matrix have different names for the same array of ours.
MLP, LINEAR = (
    {**table(_TOWER), **{f"text.{ours}.weight": (f"text.proj{theirs}.weight",) for ours, theirs in head.items()}}
    for head in ({"hidden": ".0", "projection": ".2"}, {"projection": ""})
)
TABLES = (MLP, LINEAR)


def config_from(source, preprocessing=None):
    """OpenCLIP's model_cfg and preprocess_cfg -> MultilingualConfig. Raises InputError for a setting of other models.

    quick_gelu is the image tower's: the text tower has its own activation (model.py, _build_text_tower).
    """
    text = source["text_cfg"]
    tower = bases.bert(text["hf_model_name"])
    clip.expect(source, clip.WHOLE)
    clip.expect(text, TEXT)
    pool, head = text.get("hf_pooler_type", "mean_pooler"), text.get("hf_proj_type", "mlp")
    for name, value, known in (("hf_pooler_type", pool, POOLS), ("hf_proj_type", head, HEADS)):
        if value not in known:
            raise InputError(f"{name} is {value!r}, expected one of {', '.join(map(str, known))}")
    hidden = (tower.width + source["embed_dim"]) // 2 if head == "mlp" else None
    tower = dataclasses.replace(
        tower,
        pooler=False,
        pool=POOLS[pool],
        head=HEADS[head],
        hidden_width=hidden,
        longest_text=text.get("context_length", 77),
        inner_padding=False,
    )
    visual = clip.vision(source["vision_cfg"], bool(source.get("quick_gelu")))
    return clip.whole(MultilingualConfig, source, preprocessing, visual, tower)


def config_to(config):
    """MultilingualConfig -> OpenCLIP's model_cfg; the inverse of `config_from`, if OpenCLIP has such a text tower."""
    text = config.text
    name, pools, heads = bases.name_of(text), *({ours: theirs for theirs, ours in x.items()} for x in (POOLS, HEADS))
    if name is None or text.head not in heads:
        raise InputError(f"OpenCLIP has the text towers {', '.join(bases.SIZES)} without a bias at the end: not this")
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": getattr(config.visual, "activation", None) == "quick_gelu",
        "vision_cfg": clip.vision_to(config.visual),
        "text_cfg": {
            "hf_model_name": name,
            "hf_tokenizer_name": name,
            "hf_pooler_type": pools[text.pool],
            "hf_proj_type": heads[text.head],
            "context_length": text.longest_text,
        },
    }


def rename(tensors):
    """{OpenCLIP's name: array} -> {our name: array}; empties `tensors`."""
    table = MLP if MLP["text.hidden.weight"][0] in tensors else LINEAR
    return openai.rename(names.rename(tensors, table))


def restore(config, tree):
    """The inverse of `rename`: a parameter tree -> {OpenCLIP's name: array}."""
    text = names.restore(params.flatten({"text": tree["text"]}), MLP if config.text.head == "mlp" else LINEAR)
    return openai.restore(config, {name: branch for name, branch in tree.items() if name != "text"}) | text
