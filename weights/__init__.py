"""The small built-in model, and where other weights come from.

`manifest.json` lists for each model and for the official vocabulary the file, its source, SHA-256, size in bytes and
licence. `example.png` is a picture to try the built-in model on.
"""

import functools
import json
from pathlib import Path

DIRECTORY = Path(__file__).parent


@functools.cache
def manifest():
    """The contents of manifest.json: {"models": {name: {...}}, "vocabulary": {...}}."""
    return json.loads((DIRECTORY / "manifest.json").read_text())
