"""What the page shows: a model's answers about a picture's bytes and some labels, as dicts that are ready for JSON.

Builds on `zero_shot` and `explain`, and knows nothing of the web. What comes from outside is checked here: a picture is
bytes and never a path, and only of formats that browsers show.
"""

import base64
import colorsys
import functools
import io
import math

import numpy as np
from PIL import Image

from miniclip import encode, explain, hints, weights, zero_shot
from miniclip.config import pair
from miniclip.errors import InputError
from miniclip.runtime import pictures
from miniclip.towers import vit
from miniclip.train import shapes

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # Pillow has more, and starts other programs for some of them
BYTES, LABELS, CHARACTERS = 20_000_000, 64, 300  # the most of a picture, of labels, and of one label
EXAMPLE = weights.DIRECTORY / "example.png"
PIXELS = Image.MAX_IMAGE_PIXELS or 1 << 26  # beyond, Pillow fears that a small file was made to fill the memory
FIRST_LABELS = ["a red heart", "a red circle", "a blue heart", "a pink star"]  # when the page opens


class Answers:
    """What one model answers. The last pictures and labels are kept: while a user draws, the labels stay the same.

    model, preprocess  what `miniclip.load` returns; the backend must have gradients
    name               what the page calls the model
    built_in           whether it is the built-in model, whose pictures and words we know

    It explains one picture at once: a model that cannot be shown raises its InputError here, not in the page.
    """

    def __init__(self, model, preprocess, name="shapes", *, built_in=False):
        explain.check_towers(model)
        self.model, self.preprocess, self.name, self.built_in = model, preprocess, name, built_in
        self._classes = functools.lru_cache(8)(functools.partial(zero_shot.class_embeddings, model))
        self._features = functools.lru_cache(2)(self._encode)
        self.explanation(EXAMPLE.read_bytes(), FIRST_LABELS[0])

    def about(self):
        """What the page must know before it asks: the model, the colours and shapes to draw with, and the limits."""
        config = self.model.config.visual
        (height, width), (rows, columns) = pair(config.image_size), config.grid
        return {
            "model": self.name,
            "picture": {"height": height, "width": width, "rows": rows, "columns": columns},
            "relevance": "gradient × attention" if config.tower is vit else "Grad-CAM",
            "colours": {name: _css(name) for name in shapes.COLOURS},
            "shapes": {name: _rounded(outline) for name, outline in shapes.SHAPES.items()},
            "labels": FIRST_LABELS,
            "limits": {"bytes": BYTES, "labels": LABELS, "characters": CHARACTERS},
            "formats": [f"image/{name.lower()}" for name in FORMATS],
        }

    def answer(self, picture, labels):
        """How well each label fits: {"labels": [{"label", "probability", "cosine", "tokens"}], "notes": [sentences]}.

        picture  the bytes of a file
        labels   texts; the answer has them in this order

        Raises InputError for a picture that cannot be read, for no labels, and beyond the limits above.
        """
        self._check(labels)
        _, features = self._features(picture)  # (1, E)
        logits = self.model.ops.to_numpy(self.model.logits(features, self._classes(tuple(labels))))[0]  # (n,)
        encode.check_numbers(logits, f"{self.name}: its answers")
        cosines = logits / math.exp(self.model.logit_scale)  # (n,)
        columns = zip(labels, zero_shot.precise_softmax(logits).tolist(), cosines.tolist())
        found = [
            {"label": label, "probability": p, "cosine": cosine, "tokens": self._tokens(label)}
            for label, p, cosine in columns
        ]
        return {"labels": found, "notes": [*self._notes(picture, found)]}

    def explanation(self, picture, label):
        """Why one label fits the picture, with numbers of `explain`.

        {"label", "cosine", "sees": a PNG in base64 of what the model sees, "patches": rows of relevance, "tokens":
        [{"token", "relevance"}], "attention": [block][head][row][column], or None for a tower without attention}

        Raises InputError as `answer` does.
        """
        self._check([label])
        image, _ = self._features(picture)  # (C, height, width)
        found = explain.relevance(self.model, image, self.model.tokenize(label))
        encode.check_numbers(found.score, f"{self.name}: its answers")
        words = explain.words(self.model, label, found.tokens[0])
        has_attention = hasattr(self.model.config.visual, "heads")  # EfficientNets have none
        return {
            "label": label,
            "cosine": found.score.item() / math.exp(self.model.logit_scale),
            "sees": _png(explain.visible(self.preprocess, self.model.ops.to_numpy(image))),
            "patches": _rounded(found.patches[0]),
            "tokens": [{"token": token, "relevance": relevance} for token, relevance in words],
            "attention": _rounded(explain.attention_maps(self.model, image)) if has_attention else None,
        }

    def _encode(self, picture):
        """A file's bytes -> what the tower reads, (C, height, width), and its features, (1, E)."""
        image = self.preprocess(open_picture(picture))
        return image, self.model.encode_image(image[None])

    def _tokens(self, label):
        """A label as the model's tokenizer cuts it: [{"id", "text"}]."""
        tokenizer = self.model.tokenizer
        return [{"id": i, "text": tokenizer.decode([i])} for i in tokenizer.encode(label)]

    def _check(self, labels):
        """Raise InputError for labels that cannot be answered."""
        if not labels or "" in labels:
            raise InputError("there is no label: type at least one")
        if len(labels) > LABELS:
            raise InputError(f"there are {len(labels)} labels, and this page takes {LABELS}: remove some")
        for label in labels:
            if len(label) > CHARACTERS:
                raise InputError(f"the label {label[:30]!r}... has more than {CHARACTERS} characters: shorten it")
            most = self.model.config.text.text_length - 2  # without the start and the end
            if (count := len(self.model.tokenizer.encode(label))) > most:
                raise InputError(f"the label {label[:30]!r}... has {count} tokens, the model reads {most}: shorten it")

    def _notes(self, picture, found):
        """Sentences that a user should know about an answer, whose labels are `found`."""
        if len(found) == 1:
            yield "A single label always gets 100%: type at least two, or look at the cosine."
        best = max(found, key=lambda entry: entry["cosine"])
        yield from hints.about(
            picture, best["label"], best["cosine"], exif=self.preprocess.exif, built_in=self.built_in
        )
        if self.built_in:
            yield from hints.unknown_words(entry["label"] for entry in found)


