"""OpenCLIP's models that are not CLIP's, as a family: CLIPA, CoCa, and others with such towers."""

from miniclip.families.clip import positions, preprocess
from miniclip.families.clip.presets import VOCABULARY
from miniclip.families.open_clip.config import OpenCLIPConfig
from miniclip.families.open_clip.model import OpenCLIP
from miniclip.families.record import Family
from miniclip.tokenizer import Tokenizer
from miniclip.tokenizers.cleaned import Cleaned

FAMILY = Family(
    config=OpenCLIPConfig,
    model=OpenCLIP,
    preprocess=preprocess,
    tokenizer=Tokenizer,
    with_image_size=positions.with_image_size,
    official_vocabulary=VOCABULARY,
    other_tokenizers=(Cleaned,),
)
