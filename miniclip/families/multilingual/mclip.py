"""M-CLIP's text encoders, XLM-RoBERTa or LaBSE and a projection, for `huggingface`: names and configuration.

(Carlsson et al., Cross-lingual and Multilingual CLIP, 2022; the package multilingual-clip, pt_multilingual_clip.py.)
Each was trained for the image tower of one CLIP, and its files do not contain that tower.
"""

from miniclip.errors import InputError
from miniclip.families import names
from miniclip.families.bert_names import table
from miniclip.families.multilingual import bases
from miniclip.families.multilingual.config import MultilingualConfig

MODEL_TYPE = "M-CLIP"
NAMES = {**table("transformer."), **names.modules("text.", "", {"projection": ("LinearTransformation",)})}


def config_from(source):
    """The contents of a config.json -> MultilingualConfig; missing values have the package's defaults."""
    text = bases.bert(source.get("modelBase", "xlm-roberta-large"), pool="mean")
    width = source.get("transformerDimensions", text.width)
    if width != text.width:
        raise InputError(f"transformerDimensions is {width}, but its BERT is {text.width} wide")
    return MultilingualConfig(None, text, embed_dim=source.get("numDims", 768))


def config_to(config, name):
    """The inverse; `name` is that of the BERT."""
    sizes = {"modelBase": name, "numDims": config.embed_dim, "transformerDimensions": config.text.width}
    return {"model_type": MODEL_TYPE, "architectures": ["MultilingualCLIP"], **sizes}
