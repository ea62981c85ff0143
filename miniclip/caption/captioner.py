"""Captions for pictures: a CLIP, a decoder for its features, and beam search."""

import dataclasses
import os
from functools import partial

from miniclip import api, encode, identity, weights
from miniclip.caption import clipcap, files
from miniclip.caption.beam_search import beam_search
from miniclip.caption.decoder import Decoder
from miniclip.errors import InputError
from miniclip.image import Preprocess
from miniclip.model import CLIP, WIDE


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
        written = []
        for i in range(len(prefixes)):
            step = partial(self._step, prefixes[i : i + 1])
            found = beam_search(step, (), self.end, beams, self.longest, length_penalty=length_penalty)
            written.append([(self.decode(tokens), score) for tokens, score in found])
        return written

    def _step(self, prefix, tokens):
        """The log probabilities of the token after prefix (1, P, D) and tokens (b, t): (b, V) ndarray."""
        ops, dtype = self.decoder.ops, self.decoder.dtype
        logits = ops.asarray(self.decoder.logits(prefix, tokens), dtype=WIDE.get(dtype, dtype))  # (b, V)
        return ops.to_numpy(ops.log_softmax(logits))


def load(
    model: str | os.PathLike = "shapes",
    decoder: str | os.PathLike | None = None,
    *,
    vocabulary: str | os.PathLike | None = None,
    normalize: bool | None = None,
    **options,
) -> Captioner:
    """Load a model and a decoder: captioner(images, beams=5) gives captions with their log probabilities.

    model       as for `miniclip.load`, which also has the `options`
    decoder     a file: miniclip's own, or ClipCap's. None: the one that comes with the built-in model
    vocabulary  a folder with GPT-2's vocab.json, for ClipCap's files, which do not have it
    normalize   whether features get length one first, for ClipCap's files, which do not state it. None: they do not,
                as in its training without --normalize_prefix

    Raises InputError for a file that is not a decoder, and for one that belongs to another model.
    """
    return attach(*api.load(model, **options), model, decoder, vocabulary=vocabulary, normalize=normalize)


def attach(model, preprocess, name, decoder=None, *, vocabulary=None, normalize=None) -> Captioner:
    """A Captioner of what `miniclip.load(name)` has returned; see `load`."""
    encode.check_image_tower(preprocess, name)
    if decoder is None and name != "shapes":
        raise InputError(f"{name}: has no decoder that comes with miniclip: give the file of one, decoder=FILE")
    path = weights.DIRECTORY / weights.manifest()["decoders"]["shapes"]["file"] if decoder is None else decoder
    config, tree, trained_with = files.load(path, dtype="float64" if model.dtype == "float64" else "float32")
    E = model.config.embed_dim or model.config.visual.width
    if config.embed_dim != E:
        raise InputError(
            f"{path}: reads features of width {config.embed_dim}, but those of {name} have {E}: give the model that "
            f"it was trained with"
        )
    if trained_with is None:
        if vocabulary is None:
            raise InputError(f"{path}: has no vocabulary: give a folder with GPT-2's vocab.json, vocabulary=FOLDER")
        words = clipcap.Vocabulary(vocabulary, config.gpt.vocab_size)
        config, end, decode = dataclasses.replace(config, normalize=bool(normalize)), words.end_id, words.decode
    else:
        if (vocabulary, normalize) != (None, None):
            raise InputError(f"{path}: is miniclip's own, and needs neither vocabulary nor normalize: leave them out")
        if not identity.same(trained_with, identity.of(model)):
            raise InputError(f"{path}: was trained with another model than {name}, whose features mean other things")
        end = model.tokenizer.end_id

        def decode(tokens):
            return model.tokenizer.decode(token for token in tokens if token != end).strip()

    made = Decoder(config, tree, model.ops, device=model.device, dtype=model.dtype)
    return Captioner(model, preprocess, made, end=end, decode=decode)
