"""Every model and every tag of OpenCLIP: does miniclip load it, and is it equal? `make zoo` writes docs/zoo.md.

Each configuration has random weights, its true widths, heads, picture and context, but 2 blocks a tower (a ResNet 1 a
stage) and 1,000 ids. OpenCLIP saves it, miniclip loads it, and both encode a picture and texts. Each tag says how its
pictures are prepared: they must be equal. Also writes weights/open_clip.json, OpenCLIP's names for `miniclip.load`.

    python tests/zoo.py [MODEL ...]       # shows the models alone, and writes nothing
"""

import copy
import itertools
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from checkout import ROOT
from official_pictures import noise, official_open_clip
from open_clip_models import arrays, few_blocks, published, running, size_of

import miniclip
from miniclip import families
from miniclip.checkpoints import open_clip
from miniclip.fetch import open_clip_names

PAGE, NAMES = ROOT / "docs" / "zoo.md", ROOT / "weights" / "open_clip.json"
LARGEST = 1e-5  # error, as a part of the largest value
IDS, PADDING = 1000, 1  # the id that fills up the texts of transformers' text towers
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")
BEGIN = "<!-- made by tests/zoo.py -->"


def reduced(config):
    """The configuration with few blocks and ids; all that is left decides what a block computes."""
    config = copy.deepcopy(config)
    vision = config["vision_cfg"]
    vision["layers"] = [1] * 4 if isinstance(vision.get("layers"), list) else 2
    for name in ("text_cfg", "multimodal_cfg"):
        if name in config:
            config[name] |= {"layers": 2, "vocab_size": IDS}
    return config


def batch(config):
    """A picture, and texts of random ids: one that fills the context, one that is padded, with their ends."""
    rng, text = np.random.default_rng(0), config["text_cfg"]
    tokens = rng.integers(1, IDS - 1, (2, text.get("context_length", 77)))
    end = text["eos_id"] if text.get("pool_type") == "eos" else IDS - 1
    tokens[tokens == end] = 3 + end % 2
    tokens[0, -1] = tokens[1, 5] = end
    tokens[1, 6:] = PADDING if "hf_model_name" in text else 0
    return {"images": rng.standard_normal((1, 3, *size_of(config)), np.float32), "tokens": tokens}


def measured(do, name, config):
    """(error of the image's features, error of the texts'): OpenCLIP's model of random weights in miniclip."""
    config = reduced(config)
    with tempfile.TemporaryDirectory() as folder:
        directory, file = Path(folder, "m"), Path(folder, "m.npz")
        np.savez(file, **batch(config))
        do(["save", str(directory), config, str(file), name])
        found = arrays(file)
        with few_blocks():
            model = miniclip.load(directory, "numpy")[0]
        ours = model.encode_image(found["images"]), model.encode_text(found["tokens"])
    return [float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(ours, (found["image"], found["text"]))]


def pictures_are_equal(config, entry):
    """Whether this tag's pictures are OpenCLIP's, bit for bit."""
    config = open_clip.config_from(config, open_clip_names.preprocessing(entry))
    preprocess, size = families.preprocess_of(config), config.visual.image_size
    settings = [entry.get(name) for name in ("resize_mode", "interpolation", "mean", "std")]
    for mode, shape in itertools.product(("RGB", "RGBA", "L"), ((67, 45), (45, 500))):
        picture = noise(mode, *shape)
        if not np.array_equal(preprocess(picture), official_open_clip(picture, size, *settings, 0)):
            return False
    return True


def of_model(do, name, config, tags):
    """Rows (tags, result) of one model: what miniclip does with it, and with each of its tags."""
    try:
        open_clip.config_from(config)
    except (miniclip.InputError, KeyError, TypeError) as error:
        return [(list(tags), f"refused: {error}")]
    errors = measured(do, name, config)
    if not max(errors) < LARGEST:
        return [(list(tags), f"**DIFFERENT**: {errors[0]:.0e}, {errors[1]:.0e}")]
    result = f"equal ({errors[0]:.0e}, {errors[1]:.0e}){tokens(config)}"
    rows = {}
    for tag, entry in tags.items():
        reason = open_clip_names.mismatch(name, tag, config, entry)
        wrong = None if reason or pictures_are_equal(config, entry) else "**PICTURES DIFFER**"
        rows.setdefault(f"refused: {reason}" if reason else wrong or result, []).append(tag)
    return [(tags, result) for result, tags in rows.items()] or [([], result)]


def tokens(config):
    tokenizer = config["text_cfg"].get("hf_tokenizer_name")
    return f"; tokenizer {tokenizer}" if tokenizer else ""


def names(configs, tags, version):
    """The contents of weights/open_clip.json: OpenCLIP's models, and of each tag the repository and the pictures."""
    usual = open_clip_names.USUAL
    entries = {
        model: {
            tag: {"hub": entry["hf_hub"], "quick_gelu": entry.get("quick_gelu", False)}
            | {name: entry[name] for name in PREPROCESSING if name in entry and entry[name] != usual[name]}
            for tag, entry in found.items()
        }
        for model, found in tags.items()
    }
    source = f"open_clip_torch {version} (MIT), model_configs and pretrained.py"
    return {"source": source, "models": configs, "tags": entries}


def written(content):
    """The text of weights/open_clip.json: a line for each model."""
    parts = []
    for part in ("models", "tags"):
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(content[part].items())]
        parts.append(f'"{part}": {{\n' + ",\n".join(lines) + "\n}")
    return f'{{\n"source": {json.dumps(content["source"])},\n' + ",\n".join(parts) + "\n}\n"


def replaced(page, begin, text):
    """A page with `text` from the line `begin` to the next heading, or to the end."""
    before, _, after = page.partition(begin)
    _, heading, rest = after.partition("\n## ")
    return f"{before}{begin}\n{text}{heading}{rest}"


def page(rows, version):
    """The page with the table."""
    lines, counts = [], {"equal": 0, "refused": 0}
    for model, found in rows.items():
        for tags, result in found:
            lines.append(f"| {model} | {', '.join(tags) or '-'} | {result} |")
            counts[result.split()[0].strip(":")] += len(tags)
    pairs = f"{sum(counts.values())} pairs of a model and a tag in OpenCLIP {version}"
    summary = f"{pairs}: {counts['equal']} are equal, {counts['refused']} are refused."
    text = "\n".join(["", summary, "", "| model | tags | miniclip |", "|---|---|---|", *lines, ""])
    return replaced(PAGE.read_text(), BEGIN, text)


def main(*chosen):
    configs, tags, version = published()
    if not chosen:
        NAMES.write_text(written(names(configs, tags, version)))
    rows = {}
    with running(transformers=True) as do:
        for name in chosen or sorted(configs):
            rows[name] = of_model(do, name, configs[name], tags.get(name, {}))
            for found, result in rows[name]:
                print(f"{name:32} {', '.join(found):40.40} {result}", flush=True)
    if not chosen:
        PAGE.write_text(page(rows, version))
    return any("**" in result for found in rows.values() for _, result in found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
