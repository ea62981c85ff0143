"""miniclip: CLIP that can be read in an afternoon, exact to the official code.

Each name is imported when it is first used, so `import miniclip` and `miniclip --help` take almost no time.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miniclip._version import __version__ as __version__

if TYPE_CHECKING:
    from miniclip import zero_shot as zero_shot
    from miniclip.api import available_models, load, tokenize
    from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig
    from miniclip.errors import InputError
    from miniclip.model import CLIP
    from miniclip.tokenizer import Tokenizer

_MODULES = {
    "CLIP": "miniclip.model",
    "CLIPConfig": "miniclip.config",
    "InputError": "miniclip.errors",
    "ResNetConfig": "miniclip.config",
    "TextConfig": "miniclip.config",
    "Tokenizer": "miniclip.tokenizer",
    "VisionConfig": "miniclip.config",
    "available_models": "miniclip.api",
    "load": "miniclip.api",
    "tokenize": "miniclip.api",
}
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


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value
    if not name.startswith("_") and importlib.util.find_spec(f"miniclip.{name}"):  # hf, zero_shot, ...
        return importlib.import_module(f"miniclip.{name}")
    raise AttributeError(f"module 'miniclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Checkout:
    """Finds miniclip.kernels and miniclip.weights: in a checkout they are beside this folder, not inside it."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        folder = Path(__file__).parents[1] / name.rpartition(".")[2]
        if name in ("miniclip.kernels", "miniclip.weights"):
            init = folder / "__init__.py"
            return importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(folder)])
        return None


if not (Path(__file__).parent / "weights").exists():  # a wheel installs both inside this folder
    sys.meta_path.insert(0, _Checkout)
