"""`miniclip evaluate`: measure a model on your own pictures, with labels or with captions."""

import argparse
import json
import logging

from miniclip.cli.arguments import add_json, add_model, check_texts, load
from miniclip.cli.progress import progress
from miniclip.errors import InputError
from miniclip.evaluate import classification, datasets, metrics, report, retrieval

EXAMPLES = """examples:
  miniclip evaluate pets/ --model ViT-B/32                        pets/cat/1.jpg, pets/dog/2.jpg: zero-shot accuracy
  miniclip evaluate pets.csv --templates prompts.txt --confusion confusion.png
  miniclip evaluate photos/ --model ViT-B/32                      pictures with captions: retrieval
  miniclip evaluate wds_cifar10/ --model ViT-B/32                 a folder as CLIP_benchmark writes it
"""
LABELLED = (
    "pictures with labels: a folder with a folder for each class, a table (.csv, .tsv, .jsonl) of paths and labels, or "
    "a folder as CLIP_benchmark writes it"
)
LABELS_ONLY = ("classes", "templates", "per_class", "confusion", "calibration")  # options that captions have no use for


def add_arguments(command):
    command.set_defaults(command=evaluate)
    command.epilog, command.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    command.add_argument("data", metavar="DATA", help=f"{LABELLED}; or pictures with captions, as in `train`")
    add_model(command)
    command.add_argument("--task", choices=datasets.TASKS, help="(default: what the data's names say)")
    add_labels(command)
    add_report(command)


def evaluate(options):
    logging.basicConfig(format="miniclip: %(message)s", level=logging.INFO)
    check_figures(options)
    classes = datasets.lines_of(options.classes) if options.classes else None
    templates = datasets.templates_in(options.templates) if options.templates else None
    task = options.task or ("classification" if classes else datasets.task_of(options.data, options.columns))
    return (_classification if task == "classification" else _retrieval)(options, classes, templates)


def _classification(options, classes, templates):
    labelled = datasets.labelled(options.data, classes, options.columns)
    templates = templates or labelled.templates
    model, preprocess = load(options)
    check_texts(model, options.model)
    answers = classification.zero_shot(model, preprocess, labelled, templates, progress)
    write_figures(answers, options)
    if options.json:
        counts = {"pictures": len(answers.truth), "classes": len(answers.classes), "templates": templates}
        found = {"data": options.data, "model": options.model, "task": "classification", **counts, **answers.summary()}
        print_json(found | {"per_class": answers.per_class()}, labelled.pairs)
    else:
        print(
            f"{options.data}: {counted(len(answers.truth), 'pictures')} of {counted(len(answers.classes), 'classes')}"
        )
        print(report.classification({"zero-shot": answers.summary()}))
        if options.per_class:
            print(f"\n{report.per_class(answers.per_class())}")
    return 1 if labelled.pairs.skipped else 0


def _retrieval(options, *_):
    if refused := [f"--{name.replace('_', '-')}" for name in LABELS_ONLY if getattr(options, name)]:
        raise InputError(f"{options.data}: is a task of retrieval, without classes: leave out {', '.join(refused)}")
    pairs = datasets.captioned(options.data, options.columns)
    model, preprocess = load(options)
    check_texts(model, options.model)
    ranks = retrieval.retrieval(model, preprocess, pairs, progress)
    counts = {"pictures": len(ranks["text"].above), "texts": len(ranks["image"].above)}
    numbers = retrieval.summary(ranks)
    if options.json:
        found = {"data": options.data, "model": options.model, "task": "retrieval", **counts, **numbers}
        print_json(found, pairs)
    else:
        print(f"{options.data}: {' with '.join(counted(number, what) for what, number in counts.items())}")
        print(report.retrieval(numbers))
    return 1 if pairs.skipped else 0


# ------------------------------------------------------------------------ what other commands show, too


def add_labels(command):
    """What the labels are called."""
    command.add_argument("--classes", metavar="FILE", help="the texts that name the classes, one on each line")
    command.add_argument("--templates", metavar="FILE", help="prompts with {} for the label, one on each line")
    command.add_argument("--columns", nargs=2, metavar=("PICTURES", "TEXTS"), help="names of a table's columns")


def add_report(command):
    """What to show of `classification.Answers`."""
    command.add_argument("--per-class", action="store_true", help="a line for each class, the worst first")
    for name, what in (("confusion", "which classes are mistaken for which"), ("calibration", "how sure it is")):
        command.add_argument(f"--{name}", metavar="FILE", help=f"a figure: {what}; an older file is replaced")
    add_json(command)


def check_figures(options):
    """Raise InputError if the figures cannot be written, before anything is computed."""
    for path in filter(None, (options.confusion, options.calibration)):
        from miniclip.viz import saving  # needs matplotlib

        saving.check(path)


def write_figures(answers, options):
    """The figures that `add_report` has the arguments of."""
    if options.confusion or options.calibration:
        from miniclip.viz import evaluation, saving
    if options.confusion:
        saving.save(evaluation.confusion(answers.classes, answers.confusion()), options.confusion)
    if options.calibration:
        bins = metrics.reliability_bins(answers.confidence, answers.right)
        saving.save(evaluation.reliability(bins, answers.summary()["ece"]), options.calibration)


def print_json(found, *sources):
    """One JSON value: what was found, and {name: reason} of what was left out of the `Pairs` in `sources`."""
    skipped = {name: reason for pairs in sources for name, reason in pairs.skipped.items()}
    print(json.dumps(found | {"skipped": skipped}, ensure_ascii=False, indent=2))


def counted(number, what):
    return f"{number:,} {what}"
