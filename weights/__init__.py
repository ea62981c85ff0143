"""The small built-in model, and where other weights come from.

`manifest.json` describes each model, the official vocabulary and the files for tests of published outputs: file name,
source, addresses (the source's own, then mirrors), SHA-256, size in bytes and licence. Instead, a model may have the id
of a repository on Hugging Face's hub, which lists its files. `example.png` is a picture to try the built-in model on.
"""

import functools
import json
from pathlib import Path

DIRECTORY = Path(__file__).parent


@functools.cache
def manifest():
    """The contents of manifest.json: {"models": {name: {...}}, "vocabulary": {...}, "test_files": {name: {...}}}."""
    return json.loads((DIRECTORY / "manifest.json").read_text())


@functools.cache
def open_clip_names():
    """The contents of open_clip.json: {"models": {name: its model_cfg}, "tags": {name: {tag: {"hub": ..., ...}}}}."""
    return json.loads((DIRECTORY / "open_clip.json").read_text())
