"""Reads and writes transformers' directories: config.json, and the weights in one file or several."""

import dataclasses
from pathlib import Path

from miniclip import params
from miniclip.checkpoints.infer import check_kept
from miniclip.errors import InputError
from miniclip.families import every, names, of
from miniclip.formats import read_json, safetensors
from miniclip.runtime.files import atomic_directory, write_json

FAMILIES = [family for family in every() if family.in_transformers]
MODEL_TYPES = {kind: family.huggingface for family in FAMILIES for kind in family.huggingface.MODEL_TYPES}
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")  # until transformers 4, and since 5


def load(directory, read_file, files=None):
    """A directory with a CLIPModel, an AlignModel or one of their towers -> (config, {our name: array}, tokenizer).

    The weights are read from `files`, or else from the directory's, by `read_file` (path -> arrays and metadata). If
    they are only one tower's, so is the configuration. The tokenizer is None if the directory has none. Raises
    InputError that names the file that is missing, damaged or of another model.
    """
    directory = Path(directory)
    source = read_json(directory / "config.json")
    config = _config(directory, source)
    family = MODEL_TYPES[source["model_type"]]
    files = files or weight_files(directory)
    parts = [read_file(file, part=len(files) > 1)[0] for file in files]
    classifies = any("ForImageClassification" in kind for kind in source.get("architectures") or [])
    head = HEAD if classifies else ()
    tensors = {name: x for part in parts for name, x in part.items() if not name.startswith(head)}
    table = of(config).names_of(config)
    flat = names.rename(family.prepare(with_tower(tensors, table), source), table)
    config = _with_weights(config, flat)
    flat = {name: x for name, x in flat.items() if name.partition(".")[0] not in _others(config)}
    config = family.fit(config, flat, source)
    tokenizer = family.load_tokenizer(directory, config.text.vocab_size) if config.text else None
    return config, flat, tokenizer


HEAD = "classifier."  # of CLIPForImageClassification, after its image tower


def with_tower(tensors, table):
    """The same weights, with the name of the tower that is alone before theirs: transformers 5 leaves it out."""
    prefixes = ("vision_model.", "text_model.")
    if any(name.startswith(prefixes) for name in tensors):
        return tensors
    known = {name for theirs in table.values() for name in theirs}
    found = {prefix: sum(prefix + name in known for name in tensors) for prefix in prefixes}
    prefix = max(found, key=found.__getitem__)
    return {prefix + name: x for name, x in tensors.items()} if found[prefix] else tensors


def _others(config):
    """The parts of a whole model that a configuration of one tower leaves out; transformers ignores their weights."""
    absent = {name for name in ("visual", "text") if getattr(config, name) is None}
    return absent | {*config.scalars} if absent else absent


def _with_weights(config, flat):
    """The configuration without the tower that has no weights, if the other one has: CLIPTextModel reads this too."""
    towers = {name for name in ("visual", "text") if any(each.startswith(f"{name}.") for each in flat)}
    return dataclasses.replace(config, **dict.fromkeys({"visual", "text"} - towers)) if len(towers) == 1 else config


def _config(directory, source):
    """The configuration; the image processor's settings are read only if there is an image tower."""
    _check_type(directory / "config.json", source)
    config = _parsed(directory / "config.json", source)
    path, settings = settings_in(directory) if config.visual else (None, None)
    return config if settings is None else _parsed(path, source, settings, ": correct the file, or remove it")


def _parsed(path, source, settings=None, remedy=""):
    try:
        return config_from(source, settings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # InputError is a ValueError
        known = " or ".join(dict.fromkeys(family.model.__name__ for family in FAMILIES))
        raise InputError(f"{path}: not the configuration of a {known}: {error}{remedy}") from error


def config_from(source, settings=None):
    """The contents of a config.json, and the image processor's settings -> the family's configuration."""
    return MODEL_TYPES[source["model_type"]].config_from(source, settings)


def _check_type(path, source):
    kind = source.get("model_type")
    if kind not in MODEL_TYPES:
        whole = ", ".join(name for name in MODEL_TYPES if not name.endswith("_model"))
        raise InputError(
            f"{path}: its model_type is {kind!r}, expected one of {whole}, or a tower of theirs: load others with "
            f"transformers"
        )


def settings_in(directory):
    """(path, the image processor's settings in it) of a directory, or (None, None); transformers' order of the files.

    Raises InputError that names a damaged file.
    """
    for name in reversed(PREPROCESSORS):
        path = Path(directory) / name
        if path.exists():
            found = read_json(path)
            found = found.get("image_processor") if name == PREPROCESSORS[1] else found
            if found is not None and not isinstance(found, dict):
                raise InputError(f"{path}: image_processor is not a JSON object of settings")
            if found is not None:
                return path, found
    return None, None


FLAX, TENSORFLOW = "flax_model.msgpack", "tf_model.h5"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", FLAX, TENSORFLOW)


def weight_files(directory):
    """The file of weights, or the files that its index names; the first of `WEIGHTS` that exists is used."""
    for name in WEIGHTS:
        single, index = directory / name, directory / f"{name}.index.json"
        if single.exists():
            return [single]
        if index.exists():
            return _indexed(index)
    raise InputError(f"{directory}: has no weights: expected one of {', '.join(WEIGHTS)}, or their index")


def _indexed(index):
    try:
        files = sorted(set(read_json(index)["weight_map"].values()))
        # Anyone may have written these names: they must not point outside the directory.
        return [index.parent / Path(file).name for file in files]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not an index of weight files: {error!r}") from error


# ---------------------------------------------------------------------------------------------------- writing


def save(directory, config, tree, tokenizer=None):
    """Write a directory for transformers' class of the model, or of its one tower; the inverse of `load`.

    With a tokenizer, transformers' processor loads from it too. Raises InputError if transformers cannot
    express the model, or if the directory exists.
    """
    family = of(config).huggingface
    with atomic_directory(directory) as temporary:
        save_model(temporary, config, tree, family.config_to(config))
        if config.visual:
            write_json(temporary / PREPROCESSORS[0], family.preprocessor(config.visual))
        if config.text and tokenizer:
            family.save_tokenizer(temporary, tokenizer, config.text.context_length)


def save_model(directory, config, tree, source):
    """Write the weights, and `source` as their config.json, into a directory, which is created if needed.

    Raises InputError, before anything is written, if `source` does not describe `config`.
    """
    family = of(config).huggingface
    check_kept(config, family.config_from(source, config.visual and family.preprocessor(config.visual)), "transformers")
    Path(directory).mkdir(parents=True, exist_ok=True)
    tensors = family.undo(names.restore(params.flatten(tree), of(config).names_of(config)), source)
    safetensors.write(Path(directory) / WEIGHTS[0], tensors, {"format": "pt"})
    write_json(Path(directory) / "config.json", source)
