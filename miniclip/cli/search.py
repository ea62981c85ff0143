"""`miniclip search`: find the pictures that fit a text or a picture best, in what `miniclip embed` has written."""

import argparse
import os
from pathlib import Path

from miniclip import api, hints
from miniclip.cli.arguments import add_json, add_model, how_to_load, is_built_in, log, positive, print_json
from miniclip.cli.progress import say
from miniclip.runtime import listing
from miniclip.search import Index, contact_sheet

EXAMPLES = """examples:
  miniclip search index "a dog in the snow"
  miniclip search index "a beach" --minus "people" -k 50 -o hits.html
  miniclip search index --image dog.jpg "in the snow" --json

Several texts and pictures are one query: the sum of their features, minus those of --minus. INDEX is a folder that
`miniclip embed` has written, of pictures or of texts.
"""


def add_arguments(command):
    command.set_defaults(command=search, refuse=command.error, list_of_rest="texts")
    command.epilog, command.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    command.usage = "miniclip search INDEX TEXT... [--image PICTURE] [--minus TEXT] [options]"
    command.add_argument("index", metavar="INDEX", help="a folder that miniclip embed has written")
    command.add_argument("texts", nargs="*", metavar="TEXT", help="what to search for")
    command.add_argument("--image", action="append", default=[], metavar="PICTURE", help="search for this, too")
    command.add_argument("--minus", action="append", default=[], metavar="TEXT", help="what hits should not have")
    command.add_argument("-k", type=positive, default=10, metavar="N", help="how many hits (default: %(default)s)")
    command.add_argument(
        "-o", "--out", metavar="FILE",
        help="write the hits to a picture, .png, or a page, .html; an older one of this command is replaced",
    )  # fmt: skip
    add_json(command)
    add_model(command, None, "the one that INDEX names")
    group = command.add_argument_group("large indexes")
    group.add_argument(
        "--approximate", action="store_true",
        help="look at a few hundredths of the features. The first time, this writes a file as large as INDEX into it",
    )  # fmt: skip
    group.add_argument("--probes", type=positive, metavar="N", help="cells to look at: more are slower, and miss less")


def search(options):
    if not options.texts and not options.image:
        options.refuse("there is nothing to search for: give a TEXT or --image PICTURE")
    if options.probes is not None and not options.approximate:
        options.refuse("--probes is for --approximate")
    log()
    index = Index.open(options.index, in_memory=False, approximate=options.approximate, nprobe=options.probes)
    if options.out:
        contact_sheet.check(options.out, min(options.k, len(index)), texts=index.kind == "texts")
    options.model = options.model or index.metadata["model"]
    options.exif = options.exif or index.metadata["preprocess"].get("exif", False)
    index.use(*api.load(options.model, **how_to_load(options)), options.model)
    for hint in _hints(options):
        say(hint)
    hits = index.search(*options.texts, *map(Path, options.image), minus=options.minus, k=options.k)
    if options.json:
        column = "text" if index.kind == "texts" else "path"
        print_json([{column: name, "score": score} for name, score in hits])
    else:
        for name, score in hits:
            print(f"{score:7.4f}  {' '.join(name.splitlines())}")
    if options.out:
        contact_sheet.write(options.out, title(options), hits, texts=index.kind == "texts")
        say(f"{options.out} is written")


def title(options):
    """The query as people write it."""
    wanted = [f"“{text}”" for text in options.texts] + [os.path.basename(path) for path in options.image]
    return " + ".join(wanted) + "".join(f" minus “{text}”" for text in options.minus)


def _hints(options):
    """Sentences about texts that cannot be meant so."""
    for text in options.texts:
        if os.path.isfile(text) and listing.is_picture(text):
            yield f"{text!r} is used as a text, but it is a file: search for it with --image {text}"
    yield from hints.turned(options.image, options.exif)
    if is_built_in(options):
        yield from hints.unknown_words(options.texts + options.minus)
