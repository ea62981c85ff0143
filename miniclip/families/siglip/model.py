"""SigLIP: CLIP's idea with a loss that asks of each picture and text, alone, whether they belong together.

Builds on the towers (wiring) and an ops module (arithmetic); everything that is the same in CLIP is inherited.
"""

from typing import Any

import numpy as np

from miniclip import inputs
from miniclip.errors import InputError
from miniclip.families.siglip import naflex
from miniclip.families.siglip.config import SigLIPConfig
from miniclip.model import CLIP, WIDE, Trace
from miniclip.ops import Array


class SigLIP(CLIP):
    """Sigmoid Loss for Language Image Pre-Training (Zhai et al., 2023), and SigLIP 2, NaFlex too.

    As `CLIP`, with a SigLIPConfig, {"visual": ..., "text": ..., "logit_scale": (), "logit_bias": ()}, and a
    SentencePiece or Gemma tokenizer. The sigmoid of a logit is the probability that a picture and a text belong
    together; it does not depend on other texts.
    """

    config: SigLIPConfig

    def encode_image(
        self, images: Any, normalize: bool = False, *, lengths: Array | None = None, trace: Trace | None = None
    ) -> Array:
        """Pictures to features, as `CLIP.encode_image`; for a NaFlex, `images` are `naflex.Patches` -> (B, E).

        A NaFlex sees of each picture the patches of its grid, or the first `lengths` (B,) int, as an attention mask
        says. `trace(name, value)` sees every stage, see `towers/siglip_image.py`. Raises InputError for patches that
        are not this model's, and for grids that need more patches than there are.
        """
        config = self._tower("visual")
        if config.image_size is not None:
            if lengths is not None:
                raise InputError("lengths are given, but only pictures of any shape have some: leave them out")
            return super().encode_image(images, normalize, trace=trace)
        patches, grids = inputs.patches(self.ops, images, config, device=self.device, dtype=self.dtype)  # (B, N, P·P·C)
        lengths = grids.prod(axis=1) if lengths is None else inputs.lengths(self.ops, lengths, patches)  # (B,)
        options = {
            "places": self.ops.asarray(
                naflex.places(grids, patches.shape[1], config.side), device=self.device, dtype=self.dtype
            ),  # (B, N, S·S)
            "lengths": self.ops.asarray(lengths, device=self.device, dtype="int64"),
        }
        x = self._encode_image(patches, **options, trace=trace)  # (B, E)
        return self.ops.l2_normalize(x) if normalize else x

    def encode_text(
        self, tokens: Array, normalize: bool = False, *, lengths: Array | None = None, trace: Trace | None = None
    ) -> Array:
        """Texts to features: tokens (B, T) int -> (B, E), with `normalize` of length one.

        All tokens count, padding too, so T should be the length that texts had in training, the context length:
        `tokenize` pads to it. `lengths` (B,) int hides the tokens after so many, as an attention mask does; the
        official models had none. `trace(name, value)` sees every stage, see `towers/siglip_text.py`. Raises InputError
        for another shape, for ids outside the vocabulary and for a model without a text tower.
        """
        config = self._tower("text")
        tokens = inputs.tokens(self.ops, tokens, config)  # (B, T)
        if lengths is not None:
            lengths = inputs.lengths(self.ops, lengths, tokens)  # (B,)
            lengths = self.ops.asarray(lengths, device=self.device, dtype="int64")
        end = np.full(len(tokens), tokens.shape[1] - 1)  # (B,)
        tokens, end = (self.ops.asarray(x, device=self.device, dtype="int64") for x in (tokens, end))
        x = self._encode_text(tokens, end, lengths=lengths, trace=trace)  # (B, E)
        return self.ops.l2_normalize(x) if normalize else x

    def __call__(self, images: Array, tokens: Array) -> tuple[Array, Array]:
        """(logits_per_image (B, N), logits_per_text (N, B)) of B pictures and N texts; sigmoid gives probabilities."""
        return super().__call__(images, tokens)

    def logits(self, image_features: Array, text_features: Array) -> Array:
        """exp(logit_scale) · cosines + logit_bias: features (B, E) and (N, E), normalised or not -> (B, N).

        float32 at least; below 0: they do not belong together. (SigLIP, algorithm 1.)
        """
        x = super().logits(image_features, text_features)
        return x + self.ops.asarray(self.logit_bias, device=self.device, dtype=WIDE.get(self.dtype, self.dtype))

    @property
    def logit_bias(self) -> Array:
        """What is added to all logits, (): most pictures and texts do not belong together, so it is negative."""
        if "logit_bias" not in self.params:
            raise InputError("one tower alone has no logit_bias: load the whole model")
        return self.params["logit_bias"]
