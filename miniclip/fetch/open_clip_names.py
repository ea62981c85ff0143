"""OpenCLIP's names of models and tags, as in open_clip.create_model("ViT-H-14", pretrained="laion2b_s32b_b79k").

The names are data, weights/open_clip.json, which tests/zoo.py makes from OpenCLIP. A model's configuration and its
pictures' are OpenCLIP's own for these names; the weights are from the repository on Hugging Face's hub.
"""

import difflib
import os
from pathlib import Path

from miniclip.checkpoints import open_clip
from miniclip.errors import InputError
from miniclip.families.clip.open_clip import PREPROCESSING as USUAL
from miniclip.weights import open_clip_names


def find(name: str, pretrained: str | os.PathLike, root: str | os.PathLike | None = None) -> tuple[Path, dict]:
    """(a file of weights, the contents of an open_clip_config.json for it), downloaded to `root` if needed.

    name        of a model of OpenCLIP
    pretrained  one of its tags, or the path of a file of weights for it

    Raises InputError for unknown names, and before anything is fetched for a model that miniclip does not have.
    """
    if not isinstance(pretrained, (str, os.PathLike)):
        raise InputError(f"pretrained is {pretrained!r}, expected one of OpenCLIP's tags or a file's path")
    known = open_clip_names()
    model, tag = str(name).replace("/", "-"), str(pretrained).lower().replace("-", "_")  # as OpenCLIP reads them
    config, tags = known["models"].get(model), known["tags"].get(model, {})
    if config is None:
        near = difflib.get_close_matches(model, known["models"], 3)
        meant = f": did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"pretrained is given, but OpenCLIP has no model {name!r}{meant}")
    if tag not in tags:
        path = Path(os.path.expanduser(pretrained))
        if not path.is_file():
            if len(path.parts) > 1 or path.suffix:
                raise InputError(f"pretrained is {str(pretrained)!r}, and there is no such file")
            listed = ", ".join(tags) or "it has none"
            raise InputError(f"pretrained is {str(pretrained)!r}, expected a tag of {model} ({listed}) or a file")
        return path, _checked(model, {"model_cfg": config})
    source = _checked(model, {"model_cfg": config, "preprocess_cfg": preprocessing(tags[tag])})
    if reason := mismatch(model, tag, config, tags[tag]):
        raise InputError(f"{model} with pretrained={tag!r}: {reason}")
    from miniclip.fetch.repository import snapshot

    directory = snapshot(tags[tag]["hub"].rstrip("/"), root)
    weights = open_clip.find(directory)
    if weights is None:
        raise InputError(f"{directory}: has no {open_clip.CONFIG} with {' or '.join(open_clip.WEIGHTS)}")
    return weights, source


def preprocessing(entry):
    """The preprocess_cfg of a tag, from its entry in OpenCLIP's table or in ours, which leaves out usual values."""
    return {**USUAL, **{name: entry[name] for name in USUAL if name in entry}}


def mismatch(model, tag, config, entry):
    """Why this tag's weights do not belong to this model's configuration, or None. OpenCLIP only warns."""
    wanted, has = bool(entry.get("quick_gelu")), bool(config.get("quick_gelu"))
    if wanted == has:
        return None
    other = f"{model}-quickgelu" if wanted else model.removesuffix("-quickgelu")
    named = other != model and tag in open_clip_names()["tags"].get(other, {})
    better = f"load {other}" if named else "load it from its repository"
    return f"these weights were trained with {'quick-' * wanted}GELU, which this name does not mean: {better}"


def _checked(model, source):
    try:
        open_clip.config_from(source["model_cfg"], source.get("preprocess_cfg"))
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"OpenCLIP's model {model}: {error}") from error
    return source
