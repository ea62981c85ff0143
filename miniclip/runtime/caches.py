"""Where what was fetched or measured is kept on this machine."""

import os
from pathlib import Path

from miniclip.errors import InputError


def cache_directory():
    """$MINICLIP_CACHE, else "miniclip" in $XDG_CACHE_HOME or ~/.cache; InputError where there is none of them."""
    given, cache = os.environ.get("MINICLIP_CACHE"), user_cache()
    if not given and cache is None:
        raise InputError("there is no home directory: let MINICLIP_CACHE name one for what is fetched")
    return Path(os.path.expanduser(given)) if given else cache / "miniclip"


def user_cache():
    """$XDG_CACHE_HOME or ~/.cache, None where there is no home."""
    given, here = os.environ.get("XDG_CACHE_HOME"), home()
    return Path(given) if given else here and here / ".cache"


def home():
    home = os.path.expanduser("~")  # as it is where there is none: a container may have neither HOME nor the user
    return None if home == "~" else Path(home)
