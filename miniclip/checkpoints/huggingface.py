"""Directories as transformers writes them: config.json beside weights in one file or several."""

from pathlib import Path

from miniclip import params
from miniclip.checkpoints.infer import check_kept
from miniclip.errors import InputError
from miniclip.families import FAMILIES, names, of
from miniclip.formats import read, read_json, safetensors
from miniclip.runtime.files import atomic_directory, write_json

MODEL_TYPES = {kind: family.huggingface for family in FAMILIES for kind in family.huggingface.MODEL_TYPES}
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")  # before transformers 5, and since


def load(directory, tensors=None, *, dtype=None):
    """A directory with a CLIPModel, an AlignModel or a tower of theirs -> (config, {our flat name: array}, tokenizer).

    The weights are `tensors`, {name: array}, if given, else those of the files that belong to such a directory; `dtype`
    as in `readers.read`. The tokenizer is None where there is none. Raises InputError naming the file that is missing,
    damaged, or of another model, and where pictures are prepared otherwise than miniclip does it.
    """
    directory = Path(directory)
    source = read_json(directory / "config.json")
    settings = {path: _settings(path) for name in PREPROCESSORS if (path := directory / name).exists()}
    try:
        config = config_from(source, next(iter(settings.values()), None))
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # InputError is a ValueError
        raise InputError(
            f"{directory / 'config.json'}: not the configuration of a CLIP or an ALIGN: {error}"
        ) from error
    family = MODEL_TYPES[source["model_type"]]
    for path, found in settings.items():
        if config.visual:
            check_settings(path, found, family.preprocessor(config.visual))
    if tensors is None:
        tensors = {name: x for file in _weight_files(directory) for name, x in read(file, dtype)[0].items()}
    if not (config.visual and config.text):  # of a bare tower transformers 5 leaves the name out
        prefix = "vision_model." if config.visual else "text_model."
        if not any(name.startswith(prefix) for name in tensors):
            tensors = {prefix + name: x for name, x in tensors.items()}
    tokenizer = family.load_tokenizer(directory, config.text.vocab_size) if config.text else None
    flat = names.rename(family.prepare(tensors, source), family.NAMES)
    return family.fit(config, flat), flat, tokenizer


def config_from(source, settings=None):
    """The contents of a config.json, and those of an image processor's -> CLIPConfig or ALIGNConfig."""
    kind = source.get("model_type")
    if kind not in MODEL_TYPES:
        raise InputError(f"its model_type is {kind!r}, expected one of {', '.join(MODEL_TYPES)}")
    return MODEL_TYPES[kind].config_from(source, settings)


def _settings(path):
    found = read_json(path)
    found = found.get("image_processor", found)
    if not isinstance(found, dict):
        raise InputError(f"{path}: not the settings of an image processor")
    return found


def check_settings(source, found, expected):
    """InputError naming the source where pictures shall be prepared otherwise than `image` and `image_align` do it."""
    for name, value in expected.items():
        given = found.get(name, value)
        if isinstance(given, int) and isinstance(value, dict):  # as older files have it
            given = dict.fromkeys(value, given)
        if isinstance(given, tuple):
            given = list(given)
        if given != value and not name.endswith("_type"):
            raise InputError(
                f"{source}: prepares pictures with {name} = {given!r}, and miniclip only as such models were trained, "
                f"with {value!r}: prepare them yourself, and load a model from the file of its weights"
            )


WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def _weight_files(directory):
    """The file with the weights, or the files that an index names; the first of these that is there."""
    for name in WEIGHTS:
        single, index = directory / name, directory / f"{name}.index.json"
        if single.exists():
            return [single]
        if index.exists():
            return _indexed(index)
    raise InputError(f"{directory}: has no weights: neither {' nor '.join(WEIGHTS)}, nor an index of several files")


def _indexed(index):
    try:
        files = sorted(set(read_json(index)["weight_map"].values()))
        # Names out of a file: they must not lead out of the directory.
        return [index.parent / Path(file).name for file in files]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not an index of files: {error!r}") from error


# ---------------------------------------------------------------------------------------------------- writing


def save(directory, config, tree, tokenizer=None):
    """Write what transformers' CLIPModel or AlignModel loads, or the class of one tower; the inverse of `load`.

    With a tokenizer, CLIPProcessor and AlignProcessor load from there too. Raises InputError for what transformers has
    no name for, and where the directory exists.
    """
    family = of(config).huggingface
    with atomic_directory(directory) as temporary:
        save_model(temporary, config, tree, family.config_to(config))
        if config.visual:
            write_json(temporary / PREPROCESSORS[0], family.preprocessor(config.visual))
        if config.text and tokenizer:
            family.save_tokenizer(temporary, tokenizer, config.text.context_length)


def save_model(directory, config, tree, source):
    """Write the weights, and `source` as their config.json, into a directory that exists.

    Raises InputError, before anything is written, where `source` does not describe `config`.
    """
    family = of(config).huggingface
    check_kept(config, family.config_from(source, config.visual and family.preprocessor(config.visual)), "transformers")
    tensors = family.undo(names.restore(params.flatten(tree), family.NAMES), source)
    safetensors.write(Path(directory) / WEIGHTS[0], tensors, {"format": "pt"})
    write_json(Path(directory) / "config.json", source)
