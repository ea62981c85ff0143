"""`miniclip probe`: train a linear classifier on a model's features, and see what it is worth."""

import argparse
import logging
import os
from typing import NamedTuple

import numpy as np

from miniclip import probe as probes
from miniclip.cli import evaluate
from miniclip.cli.arguments import add_model, load, log, natural
from miniclip.cli.progress import progress, say
from miniclip.errors import InputError
from miniclip.evaluate import classification, datasets, report
from miniclip.runtime import listing

EXAMPLES = """examples:
  miniclip probe pets/ --model ViT-B/32                       pets/cat/1.jpg, pets/dog/2.jpg; a fifth is held out
  miniclip probe train/ --test test/ --out pets.safetensors
  miniclip probe pets/ --shots 1 2 4 8 16                     how many labels does it take?
"""


def add_arguments(command):
    command.set_defaults(command=probe)
    command.epilog, command.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    command.add_argument("data", metavar="DATA", help=evaluate.LABELLED)
    tested = command.add_mutually_exclusive_group()
    tested.add_argument("--test", metavar="DATA", help="other pictures with labels, as DATA, to measure on")
    tested.add_argument(
        "--held-out", type=_share, default=0.2, metavar="SHARE",
        help="measure on this share of each class, and do not learn from it (default: %(default)s)",
    )  # fmt: skip
    add_model(command)
    command.add_argument(
        "--shots", type=natural, nargs="+", default=[], metavar="N", help="also learn from N of each class"
    )
    command.add_argument(
        "--draws", type=natural, default=5, metavar="N", help="for each of them (default: %(default)s)"
    )
    command.add_argument("--seed", type=natural, default=0, metavar="N", help="decides what is drawn and held out")
    evaluate.add_labels(command)
    command.add_argument("--out", metavar="FILE", help="write the probe (.safetensors); an older probe is replaced")
    evaluate.add_report(command)


def _share(text):
    try:
        share = float(text)
    except ValueError:
        share = 0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return share


class Found(NamedTuple):
    """What is shown: a probe that has learned from n of the pictures, and was measured on m others."""

    learned: probes.Probe
    nearest: probes.Neighbours
    answers: dict[str, classification.Answers]  # about the m, of each classifier by its name
    few: dict  # of `probe.few_shot`
    pictures: int  # n


def probe(options):
    log(logging.INFO)
    _check(options)
    given = options.classes and listing.texts(options.classes)
    data = datasets.labelled(options.data, given, options.columns)
    test = options.test and datasets.labelled(options.test, data.classes, options.columns, by_order=bool(given))
    model, preprocess = load(options)
    zero_shot = _zero_shot(model, data, options)
    found = _learn(*_split(model, preprocess, data, test, options), data.classes, zero_shot, options)
    if not found.learned.converged:
        say(f"L-BFGS ended after {probes.ITERATIONS:,} steps, as in the paper, before it had converged")
    evaluate.write_figures(found.answers["linear probe"], options)
    if options.out:
        found.learned.save(options.out, model)
        say(f"{options.out} is written")
    sources = [data.pairs, test.pairs] if test else [data.pairs]
    (_print_json if options.json else _print)(found, sources, options)
    return 1 if any(pairs.skipped for pairs in sources) else 0


def _check(options):
    """Raise InputError for what cannot be used, before anything is computed."""
    evaluate.check_figures(options)
    probes.sklearn("linear_model")  # if it is missing, this says so now
    if 0 in [*options.shots, options.draws]:
        raise InputError("--shots and --draws are numbers from 1 on")
    if options.out and not os.access(os.path.dirname(os.path.abspath(options.out)), os.W_OK):
        raise InputError(f"{options.out}: cannot be written: choose a file's name in a folder that exists")
    if options.out and os.path.exists(options.out) and not probes.is_probe(options.out):
        raise InputError(f"{options.out}: exists, and only a probe would be replaced: choose another path")


def _split(model, preprocess, data, test, options):
    """Pictures to learn from and to measure on: two of (features (n, E), classes (n,))."""
    x, y = _features(model, preprocess, data)
    if test:
        return (x, y), _features(model, preprocess, test)
    rows, held = probes.split(y, options.held_out, np.random.default_rng(options.seed))
    return (x[rows], y[rows]), (x[held], y[held])


def _learn(train, test, classes, zero_shot, options):
    """Learn from `train` and measure on `test`, both (features, classes), beside `zero_shot`, {name: classifier}."""
    seeds = range(options.seed, options.seed + options.draws)
    few = probes.few_shot(train, test, classes, options.shots, seeds)
    learned = probes.linear_probe(*train, classes, options.seed)
    nearest = probes.neighbours(*train, options.seed)
    x, y = test
    classifiers = {"linear probe": learned, "k-NN": nearest, **zero_shot}
    answers = {name: classification.answers(classes, y, classifier(x)) for name, classifier in classifiers.items()}
    return Found(learned, nearest, answers, few, len(train[1]))


def _print_json(found, sources, options):
    best = found.answers["linear probe"]
    counts = {"learned_from": found.pictures, "measured_on": len(best.truth), "classes": len(best.classes)}
    chosen = {"C": found.learned.C, "converged": found.learned.converged, "k": found.nearest.k}
    results = {name: answers.summary() for name, answers in found.answers.items()}
    shown = {"data": options.data, "model": options.model, **counts, **chosen, "results": results}
    evaluate.print_found({**shown, "few_shot": found.few, "per_class": best.per_class()}, *sources)


def _print(found, sources, options):
    best = found.answers["linear probe"]
    results = {name: answers.summary() for name, answers in found.answers.items()}
    print(
        f"{len(best.classes):,} classes, {found.pictures:,} pictures to learn from, {len(best.truth):,} to measure on"
    )
    print(report.classification(results))
    print(f"C = {found.learned.C:.3g} and k = {found.nearest.k}, chosen on a fifth of the pictures to learn from")
    if found.few:
        print(f"\n{report.few_shot(found.few, results, found.pictures)}")
    if options.per_class:
        print(f"\n{report.per_class(best.per_class())}")


def _features(model, preprocess, data):
    """(features (n, E), classes (n,)) of the pictures that can be read."""
    parts = [*datasets.features(model, preprocess, data.pairs, progress)]
    if not parts:
        raise InputError(f"{data.pairs.source}: none of its pictures can be read")
    numbers, x = (np.concatenate(part) for part in zip(*parts))
    return x, data.truth[numbers]


def _zero_shot(model, data, options):
    """{"zero-shot": classifier}; none if the model has no texts, or if the classes are only numbered."""
    texts = options.classes or options.templates or not all(name.isdecimal() for name in data.classes)
    if not (texts and model.config.text and model.tokenizer):
        return {}
    return {"zero-shot": evaluate.zero_shot(model, data, options)}
