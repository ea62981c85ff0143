"""Joins the image tower of one model with a text tower that was trained for its pictures, as M-CLIP's are."""

from miniclip import params
from miniclip.errors import InputError
from miniclip.families.multilingual.config import MultilingualConfig

KINDS = {"visual": "a Vision Transformer or a ResNet of CLIP's", "text": "a BERT or a RoBERTa"}


def join(pictures, texts, names=("the model", "text")):
    """Two models, each (config, parameter tree, tokenizer) -> one: the first's pictures, the second's texts.

    `logit_scale` is the first's, the tokenizer the second's. `names` are theirs, for messages. Raises InputError if a
    tower is missing or of a kind that cannot be joined, or if the widths of their features differ.
    """
    (visual_config, visual_tree, _), (text_config, text_tree, tokenizer) = pictures, texts
    kinds, towers = MultilingualConfig.towers, {"visual": visual_config.visual, "text": text_config.text}
    for (kind, tower), name in zip(towers.items(), names):
        if tower is None:
            raise InputError(f"{name}: has no {kind} tower, so it cannot be joined with {names[kind == 'visual']}")
        if type(tower) not in kinds[kind]:
            raise InputError(f"{name}: its {kind} tower cannot be joined, only {KINDS[kind]}")
    if "logit_scale" not in visual_tree:
        raise InputError(f"{names[0]}: has no logit_scale: give the whole model that the texts were trained for")
    widths = visual_config.embed_dim, text_config.embed_dim
    if None in widths or widths[0] != widths[1]:
        raise InputError(
            f"the features of {names[0]} have {widths[0]} numbers and those of {names[1]} {widths[1]}: they are not in "
            f"one space"
        )
    config = MultilingualConfig(**towers, embed_dim=widths[0])
    tree = {"visual": visual_tree["visual"], "text": text_tree["text"], "logit_scale": visual_tree["logit_scale"]}
    params.check(tree, config.shapes(), " and ".join(names))
    return config, tree, tokenizer