def open_picture(picture):
    """The bytes of a picture's file -> a PIL image. Raises InputError beyond the limits, and for other formats."""
    if len(picture) > BYTES:
        raise InputError(f"the picture has {len(picture):,} bytes, and this page takes {BYTES:,}: make it smaller")
    too_many = InputError(f"the picture has more than {PIXELS:,} pixels: make it smaller")
    try:
        image = Image.open(io.BytesIO(picture), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # Python may make an error of the warning
        raise too_many from None
    except (OSError, ValueError, TypeError, SyntaxError, RuntimeError):  # Pillow's readers raise these
        raise InputError(f"the picture cannot be read: this page takes {', '.join(FORMATS)}") from None
    if image.width * image.height > PIXELS:
        raise too_many
    return pictures.open_picture(image)


def _rounded(numbers):
    """Nested lists of an array's numbers, with four digits of the largest."""
    x = np.asarray(numbers, np.float64)
    largest = np.abs(x).max()
    return np.round(x, 3 - math.floor(math.log10(largest))).tolist() if largest > 0 else x.tolist()


def _png(colours):
    """Colours in 0..1, (height, width, 3) -> a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(np.round(255 * colours).astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _css(colour):
    """The middle of what a colour's name means, as "#rrggbb"."""
    hue, saturation, value = (sum(limits) / 2 for limits in shapes.COLOURS[colour])
    rgb = colorsys.hsv_to_rgb(hue / 360 % 1, saturation / 100, value / 100)
    return "#" + "".join(f"{round(255 * x):02x}" for x in rgb)
