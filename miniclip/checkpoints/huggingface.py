"""Directories as transformers writes them: config.json beside weights in one file or several."""

import json
from pathlib import Path

from miniclip import params
from miniclip.checkpoints import names, safetensors
from miniclip.checkpoints.readers import read, read_json
from miniclip.config import CLIPConfig, TextConfig, VisionConfig, check_kept
from miniclip.errors import InputError
from miniclip.files import atomic_directory, write_atomically
from miniclip.image import MEAN, STD
from miniclip.tokenizer import END, START, Tokenizer


def load(directory, tensors=None, *, dtype=None):
    """A directory with a CLIPModel or one of its towers -> (config, {our flat name: array}, tokenizer or None).

    The weights are `tensors`, {name: array}, if given, else those of the files that belong to such a directory; `dtype`
    as in `readers.read`. Raises InputError naming the file that is missing, damaged, or not of a CLIP, and where
    pictures are prepared otherwise than OpenAI's.
    """
    directory = Path(directory)
    source = read_json(directory / "config.json")
    try:
        config = config_from(source)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # InputError is a ValueError
        raise InputError(f"{directory / 'config.json'}: not the configuration of a CLIP model: {error}") from error
    for name in PREPROCESSORS:
        if config.visual and (directory / name).exists():
            _check_preprocessor(directory / name, config.visual.image_size)
    if tensors is None:
        tensors = {name: x for file in _weight_files(directory) for name, x in read(file, dtype)[0].items()}
    if config.embed_dim is None:  # a bare tower: transformers 5 leaves its name out, older versions do not
        prefix = "vision_model." if config.visual else "text_model."
        tensors = {prefix + name.removeprefix(prefix): x for name, x in tensors.items()}
    tokenizer = _load_tokenizer(directory, config.text.vocab_size) if config.text else None
    return config, names.rename(tensors, names.HUGGING_FACE), tokenizer


