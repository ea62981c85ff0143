"""What a user should know about an answer: that a picture is turned, or that the built-in model cannot know.

Every function yields sentences. Whatever shows answers to people uses them: the command line, the page to play with.
"""

import os
import re
from collections import Counter

from miniclip import weights
from miniclip.runtime import listing
from miniclip.runtime.pictures import is_turned
from miniclip.train import shapes

LOOKED_AT = 100  # pictures
# Endings of photographs that Pillow does not read by itself.
CAMERAS = (".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")


def unknown_words(texts):
    """About words that the built-in model never saw."""
    if unknown := sorted(set().union(*map(_words, texts)) - shapes.WORDS):
        shown = unknown[:20] + [f"and {len(unknown) - 20:,} more"] * (len(unknown) > 20)
        megabytes = weights.manifest()["models"]["ViT-B/32"]["bytes"] / 1e6
        yield (
            f"the built-in model knows drawn shapes: {len(shapes.COLOURS)} colours and {len(shapes.SHAPES)} shapes. It "
            f"never saw these words, so its answer says nothing about them: {', '.join(shown)}. For photographs, use "
            f"another model: --model ViT-B/32 (downloads {megabytes:.0f} MB once)"
        )


def left_out(names):
    """About photographs in the folders among `names` whose formats Pillow does not read."""
    endings = Counter(
        os.path.splitext(path)[1].lower()
        for folder in filter(os.path.isdir, names)
        for path in listing.files(folder)
        if path.lower().endswith(CAMERAS) and not listing.is_picture(path)
    )
    if endings:
        formats = ", ".join(sorted(endings))
        yield f"{endings.total():,} files are left out, because Pillow does not read {formats}: convert them"


def turned(pictures, exif):
    """About pictures that are stored turned. Of a list the first `LOOKED_AT` are looked at, of anything else none."""
    some = pictures[:LOOKED_AT] if isinstance(pictures, list) and not exif else []
    if count := sum(map(is_turned, some)):
        of = f"{count} of {'the first ' * (len(pictures) > len(some))}{len(some)} pictures"
        yield f"{of} are to be turned, as their files say (EXIF); they are used as they are stored: see --exif"


def about(picture, label, cosine, *, exif, built_in):
    """About a picture, a path or bytes, and its best label with this cosine; `exif` as in `miniclip.load`."""
    if not exif and is_turned(picture):
        yield "The file says that this picture is to be turned (EXIF). It was used as it is stored: see --exif."
    names_a_pair = all(_words(label) & names.keys() for names in (shapes.COLOURS, shapes.SHAPES))
    least = weights.manifest()["models"]["shapes"]["right_answers"]["cosine"]  # of labels that name a pair
    if built_in and names_a_pair and cosine < least:
        yield f"Probably none of these: right answers reach a cosine of {least}."


def _words(text):
    return set(re.findall(r"\w+", text.lower()))
