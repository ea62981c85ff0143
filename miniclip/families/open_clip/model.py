"""CLIP with towers of OpenCLIP's own; everything that is the same in CLIP is inherited."""

from miniclip import inputs
from miniclip.errors import InputError
from miniclip.families.open_clip.config import OpenCLIPConfig
from miniclip.model import CLIP, Trace
from miniclip.ops import Array
from miniclip.towers import open_clip_text, text


class OpenCLIP(CLIP):
    """A model of OpenCLIP, such as CLIPA (Li et al., 2023), or the two encoders of CoCa (Yu et al., 2022).

    As `CLIP`, with an OpenCLIPConfig.
    """

    config: OpenCLIPConfig

    def encode_text(
        self, tokens: Array, normalize: bool = False, *, lengths: Array | None = None, trace: Trace | None = None
    ) -> Array:
        """Texts to features: tokens (B, T) int -> (B, E), with `normalize` of length one.

        `trace(name, value)` sees every stage, see `towers/text.py` or `towers/open_clip_text.py`; `lengths` is for a
        tower of CLIP's. A tower whose tokens see each other both ways also reads the padding: pad texts to the model's
        context length, as OpenCLIP does. Raises InputError for another shape, ids outside the vocabulary, lengths that
        the tower does not take, and for a model without a text tower.
        """
        config = self._tower("text")
        if config.tower is text:
            return super().encode_text(tokens, normalize, lengths=lengths, trace=trace)
        if lengths is not None:
            raise InputError("lengths are given, but OpenCLIP's text tower finds padding by its id: leave out lengths")
        tokens, end, options = open_clip_text.arranged(inputs.tokens(self.ops, tokens, config), config)
        if trace is None:  # nothing after the last end is needed
            kept = text.length(end, self.ops.LENGTH_STEP)
            tokens, options = tokens[:, :kept], {name: x[:, :kept] for name, x in options.items()}
        tokens, end = (self.ops.asarray(x, device=self.device, dtype="int64") for x in (tokens, end))
        options = {name: self.ops.asarray(x, device=self.device, dtype="int64") for name, x in options.items()}
        x = self._encode_text(tokens, end, **options, trace=trace)  # (B, E)
        return self.ops.l2_normalize(x) if normalize else x
