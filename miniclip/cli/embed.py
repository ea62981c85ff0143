"""`miniclip embed`: write the features of many pictures or texts to a folder, for a search."""

import argparse
import functools
import itertools
import os

from miniclip import api, embed, hints
from miniclip.cli.arguments import (
    PICTURES,
    add_json,
    add_model,
    check_texts,
    how_to_load,
    load,
    log,
    positive,
    print_json,
)
from miniclip.cli.progress import Bar, Broken, counted, say
from miniclip.embed import tables, urls
from miniclip.embed.index import FAILED
from miniclip.runtime import listing

EXAMPLES = """examples:
  miniclip embed photos/ -o index --model ViT-B/32         all pictures in a folder, and in those below it
  find / -name "*.jpg" | miniclip embed - -o index         a list
  miniclip embed captions.jsonl -o texts                   {"text": "..."} on each line
  miniclip embed photos/ -o index --ray local              on Ray

If it is stopped or killed, the same command resumes. Pictures in INDEX already are left out, so that the same command
also adds new ones. It does not notice that a picture was changed or removed: for that, write to a new folder.
"""


def add_arguments(command):
    command.set_defaults(command=run, refuse=command.error)
    command.epilog, command.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    command.usage = "miniclip embed PICTURE... -o INDEX [options]"
    command.add_argument(
        "names",
        nargs="+",
        metavar="PICTURE",
        help=f"{PICTURES}; URLs of object stores (s3://BUCKET/FOLDER); or tables of texts: .csv, .tsv, .jsonl",
    )
    command.add_argument("-o", "--out", required=True, metavar="INDEX", help="the folder to write, or to add to")
    add_model(command)
    command.add_argument("--batch", type=positive, metavar="N", help="pictures or texts encoded at a time")
    command.add_argument(
        "--column", metavar="NAME", help="the column of texts (default: text, caption, or the only one)"
    )
    command.add_argument(
        "--npy",
        metavar="FILE.npy",
        help="at the end, also write features to FILE.npy and names to FILE.json; older ones are replaced",
    )
    add_json(command)
    group = command.add_argument_group("on Ray")
    group.add_argument("--ray", metavar="ADDRESS", help='compute on a cluster; "local" begins one on this machine')
    group.add_argument("--workers", type=positive, metavar="N", help="(default: the cluster's GPUs, or its cores)")
    group.add_argument(
        "--gpus", type=float, metavar="X", help="of each worker, such as 0.5 (default: 1 if there is one)"
    )


def run(options):
    if options.npy:
        embed.check_npy(options.npy)
    log()  # lines in tables that cannot be used
    broken, skipped = Broken(), {}
    unit = "texts" if tables.are_texts(options.names) else "pictures"
    if options.column and unit == "pictures":
        options.refuse("--column is for tables of texts")
    if unit == "texts":
        names = [text for path in options.names for text in tables.texts(path, skipped, options.column)]
    else:
        each = (urls.listed(name) if urls.is_url(name) else listing.pictures([name]) for name in options.names)
        names = counted(itertools.chain.from_iterable(each), options.names)
    model, preprocess, cluster = _load(options, unit == "texts")
    if unit == "pictures":
        for hint in (*hints.left_out(options.names), *hints.turned(names, options.exif)):
            say(hint)

    def watch(finished, total):
        if finished == 0 and total is not None and total < len(names):
            say(f"{total:,} of {len(names):,} {unit} are left to embed")
        bar(finished, total)

    shared = {"name": _absolute(options.model), "ray": cluster, "watch": watch}
    shared |= {"batch": options.batch} if options.batch else {}
    try:
        with Bar(unit) as bar:
            if unit == "texts":
                check_texts(model, options.model)
                done = embed.texts(options.out, model, names, broken=broken, **shared)
            else:
                done = embed.pictures(options.out, model, preprocess, names, broken=broken, **shared)
    except KeyboardInterrupt:
        say(f"stopped; what was embedded is in {options.out}: the same command resumes")
        raise
    if options.npy and done.rows:
        embed.write_npy(options.out, options.npy)
    _report(done, unit, options)
    return 1 if done.failed or skipped else 0


def _load(options, texts):
    """(model, preprocess, Cluster or None). Workers of a cluster load the model again, with the backend asked for."""
    if options.ray is None:
        return *load(options, texts), None
    there = functools.partial(api.load, _absolute(options.model), **how_to_load(options))
    options.backend = "numpy"  # here it is only asked who it is
    return *load(options, texts), embed.Cluster(options.ray, there, options.workers, options.gpus)


def _absolute(model):
    """The name of a model, so that it can be loaded from any folder."""
    return os.path.abspath(model) if model not in api.available_models() and os.path.exists(model) else model


def _report(done, unit, options):
    if options.json:
        print_json({"index": options.out, **done._asdict()})
        return
    failed = f"; {done.failed:,} could not be read, see {options.out}/{FAILED}" if done.failed else ""
    what = unit.removesuffix("s") if done.new == 1 else unit
    say(f"{done.new:,} {what} embedded, {options.out} has {done.rows:,}{failed}")
