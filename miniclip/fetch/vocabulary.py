"""Finds or fetches the official vocabulary: OpenAI's bpe_simple_vocab_16e6.txt.gz is not part of this package."""

import functools
import os
import sys
from pathlib import Path

from miniclip.errors import InputError
from miniclip.families.clip.presets import VOCABULARY
from miniclip.fetch import hub
from miniclip.runtime import caches
from miniclip.tokenizer import Tokenizer
from miniclip.weights import manifest


def find(path=None):
    """The vocabulary's Path if it is on this machine, else None.

    The places are, in order: `path`, $MINICLIP_VOCAB, miniclip's cache, an installed `clip` package (openai-clip).
    Raises InputError if one of the first two names a file that does not exist.
    """
    for given, source in ((path, "the vocabulary"), (os.environ.get("MINICLIP_VOCAB"), "$MINICLIP_VOCAB")):
        if given:
            if not os.path.isfile(given):
                raise InputError(f"{source}: no such file: {given}")
            return Path(given)
    name = manifest()["vocabulary"]["file"]
    # not importlib.util.find_spec: the name may be another module's, as after sys.modules["clip"] = miniclip.clip
    finders = [] if sys.modules.get("clip", "") is None else sys.meta_path  # None: Python's sign that there is none
    package = next(filter(None, (finder.find_spec("clip", None) for finder in finders)), None)
    places = [caches.cache_directory(), *map(Path, (package and package.submodule_search_locations) or [])]
    return next((place / name for place in places if os.path.isfile(place / name)), None)


def official_tokenizer(path=None):
    """The official Tokenizer, from `path` or the places of `find`; its vocabulary is fetched if it is in none."""
    return _load(find(path) or fetch())


def official_tokenizer_here():
    """The official Tokenizer if its vocabulary is on this machine, else None."""
    path = find()
    return path and _load(path)


def fetch(root=None):
    """The vocabulary's Path in `root` (None: the cache), fetched if it is not there. Raises InputError."""
    try:
        return hub.file(manifest()["vocabulary"], root)
    except InputError as error:
        raise InputError(f"{error}; or set MINICLIP_VOCAB to the path of a copy of the vocabulary") from error


@functools.lru_cache(maxsize=4)
def _load(path):
    return Tokenizer.load(path, VOCABULARY)
