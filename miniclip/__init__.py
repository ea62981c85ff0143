"""miniclip: CLIP that can be read in an afternoon, exact to the official code.

Every name is imported when it is first used, so that `import miniclip` and `miniclip --help` take no time.
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
    if name == "zero_shot":
        return importlib.import_module("miniclip.zero_shot")
    if name not in _MODULES:
        raise AttributeError(f"module 'miniclip' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _import_from_checkout(name: str) -> None:
    """Import the folder beside this one that installs as miniclip.NAME, unless miniclip is installed."""
    folder = Path(__file__).parents[1] / name
    if (Path(__file__).parent / name).exists() or not (folder / "__init__.py").exists():
        return
    places = [str(folder)]
    spec = importlib.util.spec_from_file_location(
        f"miniclip.{name}", folder / "__init__.py", submodule_search_locations=places
    )
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"miniclip.{name}"] = globals()[name] = module
    spec.loader.exec_module(module)


for _name in ("kernels", "weights"):
    _import_from_checkout(_name)
