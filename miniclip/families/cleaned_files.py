"""The files of a Cleaned tokenizer, as transformers writes them: tokenizer.json and tokenizer_config.json."""

import json
import math
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.families.tokenizer_settings import CONFIG, read_settings
from miniclip.formats import read_json
from miniclip.runtime.files import open_regular, write_atomically, write_json
from miniclip.tokenizers.added import AddedToken
from miniclip.tokenizers.cleaned import Cleaned

VOCABULARY = "tokenizer.json"
OPTIONS = {"clean", "strip_sep_token"}  # of OpenCLIP's HFTokenizer, those that miniclip has
LEFT = "Gemma"  # a class of transformers with this in its name pads on the left, unless its settings say otherwise
AS_IT_IS = "PreTrainedTokenizerFast"  # transformers' class that takes from a tokenizer.json all that it says
SEP = "[SEP]"


def of_open_clip(directory: Path, text_cfg: dict[str, Any], vocab_size: int) -> Cleaned | None:
    """The tokenizer that OpenCLIP's `text_cfg` means, from the files in its directory.

    None if that is OpenAI's, if there is no tokenizer.json, or for options that miniclip does not have. Raises
    InputError that names a damaged file.
    """
    options = text_cfg.get("tokenizer_kwargs") or {}
    if not text_cfg.get("hf_tokenizer_name") or not (Path(directory) / VOCABULARY).exists():
        return None
    if text_cfg.get("tokenizer_mode") or not options.keys() <= OPTIONS:
        return None
    return load(directory, vocab_size, options.get("clean", "whitespace"), bool(options.get("strip_sep_token")))


def load(directory: Path, vocab_size: int | None, clean: str | None, strips_sep: bool = False) -> Cleaned:
    """The tokenizer of a directory's tokenizer.json, for a model with `vocab_size` ids, or None; `clean` as in Cleaned.

    Tokens that the model's table has no row for, as T5's <extra_id_0>, are left out. `strips_sep`: the id of the
    separator becomes 0. Raises InputError that names a damaged file.
    """
    path, settings = Path(directory) / VOCABULARY, read_settings(directory)
    config = path.with_name(CONFIG)
    kind = read_json(config).get("tokenizer_class") if config.exists() else None
    side = settings.get("padding_side") or ("left" if LEFT in str(kind) else "right")
    zero = str(AddedToken.of(settings.get("sep_token") or SEP)) if strips_sep else None
    try:
        if settings.get("pad_token") is None:
            raise InputError(f"{CONFIG} names no pad_token")
        pad = str(AddedToken.of(settings["pad_token"]))
        with open_regular(path) as file:
            content = _cut(json.loads(file.read().decode()), vocab_size)
        return Cleaned(content, clean=clean, pad=pad, left=side == "left", zero=zero)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # InputError is a ValueError
        raise InputError(f"{path}: {error}") from error


def _cut(content, vocab_size):
    """The content of a tokenizer.json without tokens whose ids a model with `vocab_size` ids does not have."""
    model = content["model"]
    if isinstance(model["vocab"], list):  # of (token, score), the place is the id
        model["vocab"] = model["vocab"][:vocab_size]
    most = math.inf if vocab_size is None else vocab_size
    content["added_tokens"] = [token for token in content.get("added_tokens") or () if token["id"] < most]
    return json.dumps(content, ensure_ascii=False)


def settings_of(tokenizer: Cleaned) -> dict[str, Any]:
    """The settings of a text_cfg that mean this tokenizer, if its files are beside it."""
    options = {"clean": tokenizer.options["clean"], "strip_sep_token": tokenizer.zero_id is not None}
    return {"hf_tokenizer_name": "this directory", "tokenizer_kwargs": options}


def save_tokenizer(directory: Path, tokenizer: Cleaned) -> None:
    """Write the files that transformers' tokenizer, in OpenCLIP's, reads."""
    options = tokenizer.options
    names = {"pad_token": options["pad"], "sep_token": options["zero"]}
    settings = {
        "tokenizer_class": AS_IT_IS,
        "padding_side": "left" if options["left"] else "right",
        **{name: token for name, token in names.items() if token is not None},
    }
    write_atomically(Path(directory) / VOCABULARY, tokenizer.content.encode())
    write_json(Path(directory) / CONFIG, settings)
