"""Captions for pictures: a CLIP, a decoder for its features, and beam search."""

import os
from functools import partial

import numpy as np

from miniclip import api, weights
from miniclip.caption import clipcap, files
from miniclip.caption.beam_search import beam_search
from miniclip.caption.decoder import Decoder
from miniclip.errors import InputError
from miniclip.image import Preprocess
from miniclip.model import CLIP


class Captioner:
    """Writes captions; `load` makes one.

    model, preprocess  a CLIP and what prepares its pictures
    decoder            a Decoder on the same backend
    end                the token that ends a caption
    decode             tokens -> text
    """

    def __init__(self, model, preprocess, decoder, *, end, decode):
        self.model: CLIP = model
        self.preprocess: Preprocess = preprocess
        self.decoder, self.end, self.decode = decoder, end, decode
        config = decoder.config
        self.longest = min(clipcap.LONGEST, config.gpt.context_length - config.prefix_length + 1)

    def __call__(self, images, beams=5, *, length_penalty=1.0) -> list[list[tuple[str, float]]]:
        """Captions of pictures (B, C, height, width), prepared by `preprocess`: for each, the best `beams`.

        A caption is (text, log probability of its tokens), the best one first; `length_penalty` is that of
        `beam_search`. One beam is greedy search: the most probable token, again and again.
        """
        return self.of_features(self.model.encode_image(images), beams, length_penalty=length_penalty)

    def of_features(self, features, beams=5, *, length_penalty=1.0) -> list[list[tuple[str, float]]]:
        """Captions of pictures that the model has encoded already, (B, E)."""
        if type(beams) is not int or beams < 1:
            raise InputError(f"beams is {beams!r}, expected 1 or more")
        prefixes = self.decoder.prefix(features)  # (B, P, D)
        search = partial(beam_search, start=(), end=self.end, beams=beams, length=self.longest)
        found = [
            search(partial(self._step, prefixes[i : i + 1]), length_penalty=length_penalty) for i in range(len(prefixes))
        ]
        return [[(self.decode(tokens), score) for tokens, score in captions] for captions in found]

    def _step(self, prefix, tokens):
        """The log probabilities of the token after prefix (1, P, D) and tokens (b, t): (b, V) ndarray."""
        ops = self.decoder.ops
        return ops.to_numpy(ops.log_softmax(self.decoder.logits(prefix, tokens)))


def load(
    model: str | os.PathLike = "shapes",
    decoder: str | os.PathLike | None = None,
    *,
    vocabulary: str | os.PathLike | None = None,
    normalize: bool | None = None,
    **options,
) -> Captioner:
    """Load a captioner: captioner(images, beams=5) gives captions with their log probabilities.

    model       as for `miniclip.load`, which also has the `options`
    decoder     the file of one: miniclip's own, or ClipCap's. None: the one of the built-in model
    vocabulary  a folder with GPT-2's vocab.json, for ClipCap's files, which do not have it
    normalize   whether features get length one first, for ClipCap's files, which do not state it; None: they do not,
                as in its training without --normalize_prefix

    Raises InputError for a file that is no decoder, and for one that reads features of another width.
    """
    if decoder is None and model != "shapes":
        raise InputError(f"{model}: has no decoder that comes with miniclip: give the file of one, decoder=FILE")
    path = weights.DIRECTORY / weights.manifest()["captions"]["file"] if decoder is None else decoder
    clip, preprocess = api.load(model, **options)
    if preprocess is None:
        raise InputError(f"{model} has no image tower: choose a model that has one")
    dtype = clip.dtype if clip.dtype in ("float32", "float64") else "float32"
    config, tree, is_clipcap = files.load(path, dtype=dtype, mmap=options.get("mmap", False))
    E = clip.config.embed_dim or clip.config.visual.width
    if config.embed_dim != E:
        raise InputError(
            f"{path}: reads features of width {config.embed_dim}, but those of {model} have {E}: give the model that "
            f"it was trained with"
        )
    made = Decoder(config, tree, clip.ops, device=clip.device, dtype=clip.dtype)
    raise NotImplementedError
