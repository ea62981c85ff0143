"""SigLIP and SigLIP 2 as a family: towers, sigmoid scores, and transformers' names for them."""

from miniclip.errors import InputError
from miniclip.families import preprocessing
from miniclip.families.clip import positions
from miniclip.families.record import Family
from miniclip.families.siglip import naflex
from miniclip.families.siglip.config import SigLIPConfig
from miniclip.families.siglip.image import own_settings
from miniclip.families.siglip.model import SigLIP
from miniclip.tokenizers.cleaned import Cleaned
from miniclip.tokenizers.gemma import Gemma
from miniclip.tokenizers.sentencepieces import SentencePiece


def preprocess(visual, asarray):
    if visual.image_size is None:
        settings = visual.pictures or naflex.own_settings()
        return naflex.PatchesPreprocess(None, asarray, settings=settings, patch_size=visual.patch_size)
    size, library = visual.image_size, "open_clip" if visual.antialias else "transformers"  # where the model is from
    return preprocessing.SettingsPreprocess(size, asarray, settings=own_settings(size, library))


def with_image_size(config, tree, image_size, antialias=False):
    if config.visual.image_size is None:
        raise InputError("this model reads pictures of any shape, so that image_size means nothing: leave it out")
    return positions.with_image_size(config, tree, image_size, antialias)


FAMILY = Family(
    config=SigLIPConfig,
    model=SigLIP,
    preprocess=preprocess,
    tokenizer=SentencePiece,
    with_image_size=with_image_size,
    official_vocabulary=None,
    other_tokenizers=(Gemma, Cleaned),
)
