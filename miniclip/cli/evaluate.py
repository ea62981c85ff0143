"""`miniclip evaluate`: measure a model on your own pictures, with labels or with captions."""

import argparse
import logging

from miniclip.cli.arguments import add_json, add_model, check_texts, load, log, print_json
from miniclip.cli.progress import progress, say
from miniclip.errors import InputError
from miniclip.evaluate import classification, datasets, metrics, report, retrieval
from miniclip.probe import Probe
from miniclip.runtime import listing

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
# options that captions have no use for
LABELS_ONLY = ("classes", "templates", "probe", "per_class", "confusion", "calibration")


def add_arguments(command):
    command.set_defaults(command=evaluate)
    command.epilog, command.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    command.add_argument("data", metavar="DATA", help=f"{LABELLED}; or pictures with captions, as in `train`")
    add_model(command)
    command.add_argument("--task", choices=datasets.TASKS, help="(default: what the data's names say)")
    add_labels(command)
    command.add_argument("--probe", metavar="FILE", help="measure this classifier, which `miniclip probe --out` wrote")
    add_report(command)


def evaluate(options):
    log(logging.INFO)
    check_figures(options)
    named = options.classes or options.probe
    task = options.task or ("classification" if named else datasets.task_of(options.data, options.columns))
    return (_classification if task == "classification" else _retrieval)(options)


def _classification(options):
    if options.probe and (options.classes or options.templates):
        raise InputError("a probe knows its classes, and reads no texts: leave out --classes and --templates")
    model, preprocess = load(options)
    if options.probe:
        name, classifier = "linear probe", Probe.load(options.probe, model)
        labelled = datasets.labelled(options.data, classifier.classes, options.columns, by_order=False)
    else:
        check_texts(model, options.model)
        classes = options.classes and listing.texts(options.classes)
        name, labelled = "zero-shot", datasets.labelled(options.data, classes, options.columns)
        classifier = zero_shot(model, labelled, options)
    answers = classification.measure(model, preprocess, labelled, classifier, progress)
    write_figures(answers, options)
    counts = {"pictures": len(answers.truth), "classes": len(answers.classes)}
    if options.json:
        found = {"data": options.data, "model": options.model, "task": "classification", **counts}
        print_found(
            {**found, "classifier": name, **answers.summary(), "per_class": answers.per_class()}, labelled.pairs
        )
    else:
        print(f"{options.data}: {counts['pictures']:,} pictures of {counts['classes']:,} classes")
        print(report.classification({name: answers.summary()}))
        if options.per_class:
            print(f"\n{report.per_class(answers.per_class())}")
    return 1 if labelled.pairs.skipped else 0


def _retrieval(options):
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
        print_found(found, pairs)
    else:
        print(f"{options.data}: {counts['pictures']:,} pictures with {counts['texts']:,} texts")
        print(report.retrieval(numbers))
    return 1 if pairs.skipped else 0


# ------------------------------------------------------------------------ what other commands show, too


def add_labels(command):
    """What the labels are called."""
    command.add_argument("--classes", metavar="FILE", help="the texts that name the classes, one on each line")
    command.add_argument("--templates", metavar="FILE", help="prompts with {} for the label, one on each line")
    command.add_argument("--columns", nargs=2, metavar=("PICTURES", "TEXTS"), help="names of a table's columns")


def zero_shot(model, labelled, options):
    """The zero-shot classifier of pictures, with the templates of the option, else those of the data."""
    if all(name.isdecimal() for name in labelled.classes):
        say(f"{options.data}: its labels are numbers, which are used as texts: --classes FILE gives them names")
    templates = datasets.templates_in(options.templates) if options.templates else labelled.templates
    return classification.zero_shot(model, labelled.classes, templates)


def add_report(command):
    """What to show of `classification.Answers`."""
    command.add_argument("--per-class", action="store_true", help="a line for each class, the worst first")
    for name, what in (("confusion", "which classes are mistaken for which"), ("calibration", "how sure it is")):
        command.add_argument(f"--{name}", metavar="FILE", help=f"a figure: {what}; an older figure is replaced")
    add_json(command)


def check_figures(options):
    """Raise InputError if the figures cannot be written, before anything is computed."""
    if paths := [path for path in (options.confusion, options.calibration) if path]:
        from miniclip.viz import saving  # needs matplotlib

        saving.check(*paths)


def write_figures(answers, options):
    """The figures that `add_report` has the arguments of."""
    if options.confusion or options.calibration:
        from miniclip.viz import evaluation, saving
    if options.confusion:
        saving.save(evaluation.confusion(answers.classes, answers.confusion()), options.confusion)
    if options.calibration:
        bins = metrics.reliability_bins(answers.confidence, answers.right)
        saving.save(evaluation.reliability(bins, answers.summary()["ece"]), options.calibration)
    for path in filter(None, (options.confusion, options.calibration)):
        say(f"{path} is written")


def print_found(found, *sources):
    """One JSON value: what was found, and {name: reason} of what was left out of the `Pairs` in `sources`."""
    skipped = {name: reason for pairs in sources for name, reason in pairs.skipped.items()}
    print_json(found | {"skipped": skipped})
