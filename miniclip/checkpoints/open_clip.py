"""Reads and writes OpenCLIP's directories: open_clip_config.json, and weights with OpenAI's names (factory.py)."""

import json

from miniclip import families
from miniclip.checkpoints import openai
from miniclip.checkpoints.infer import check_kept
from miniclip.errors import InputError
from miniclip.families import cleaned_files, layer_scale
from miniclip.formats import read_json, safetensors
from miniclip.runtime.files import atomic_directory, write_atomically
from miniclip.tokenizers.cleaned import Cleaned

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def find(directory):
    """The weights file of an OpenCLIP directory, or None if the weights or the configuration are missing."""
    files = [directory / name for name in WEIGHTS if (directory / name).exists()]
    return files[0] if files and (directory / CONFIG).exists() else None


def load(file, tensors, source=None):
    """A file's {name: array} and OpenCLIP's configuration -> (config, {our name: array}, tokenizer or None).

    The configuration is `source`, or if that is None the open_clip_config.json beside the file. A tokenizer is read
    from the files beside that. Empties `tensors`. Raises InputError that names the damaged file, or the setting that
    miniclip does not have.
    """
    beside = file.parent / CONFIG
    path = beside if source is None else file
    source = read_json(path) if source is None else source
    try:
        config = config_from(source["model_cfg"], source.get("preprocess_cfg"))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:  # InputError is a ValueError
        raise InputError(f"{path}: not the configuration of a CLIP model: {error}") from error
    for name in [name for name in tensors if name.startswith(DECODER) or name in openai.SIZES]:
        del tensors[name]
    try:
        flat = families.of(config).open_clip.rename(layer_scale.fold(tensors))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    text = source["model_cfg"]["text_cfg"], config.text.vocab_size
    return config, flat, cleaned_files.of_open_clip(file.parent, *text) if beside.exists() else None


DECODER = "text_decoder."  # of CoCa, which writes captions: no feature depends on it
READERS = ("clip", "open_clip")  # of model_cfg: a family after another has what that does not have


def config_from(source, preprocessing=None):
    """OpenCLIP's model_cfg and preprocess_cfg -> the configuration of the first family that has all its settings."""
    if source["text_cfg"].get("hf_model_name"):
        return families.named("multilingual").open_clip.config_from(source, preprocessing)
    if "siglip" in str(source["vision_cfg"].get("timm_model_name")):  # the name says it, and the settings are its own
        return families.named("siglip").open_clip.config_from(source, preprocessing)
    errors = []
    for name in READERS:
        try:
            return families.named(name).open_clip.config_from(source, preprocessing)
        except InputError as error:
            errors.append(error)
    raise errors[-1]


def save(directory, config, tree, tokenizer=None):
    """Write a directory that OpenCLIP loads by the name local-dir:DIRECTORY; the inverse of `load`.

    It uses the official vocabulary if the model has no `tokenizer` of its own, a Cleaned. Raises InputError if OpenCLIP
    cannot express the model, or if the directory exists.
    """
    family = families.of(config).open_clip
    openai.check_whole(config, "OpenCLIP", family)
    config = openai.with_highest_id(config)
    content = {"model_cfg": family.config_to(config), "preprocess_cfg": family.preprocessing_to(config.visual)}
    is_own = isinstance(tokenizer, Cleaned)
    if is_own:
        content["model_cfg"]["text_cfg"] |= cleaned_files.settings_of(tokenizer)
    kept = family.config_from(*json.loads(json.dumps(content)).values())
    check_kept(config, kept, "OpenCLIP")
    with atomic_directory(directory) as temporary:
        safetensors.write(temporary / WEIGHTS[0], family.restore(config, tree), {"format": "pt"})
        write_atomically(temporary / CONFIG, json.dumps(content, indent=2).encode())
        if is_own:
            cleaned_files.save_tokenizer(temporary, tokenizer)
