"""`miniclip classify`: find the text that fits a picture best."""

import json

from miniclip import api, zero_shot
from miniclip.cli.arguments import MODEL, add_activation, add_json
from miniclip.errors import InputError
from miniclip.ops import BACKENDS

BATCH = 32  # pictures encoded at a time
BAR = 30  # characters of a full bar


def add_arguments(command):
    command.set_defaults(command=classify)
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help="picture files")
    command.add_argument("--labels", nargs="+", required=True, metavar="TEXT", help="the texts to choose from")
    command.add_argument("--model", default="shapes", metavar="M", help=f"{MODEL} (default: shapes)")
    add_activation(command)
    command.add_argument("--backend", default="auto", choices=["auto", *BACKENDS], help="(default: auto)")
    command.add_argument("--template", default="{}", help='{} is the label, as in "a photo of {}" (default: {})')
    add_json(command)


def classify(options):
    model, preprocess = api.load(options.model, backend=options.backend, activation=options.activation)
    if preprocess is None:
        raise InputError(f"{options.model} has no image tower: choose a model that has one")
    classes = zero_shot.class_embeddings(model, options.labels, [options.template])  # (n, E)
    results = []
    for start in range(0, len(options.pictures), BATCH):
        pictures = options.pictures[start : start + BATCH]
        rows = model.ops.to_numpy(zero_shot.probabilities(model, preprocess(pictures), classes))  # (B, n)
        for picture, row in zip(pictures, rows):
            ranked = sorted(zip(options.labels, row.tolist()), key=lambda pair: -pair[1])
            results.append({"image": picture, "labels": [{"label": t, "probability": p} for t, p in ranked]})
    if options.json:
        print(json.dumps(results, ensure_ascii=False, indent=2))
        return
    width = max(map(len, options.labels))
    for result in results:
        print(result["image"])
        for entry in result["labels"]:
            bar = "█" * round(entry["probability"] * BAR)
            print(f"  {entry['label']:<{width}}  {entry['probability']:7.2%}  {bar}".rstrip())
