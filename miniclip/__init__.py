"""miniclip: CLIP that can be read in an afternoon, exact to the official code."""

from pathlib import Path

# In a checkout, `miniclip.kernels` and `miniclip.weights` lie beside this folder and not in it. Installing maps them;
# where the checkout is merely on the path, this finds them.
if not (Path(__file__).parent / "weights").exists():
    __path__.append(str(Path(__file__).parents[1]))

from miniclip import zero_shot
from miniclip.api import available_models, load, tokenize
from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig
from miniclip.errors import InputError
from miniclip.model import CLIP
from miniclip.tokenizer import Tokenizer

__version__ = "0.1.0"
__all__ = [
    "CLIP",
    "CLIPConfig",
    "InputError",
    "ResNetConfig",
    "TextConfig",
    "Tokenizer",
    "VisionConfig",
    "available_models",
    "load",
    "tokenize",
    "zero_shot",
]
