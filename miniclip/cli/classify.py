"""`miniclip classify`: find the text that fits a picture best."""

import csv
import os
import sys

from miniclip import encode, hints, zero_shot
from miniclip.cli.arguments import (
    PICTURES,
    add_json,
    add_model,
    check_texts,
    is_built_in,
    load,
    positive,
    print_json,
)  # fmt: skip
from miniclip.cli.progress import Broken, counted, progress, say
from miniclip.ops import numpy_ops
from miniclip.runtime import listing

BAR = 30  # characters of a full bar
COLUMNS = ("image", "label", "probability", "cosine")


def add_arguments(command):
    command.set_defaults(command=classify, refuse=command.error)
    command.usage = "miniclip classify PICTURE... --labels TEXT TEXT... [options]"
    command.add_argument("pictures", nargs="*", metavar="PICTURE", help=PICTURES)
    command.add_argument("--labels", nargs="+", default=[], metavar="TEXT", help="the texts to choose from")
    command.add_argument("--labels-file", metavar="FILE", help="a text file with a label on each line")
    add_model(command)
    command.add_argument(
        "--template", action="append", metavar="TEXT",
        help='{} is the label, as in "a photo of {}" (default: {}); given several times, the mean of all',
    )  # fmt: skip
    command.add_argument("--top", type=positive, metavar="N", help="show only the N best labels (default: all)")
    form = command.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--csv", action="store_true", help=f"print a table with the columns {', '.join(COLUMNS)}")


def classify(options):
    if not options.pictures:
        options.refuse(
            "no PICTURE is given. --labels takes all words that follow it: write the pictures before --labels"
        )
    if not options.labels and options.labels_file is None:
        options.refuse("no label is given: name them with --labels TEXT TEXT..., or in a file with --labels-file FILE")
    labels = options.labels + (listing.texts(options.labels_file, "a label") if options.labels_file else [])
    pictures = counted(listing.pictures(options.pictures), options.pictures)
    model, preprocess = load(options)
    check_texts(model, options.model)
    classes = zero_shot.class_embeddings(model, labels, options.template or ["{}"])  # (n, E)
    for x in (model.ops.to_numpy(classes), model.logit_scale):
        encode.check_numbers(x, f"{options.model}: its answers")
    for hint in (*hints.left_out(options.pictures), *_about_labels(labels, options, model.config.independent)):
        say(hint)
    broken, table, results = Broken(), csv.writer(sys.stdout, lineterminator="\n"), []
    if options.csv:
        table.writerow(COLUMNS)
    bar = progress(pictures, shown=options.json or options.csv or not sys.stdout.isatty())
    for names, features in encode.pictures(model, preprocess, bar, broken=broken):  # b names, (b, E)
        logits = model.ops.to_numpy(model.logits(features, classes))  # (b, n)
        cosines = numpy_ops.l2_normalize(features) @ model.ops.to_numpy(classes).T  # (b, n)
        for name, *row in zip(names, zero_shot.precise_probabilities(model, logits).tolist(), cosines.tolist()):
            ranked = sorted(zip(labels, *row), key=lambda entry: -entry[1])
            found = [{"label": text, "probability": p, "cosine": c} for text, p, c in ranked]
            best = found[0]["label"], found[0]["cosine"]
            notes = hints.about(name, *best, exif=options.exif, built_in=is_built_in(options))
            result = {"image": name, "labels": found[: options.top], "notes": [*notes]}
            if options.json:
                results.append(result)
            elif options.csv:
                table.writerows([name, *entry.values()] for entry in result["labels"])
                for note in result["notes"]:
                    say(f"{name}: {note}")
            else:
                _show(result)
    if options.json:
        print_json(results)
    return 1 if broken.count else 0


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


def _about_labels(labels, options, independent):
    """Sentences about labels that cannot be meant so, and about probabilities that are no shares."""
    if independent:
        yield "the probabilities are independent: this model judges each label alone, so they do not sum to 100%"
    elif len(labels) == 1:
        yield f"{labels[0]!r} is the only label, so it always gets 100%: name at least two"
    if any("," in label[-1:] or (len(labels) == 1 and "," in label) for label in labels):
        yield 'labels are separated by spaces, not by commas: --labels "a dog" "a cat"'
    for label in labels:
        if os.path.isfile(label) and listing.is_picture(label):
            yield f"{label!r} is used as a label, but it is a file: write pictures before --labels"
    if is_built_in(options):
        yield from hints.unknown_words(labels)
