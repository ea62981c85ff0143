"""The small built-in model, and where other weights come from.

`manifest.json` lists for each model, for the official vocabulary and for what the tests of published outputs look at
the file, its source, addresses (the source's own, then mirrors), SHA-256, size in bytes and licence; a model may have
the id of a repository on Hugging Face's hub instead, which lists its files. `example.png` is a picture to try the
built-in model on.
"""

import functools
import json
from pathlib import Path

DIRECTORY = Path(__file__).parent


@functools.cache
def manifest():
    """The contents of manifest.json: {"models": {name: {...}}, "vocabulary": {...}, "test_files": {name: {...}}}."""
    return json.loads((DIRECTORY / "manifest.json").read_text())
