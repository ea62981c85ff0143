"""SigLIP as a family, SigLIP 2 of a fixed resolution too: towers, sigmoid scores, and transformers' names for them."""

from miniclip.families import preprocessing
from miniclip.families.clip.positions import with_image_size
from miniclip.families.record import Family
from miniclip.families.siglip.config import SigLIPConfig
from miniclip.families.siglip.image import own_settings
from miniclip.families.siglip.model import SigLIP
from miniclip.tokenizers.gemma import Gemma
from miniclip.tokenizers.sentencepieces import SentencePiece


def preprocess(visual, asarray):
    size, library = visual.image_size, "open_clip" if visual.antialias else "transformers"  # where the model is from
    return preprocessing.SettingsPreprocess(size, asarray, settings=own_settings(size, library))


FAMILY = Family(
    config=SigLIPConfig,
    model=SigLIP,
    preprocess=preprocess,
    tokenizer=SentencePiece,
    with_image_size=with_image_size,
    official_vocabulary=None,
    other_tokenizers=(Gemma,),
)
