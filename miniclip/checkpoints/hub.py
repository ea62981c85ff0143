"""Files from the network: fetched whole and checked, or not at all. Where they are kept: `cache_directory()`."""

import hashlib
import http.client
import os
from pathlib import Path

from miniclip.errors import InputError
from miniclip.files import atomic


def cache_directory():
    """$MINICLIP_CACHE, else "miniclip" in $XDG_CACHE_HOME or ~/.cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("MINICLIP_CACHE") or home / "miniclip")


def fetch(url, path, sha256):
    """Download `url` to `path` while checking its SHA-256 (hex); returns `path`.

    With MINICLIP_OFFLINE=1 nothing is asked of the network. Raises InputError naming the address; then nothing is
    left behind.
    """
    path = Path(path)
    if os.environ.get("MINICLIP_OFFLINE") == "1":
        raise InputError(f"{path.name} is not on this machine and MINICLIP_OFFLINE=1 forbids fetching it from {url}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be made: {error.strerror}") from error
    with atomic(path) as temporary:
        try:
            found = _stream(url, temporary)
        except (OSError, ValueError, http.client.HTTPException) as error:  # urllib's URLError is an OSError
            if hasattr(error, "close"):
                error.close()  # an HTTPError is the server's answer too
            reason = getattr(error, "reason", None) or error
            raise InputError(f"{url}: cannot be fetched: {reason}") from error
        if found != sha256:
            raise InputError(f"{url}: has the SHA-256 {found}, expected {sha256}: cut off, changed or replaced")
    return path


def _stream(url, path):
    """Copy what is at `url` into the file; returns its SHA-256."""
    import urllib.request  # both take long to import, and few need them

    from tqdm import tqdm

    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=30) as source, open(path, "wb") as target:
        size = int(source.headers.get("Content-Length", 0)) or None
        with tqdm(total=size, unit="B", unit_scale=True, desc=Path(url).name) as progress:
            while block := source.read(1 << 20):
                target.write(block)
                digest.update(block)
                progress.update(len(block))
    return digest.hexdigest()
