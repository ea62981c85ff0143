"""CLIP as a family. `config`, `model`, `image` and `tokenizer` come first; the rest of CLIP is here."""

from miniclip.config import CLIPConfig
from miniclip.families.clip import positions
from miniclip.families.clip.image import OpenAIPreprocess
from miniclip.families.clip.presets import VOCABULARY
from miniclip.families.record import Family
from miniclip.model import CLIP
from miniclip.tokenizer import Tokenizer


def preprocess(visual, asarray):
    return OpenAIPreprocess(visual.image_size, asarray)


FAMILY = Family(
    config=CLIPConfig,
    model=CLIP,
    preprocess=preprocess,
    tokenizer=Tokenizer,
    with_image_size=positions.with_image_size,
    official_vocabulary=VOCABULARY,
)
