"""How miniclip got here: from a wheel, or as a checkout. Messages and default folders depend on it."""

from pathlib import Path


def checkout():
    """The folder of the checkout that this package is in; None if it was installed from a wheel."""
    root = Path(__file__).resolve().parents[2]  # editable installs may link to the checkout
    return root if (root / "constraints.txt").is_file() and (root / "weights").is_dir() else None


def install(extra):
    """The command that installs the packages of an extra, for the end of a message."""
    if checkout():
        return f"in the checkout, pip install -c constraints.txt -e '.[{extra}]'"
    return f"pip install 'miniclip[{extra}]'"
