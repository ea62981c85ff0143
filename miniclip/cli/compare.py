"""`miniclip compare`: the cosine of each picture with each text, or with each other picture, as a table or a figure."""

import itertools
import os

import numpy as np

from miniclip import encode, hints
from miniclip.cli.arguments import PICTURES, add_json, add_model, check_texts, is_built_in, load, print_json
from miniclip.cli.progress import Broken, counted, progress, say
from miniclip.errors import InputError
from miniclip.evaluate import report
from miniclip.ops import numpy_ops
from miniclip.runtime import listing
from miniclip.runtime.pictures import open_picture

MOST = 40  # rows or columns that a figure or a terminal has room for


def add_arguments(command):
    command.set_defaults(command=compare, refuse=command.error)
    command.usage = "miniclip compare PICTURE... [--texts TEXT TEXT...] [-o FIGURE] [options]"
    command.add_argument("pictures", nargs="*", metavar="PICTURE", help=PICTURES)
    command.add_argument(
        "--texts", nargs="+", metavar="TEXT", help="compare with these (default: the pictures themselves)"
    )
    command.add_argument(
        "-o", "--out", metavar="FIGURE", help="draw the table (.png, .svg, .pdf); an older figure is replaced"
    )
    add_model(command)
    add_json(command)


def compare(options):
    if not options.pictures:
        options.refuse("no PICTURE is given. --texts takes all words that follow it: write the pictures before --texts")
    if options.out:
        from miniclip.viz import saving  # needs matplotlib

        saving.check(options.out)
    pictures = listing.pictures(options.pictures)
    if options.json and not options.out:
        pictures = counted(pictures, options.pictures)
    else:
        pictures = [*itertools.islice(pictures, MOST + 1)]
        if max(len(pictures), len(options.texts or ())) > MOST:
            raise InputError(f"more than {MOST} pictures or texts are too many to look at: pass --json, without -o")
    model, preprocess = load(options)
    if options.texts:
        check_texts(model, options.model)
    for hint in _hints(pictures, options):
        say(hint)
    broken = Broken()
    found = [*encode.pictures(model, preprocess, progress(pictures), broken=broken)]
    if not found:
        raise InputError("none of the pictures can be read")
    names = [name for some, _ in found for name in some]  # n
    images = numpy_ops.l2_normalize(np.concatenate([x for _, x in found]))  # (n, E)
    others = images
    if options.texts:
        others = numpy_ops.l2_normalize(np.concatenate([x for _, x in encode.texts(model, options.texts)]))  # (m, E)
    cosines = others @ images.T  # (m, n)
    rows = options.texts or [*map(_short, names)]
    if options.out:
        from miniclip.viz import similarity_matrix

        shown = [_thumbnail(name, options.exif) for name in names]
        saving.save(similarity_matrix(shown, rows, cosines), options.out)
        say(f"{options.out} is written")
    if options.json:
        what = {"texts": options.texts} if options.texts else {}
        print_json({"pictures": names, **what, "cosines": cosines.T.tolist()})
    elif not options.out:
        cells = [[text, *(f"{cosine:.2f}" for cosine in row)] for text, row in zip(rows, cosines)]
        print(report.columns([["", *map(_short, names)], *cells]))
    return 1 if broken.count else 0


def _hints(pictures, options):
    yield from hints.turned(pictures, options.exif)
    if is_built_in(options):
        yield from hints.unknown_words(options.texts or [])


def _thumbnail(name, exif):
    """A small copy, as the model sees it: what is transparent has the colour that the file gives it."""
    image = open_picture(name, exif=exif).convert("RGB")
    image.thumbnail((200, 200))
    return image


def _short(name):
    return os.path.basename(name)
