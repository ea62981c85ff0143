"""`miniclip classify`: find the text that fits a picture best."""

import json
import os
import re
import sys

import numpy as np
from PIL import Image

from miniclip import api, weights, zero_shot
from miniclip.cli.arguments import MODEL, add_activation, add_adapter, add_json, natural
from miniclip.errors import InputError
from miniclip.ops import BACKENDS
from miniclip.runtime.pictures import is_turned
from miniclip.train import shapes

BATCH = 32  # pictures encoded at a time
BAR = 30  # characters of a full bar


def add_arguments(command):
    command.set_defaults(command=classify, refuse=command.error)
    command.usage = "miniclip classify PICTURE... --labels TEXT TEXT... [options]"
    command.add_argument("pictures", nargs="*", metavar="PICTURE", help="picture files")
    command.add_argument("--labels", nargs="+", required=True, metavar="TEXT", help="the texts to choose from")
    command.add_argument("--model", default="shapes", metavar="M", help=f"{MODEL} (default: shapes)")
    add_activation(command)
    add_adapter(command)
    command.add_argument("--backend", default="auto", choices=["auto", *BACKENDS], help="(default: auto)")
    command.add_argument(
        "--template", action="append", metavar="TEXT",
        help='{} is the label, as in "a photo of {}" (default: {}); given several times, the mean of all',
    )  # fmt: skip
    command.add_argument("--exif", action="store_true", help="turn pictures as their EXIF orientation says")
    command.add_argument("--top", type=natural, metavar="N", help="show only the N best labels (default: all)")
    add_json(command)


def classify(options):
    if not options.pictures:
        options.refuse(
            "no PICTURE is given. --labels takes all words that follow it: write the pictures before --labels"
        )
    how = {name: getattr(options, name) for name in ("backend", "activation", "adapter", "exif")}
    model, preprocess = api.load(options.model, mmap=True, **how)  # this process ends before a file could change
    if preprocess is None:
        raise InputError(f"{options.model} has no image tower: choose a model that has one")
    if model.config.text and model.tokenizer is None:
        raise InputError(f"{options.model} has no vocabulary, which labels need: give a directory that has it as well")
    classes = zero_shot.class_embeddings(model, options.labels, options.template or ["{}"])  # (n, E)
    for hint in _about_labels(options):
        _say(hint)
    results = []
    for start in range(0, len(options.pictures), BATCH):
        pictures, images = _prepare(preprocess, options.pictures[start : start + BATCH])  # (B, C, height, width)
        if not pictures:
            continue
        features = model.encode_image(images)  # (B, E)
        probabilities = model.ops.softmax(model.logits(features, classes))  # (B, n)
        cosines = model.ops.l2_normalize(features) @ classes.T  # (B, n)
        rows = (model.ops.to_numpy(x).tolist() for x in (probabilities, cosines))
        for picture, *row in zip(pictures, *rows):
            if not np.isfinite(row).all():
                raise InputError(
                    f"{options.model}: its answers are no numbers, its weights may be NaN: load another file"
                )
            ranked = sorted(zip(options.labels, *row), key=lambda entry: -entry[1])
            found = [{"label": text, "probability": p, "cosine": c} for text, p, c in ranked]
            results.append({"image": picture, "labels": found[: options.top], "notes": _notes(picture, found, options)})
            if not options.json:
                _show(results[-1])
    if options.json:
        print(json.dumps(results, ensure_ascii=False, indent=2))
    return 0 if len(results) == len(options.pictures) else 1


def _show(result):
    width = max((len(entry["label"]) for entry in result["labels"]), default=0)
    print(result["image"])
    for entry in result["labels"]:
        bar = "█" * round(entry["probability"] * BAR)
        print(
            f"  {entry['label']:<{width}}  {entry['probability']:7.2%}  cosine {entry['cosine']:5.2f}  {bar}".rstrip()
        )
    for note in result["notes"]:
        print(f"  {note}")


def _say(message):
    print(f"miniclip: {message}", file=sys.stderr, flush=True)


def _prepare(preprocess, pictures):
    """(the pictures that can be read, their batch); the others are reported."""
    try:
        return pictures, preprocess(pictures)
    except InputError as error:
        if len(pictures) == 1:
            _say(error)
            return [], None
    good = [picture for picture in pictures if _prepare(preprocess, [picture])[0]]
    return good, preprocess(good) if good else None


# ------------------------------------------------------------------------ what a user should know about the answer


def _is_built_in(options):
    """Whether the answer is that of the built-in model, whose pictures and words we know."""
    return options.model == "shapes" and options.adapter is None


def _about_labels(options):
    """Sentences about labels that cannot be meant so."""
    labels = options.labels
    if len(labels) == 1:
        yield f"{labels[0]!r} is the only label, so it always gets 100%: name at least two"
    if any("," in label[-1:] or (len(labels) == 1 and "," in label) for label in labels):
        yield 'labels are separated by spaces, not by commas: --labels "a dog" "a cat"'
    for label in labels:
        if label.endswith(tuple(Image.registered_extensions())) and os.path.isfile(label):
            yield f"{label!r} is used as a label, but it is a file: write pictures before --labels"
    if _is_built_in(options) and (unknown := sorted(set().union(*map(_words, labels)) - shapes.words())):
        megabytes = weights.manifest()["models"]["ViT-B/32"]["bytes"] / 1e6
        yield (
            f"the built-in model knows drawn shapes: {len(shapes.COLOURS)} colours and {len(shapes.SHAPES)} shapes. It "
            f"never saw these words, so its answer says nothing about them: {', '.join(unknown)}. For photographs, use "
            f"another model: --model ViT-B/32 (downloads {megabytes:.0f} MB once)"
        )


def _notes(picture, found, options):
    """Sentences about a picture's answer, `found`: its labels, the best one first."""
    notes = []
    if not options.exif and is_turned(picture):
        notes.append("The file says that this picture is to be turned (EXIF). It was used as it is stored: see --exif.")
    if _is_built_in(options) and _names_a_pair(found[0]["label"]):  # other labels have other cosines
        least = weights.manifest()["models"]["shapes"]["right_answers"]["cosine"]
        if found[0]["cosine"] < least:
            notes.append(f"Probably none of these: right answers reach a cosine of {least}.")
    return notes


def _names_a_pair(label):
    """Whether a label names a colour and a shape."""
    return all(_words(label) & names.keys() for names in (shapes.COLOURS, shapes.SHAPES))


def _words(text):
    return set(re.findall(r"\w+", text.lower()))
