"""Every dual encoder of transformers: does miniclip load it, and is it equal? `make zoo` writes it to docs/zoo.md.

A dual encoder is a class of transformers with `get_text_features` and the same for images, audio, video or speech. A
model of each has random weights, the widths, heads and sizes that its configuration has by default, 2 blocks and 1,000
ids. transformers saves it, miniclip loads it, and both encode a picture and texts.

    python tests/zoo_transformers.py [MODEL_TYPE ...]       # shows the models alone, and writes nothing
"""

import importlib
import inspect
import re
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from official_pictures import noise
from zoo import LARGEST, PAGE, replaced

import miniclip

BLOCKS, IDS, LONGEST = 2, 1000, 77
ENCODES = re.compile(r"get_(image|audio|video|speech)_features")
BEGIN = "<!-- made by tests/zoo_transformers.py -->"
# Larger models that are published: {model_type: [{part of the configuration: its values}]}.
WIDE = {"image_size": 336, "patch_size": 14, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
HUGE = {"patch_size": 14, "hidden_size": 1280, "num_attention_heads": 16, "intermediate_size": 5120}
SO400M = {"hidden_size": 1152, "num_attention_heads": 16, "intermediate_size": 4304}
LARGER = {
    "clip": {
        "vision_config": WIDE,
        "text_config": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
        "projection_dim": 768,
    },
    "metaclip_2": {
        "vision_config": HUGE,
        "text_config": {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "eos_token_id": 2},
        "projection_dim": 1024,
    },
    "siglip": {
        "vision_config": {**SO400M, "image_size": 384, "patch_size": 14},
        "text_config": {**SO400M, "projection_size": 1152},
    },
}


def dual_encoders():
    """{model_type: transformers' class}, found in its files."""
    found = {}
    for path in sorted(Path(transformers.__file__).parent.glob("models/*/modeling_*.py")):
        text = path.read_text()
        if "def get_text_features" in text and ENCODES.search(text):
            module = importlib.import_module(f"transformers.models.{path.parent.name}.{path.stem}")
            for _, kind in inspect.getmembers(module, inspect.isclass):
                encodes = any(map(ENCODES.fullmatch, dir(kind)))
                if kind.__module__ == module.__name__ and encodes and hasattr(kind, "get_text_features"):
                    found[kind.config_class.model_type] = kind
    return found


def reduced(config, changes):
    """Few blocks and ids, in all parts of a configuration; all that is left decides what a block computes."""
    for name, value in changes.items():
        if isinstance(value, dict):
            reduced(getattr(config, name), value)
        else:
            setattr(config, name, value)
    for part in vars(config).values():
        if isinstance(part, transformers.PreTrainedConfig):
            reduced(part, {})
    for name in ("num_hidden_layers", "num_layers"):
        if hasattr(config, name):
            setattr(config, name, BLOCKS)
    if getattr(config, "vocab_size", None):
        config.vocab_size = IDS
        for name, id in {"eos_token_id": IDS - 1, "bos_token_id": IDS - 2}.items():
            if (getattr(config, name, None) or 0) >= IDS:
                setattr(config, name, id)
    return config


def random_model(kind, changes):
    """A model of random weights in evaluation mode; no parameter keeps a special value such as 0 or 1."""
    torch.manual_seed(0)
    model = kind._from_config(reduced(kind.config_class(), changes)).eval()
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if x.is_floating_point() and "running_var" not in name:
                x.add_((0.1 if x.ndim < 2 else 0.02) * torch.randn_like(x))
    return model


def pictures(visual, preprocess):
    """A picture for miniclip, and the same as transformers' arguments: pixels of the model's size.

    If it has none, as NaFlex, each library prepares a picture.
    """
    if visual.image_size is not None:
        sides = (visual.image_size,) * 2
        images = np.random.default_rng(0).standard_normal((1, visual.channels, *sides), np.float32)
        return images, {"pixel_values": torch.from_numpy(images)}
    picture = noise("RGB", 90, 40)
    processor = transformers.Siglip2ImageProcessorPil(patch_size=visual.patch_size)
    return preprocess([picture]), dict(processor(picture, return_tensors="pt"))


def texts(config):
    """Two texts of random ids, with their ends if they have any."""
    tokens = np.random.default_rng(0).integers(3, IDS - 2, (2, min(config.max_position_embeddings, LONGEST)))
    tokens[0, -1] = tokens[1, 5] = IDS - 1 if config.eos_token_id is None else config.eos_token_id
    return tokens


def measured(directory, theirs):
    """(error of the image's features, error of the texts') of the model that miniclip loads. Raises InputError."""
    ours, preprocess = miniclip.load(directory, "numpy")
    images, arguments = pictures(ours.config.visual, preprocess)
    tokens = texts(theirs.config.text_config)
    with torch.no_grad():
        expected = (
            theirs.get_image_features(**arguments),
            theirs.get_text_features(input_ids=torch.from_numpy(tokens)),
        )
    found = ours.encode_image(images), ours.encode_text(tokens)
    expected = [getattr(x, "pooler_output", x).numpy() for x in expected]
    return [float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(found, expected)]


def of_model(kind, changes):
    """What miniclip does with a model of this class."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = random_model(kind, changes)
        theirs.save_pretrained(directory)
        try:
            errors = measured(directory, theirs)
        except miniclip.InputError as error:
            return f"refused: {error}".replace(f"{directory}/config.json: ", "")
    result = f"{errors[0]:.0e}, {errors[1]:.0e}"
    return f"equal ({result})" if max(errors) < LARGEST else f"**DIFFERENT**: {result}"


def rows(kinds):
    """[(model_type, transformers' class, widths of its towers, result), ...]"""
    for model_type, kind in sorted(kinds.items()):
        for changes in ({}, LARGER[model_type]) if model_type in LARGER else ({},):
            widths = [
                reduced(kind.config_class(), changes).to_dict().get(f"{x}_config", {}) for x in ("vision", "text")
            ]
            width = " and ".join(str(x.get("hidden_size", "-")) for x in widths)
            yield model_type, kind.__name__, width, of_model(kind, changes)


def main(*chosen):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    kinds, found = dual_encoders(), []
    for row in rows({name: kinds[name] for name in chosen or kinds}):
        found.append(row)
        print(f"{row[0]:26} {row[1]:30} {row[2]:14} {row[3]}", flush=True)
    if not chosen:
        equal = len({row[0] for row in found if row[3].startswith("equal")})
        summary = f"{len(kinds)} types of models in transformers {transformers.__version__}: {equal} are equal, "
        lines = [f"| {' | '.join(row)} |" for row in found]
        head = ["| model_type | class | widths | miniclip |", "|---|---|---|---|"]
        text = "\n".join(["", f"{summary}{len(kinds) - equal} are refused.", "", *head, *lines, ""])
        PAGE.write_text(replaced(PAGE.read_text(), BEGIN, text))
    return any("**" in row[3] for row in found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
