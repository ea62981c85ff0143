"""The directories for files that were fetched or measured on this machine."""

import os
from pathlib import Path

from miniclip.errors import InputError


def cache_directory():
    """$MINICLIP_CACHE, else "miniclip" in $XDG_CACHE_HOME or ~/.cache. Raises InputError if there is none of them."""
    given, cache = os.environ.get("MINICLIP_CACHE"), user_cache()
    if not given and cache is None:
        raise InputError("there is no home directory: set MINICLIP_CACHE to a directory for fetched files")
    return Path(os.path.expanduser(given)) if given else cache / "miniclip"


def user_cache():
    """$XDG_CACHE_HOME or ~/.cache, None if there is no home."""
    given, here = os.environ.get("XDG_CACHE_HOME"), home()
    return Path(given) if given else here and here / ".cache"


def home():
    """The user's home directory, None if there is none: a container may have neither HOME nor the user."""
    home = os.path.expanduser("~")  # unchanged if there is none
    return None if home == "~" else Path(home)