def _load_tokenizer(directory, vocab_size):
    """The Tokenizer of merges.txt, or of tokenizer.json, which is all that transformers 5 writes; None without both."""
    merges, path = directory / "merges.txt", directory / "tokenizer.json"
    if merges.exists():
        return Tokenizer.load(merges, vocab_size)
    if not path.exists():
        return None
    try:
        pairs = read_json(path)["model"]["merges"]
        return Tokenizer(tuple(pair.split() if isinstance(pair, str) else pair) for pair in pairs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: has no merges of a byte-level BPE: {error}") from error


TOWERS = ("vision", "text")


def config_from(source):
    """The contents of a config.json -> CLIPConfig; what it leaves out has transformers' default (CLIPConfig)."""
    kind = source.get("model_type")
    if kind == "clip_vision_model":
        return CLIPConfig(visual=_vision(source), text=None, embed_dim=_projection(source))
    if kind == "clip_text_model":
        return CLIPConfig(visual=None, text=_text(source), embed_dim=_projection(source))
    if kind != "clip":
        raise InputError(f"its model_type is {kind!r}, expected clip, clip_vision_model or clip_text_model")
    # Older files have what their author set in a "_dict" beside the configuration, and it takes precedence whole.
    vision, text = (source.get(f"{tower}_config_dict") or source.get(f"{tower}_config") or {} for tower in TOWERS)
    return CLIPConfig(visual=_vision(vision), text=_text(text), embed_dim=source.get("projection_dim", 512))


def _projection(source):
    """The towers' bare classes, CLIPVisionModel and CLIPTextModel, have no projection."""
    bare = any(name in ("CLIPVisionModel", "CLIPTextModel") for name in source.get("architectures") or [])
    return None if bare else source.get("projection_dim", 512)


def _vision(source):
    return VisionConfig(
        image_size=source.get("image_size", 224),
        patch_size=source.get("patch_size", 32),
        channels=source.get("num_channels", 3),
        **_transformer(source, width=768, heads=12, mlp_width=3072),
    )


def _text(source):
    end = source.get("eos_token_id", 49407)
    return TextConfig(
        context_length=source.get("max_position_embeddings", 77),
        vocab_size=source.get("vocab_size", 49408),
        # OpenAI's models were first converted with a wrong 2: there the highest id ends a text (modeling_clip.py).
        eot_token_id=None if end == 2 else end,
        **_transformer(source, width=512, heads=8, mlp_width=2048),
    )


def _transformer(source, width, heads, mlp_width):
    return {
        "width": source.get("hidden_size", width),
        "layers": source.get("num_hidden_layers", 12),
        "heads": source.get("num_attention_heads", heads),
        "mlp_width": source.get("intermediate_size", mlp_width),
        "activation": source.get("hidden_act", "quick_gelu"),
        "eps": source.get("layer_norm_eps", 1e-5),
    }


PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")  # before transformers 5, and since


def _check_preprocessor(path, image_size):
    """InputError where a model was trained with pictures that `image.Preprocess` does not make."""
    found = read_json(path)
    found = found.get("image_processor", found)
    if not isinstance(found, dict):
        raise InputError(f"{path}: not the settings of an image processor")
    for name, expected in _preprocessor(image_size).items():
        value = found.get(name, expected)
        if isinstance(value, int) and isinstance(expected, dict):  # as older files have it
            value = dict.fromkeys(expected, value)
        if value != expected and not name.endswith("_type"):
            raise InputError(
                f"{path}: prepares pictures with {name} = {value!r}, and miniclip only as OpenAI's models do, with "
                f"{expected!r}: load the file of weights from elsewhere, and prepare its pictures yourself"
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
    """Write what transformers' CLIPModel, or the class of one tower with its projection, loads; the inverse of `load`.

    With a tokenizer, CLIPProcessor loads from there too. Raises InputError for what transformers has no name for, and
    where the directory exists.
    """
    source = config_to(config)
    check_kept(config, config_from(source), "transformers")
    tensors = names.restore(params.flatten(tree), names.HUGGING_FACE)
    with atomic_directory(directory) as temporary:
        safetensors.write(temporary / "model.safetensors", tensors, {"format": "pt"})
        if config.visual:
            _write_json(temporary / PREPROCESSORS[0], _preprocessor(config.visual.image_size))
        if config.text and tokenizer:
            tokenizer.save(temporary / "merges.txt")
            _write_json(temporary / "vocab.json", tokenizer.encoder)
            _write_json(temporary / "tokenizer_config.json", _tokenizer(config.text.context_length))
        _write_json(temporary / "config.json", source)


def config_to(config):
    """CLIPConfig -> the contents of a config.json; the inverse of `config_from`."""
    visual, text = config.visual, config.text
    if (visual and type(visual) is not VisionConfig) or (visual and type(visual.image_size) is not int):
        raise InputError("transformers' CLIP knows Vision Transformers for square pictures only")
    towers = {}
    if visual:
        towers["vision_config"] = {
            "model_type": "clip_vision_model",
            "image_size": visual.image_size,
            "patch_size": visual.patch_size,
            "num_channels": visual.channels,
            **_transformer_to(visual),
        }
    if text:
        towers["text_config"] = {
            "model_type": "clip_text_model",
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            # Their sign for the highest id; see `_text`.
            "eos_token_id": 2 if text.eot_token_id is None else text.eot_token_id,
            **_transformer_to(text),
        }
    if visual and text:
        shared = {} if config.embed_dim is None else {"projection_dim": config.embed_dim}
        return {"model_type": "clip", "architectures": ["CLIPModel"], **shared, **towers}
    (source,) = towers.values()
    architecture = "CLIPVisionModel" if visual else "CLIPTextModel"
    if config.embed_dim is not None:
        source["projection_dim"] = config.embed_dim
        architecture += "WithProjection"
    return {**source, "architectures": [architecture]}


def _transformer_to(tower):
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.mlp_width,
        "hidden_act": tower.activation,
        "layer_norm_eps": tower.eps,
    }


def _preprocessor(image_size):
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": image_size},
        "crop_size": {"height": image_size, "width": image_size},
        "image_mean": [*MEAN],
        "image_std": [*STD],
        "resample": 3,  # Pillow's number for bicubic
        **dict.fromkeys(("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize"), True),
    }


def _tokenizer(context_length):
    special = {"bos_token": START, **dict.fromkeys(("eos_token", "unk_token", "pad_token"), END)}
    return {"tokenizer_class": "CLIPTokenizer", "model_max_length": context_length, **special}


def _write_json(path, content):
    write_atomically(path, json.dumps(content, ensure_ascii=False, indent=2).encode())
