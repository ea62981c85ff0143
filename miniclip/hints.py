"""What a user should know about an answer: that a picture is turned, or that the built-in model cannot know.

Every function yields sentences. Whatever shows answers to people uses them: the command line, the page to play with.
"""

import re

from miniclip import weights
from miniclip.runtime.pictures import is_turned
from miniclip.train import shapes


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
