"""Directories as transformers writes them: config.json beside safetensors files, one or several."""

import json
from pathlib import Path

from miniclip.checkpoints import names, safetensors
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.errors import InputError
from miniclip.tokenizer import Tokenizer


def load(directory, files=None):
    """A directory with a CLIPModel or one of its towers -> (config, {our flat name: array}, tokenizer or None).

    The weights come out of `files` if given, else of the files that belong to such a directory. Raises InputError
    naming the file that is missing, damaged, or not of a CLIP.
    """
    directory = Path(directory)
    source = _read_json(directory / "config.json")
    try:
        config = config_from(source)
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{directory / 'config.json'}: not the configuration of a CLIP model: {error}") from error
    tensors = {}
    for file in files or _weight_files(directory):
        tensors |= safetensors.read(file)[0]
    if config.embed_dim is None:  # a bare tower: transformers 5 leaves its name out, older versions do not
        prefix = "vision_model." if config.visual else "text_model."
        tensors = {prefix + name.removeprefix(prefix): x for name, x in tensors.items()}
    merges = directory / "merges.txt"
    tokenizer = Tokenizer.load(merges, config.text.vocab_size) if config.text and merges.exists() else None
    return config, names.rename(tensors, names.HUGGING_FACE), tokenizer


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


def _weight_files(directory):
    """model.safetensors, or the files that its index names."""
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.exists() or not index.exists():
        if not single.exists() and (directory / "pytorch_model.bin").exists():
            raise InputError(
                f"{directory}: has its weights in pytorch_model.bin; save them as safetensors to load them"
            )
        return [single]
    try:
        files = sorted(set(_read_json(index)["weight_map"].values()))
        # Names out of a file: they must not lead out of the directory.
        return [directory / Path(file).name for file in files]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not an index of safetensors files: {error!r}") from error


def _read_json(path):
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object")
    return content
