"""The small built-in model, and where other weights come from.

`manifest.json` lists for each file its source, SHA-256, size in bytes and licence.
"""

import functools
import json
from pathlib import Path

DIRECTORY = Path(__file__).parent


@functools.cache
def manifest():
    """The contents of manifest.json: {"models": {name: {...}}, "vocabulary": {...}}."""
    return json.loads((DIRECTORY / "manifest.json").read_text())
