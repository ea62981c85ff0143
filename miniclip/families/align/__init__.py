"""ALIGN as a family: an EfficientNet for pictures, a BERT for texts, and transformers' names for them."""

import dataclasses

from miniclip.config import pair, square
from miniclip.families.align.config import ALIGNConfig
from miniclip.families.align.image import AlignPreprocess
from miniclip.families.align.model import ALIGN
from miniclip.families.record import Family
from miniclip.tokenizers.wordpiece import WordPiece


def preprocess(visual, asarray):
    return AlignPreprocess(visual.image_size, asarray, resized=visual.resized)


def with_image_size(config, tree, image_size, antialias):
    """`families.with_image_size` for ALIGN: the crop remains the same part of a picture, and the tree is unchanged."""
    visual = config.visual
    dataclasses.replace(visual, image_size=image_size, resized=1 << 15)  # raises InputError if it is not a size
    sides = zip(pair(image_size), pair(visual.image_size), pair(visual.resized))
    height, width = (round(new * resized / old) for new, old, resized in sides)
    visual = dataclasses.replace(visual, image_size=image_size, resized=square((height, width)))
    return dataclasses.replace(config, visual=visual), tree


FAMILY = Family(
    config=ALIGNConfig,
    model=ALIGN,
    preprocess=preprocess,
    tokenizer=WordPiece,
    with_image_size=with_image_size,
    official_vocabulary=None,
)
