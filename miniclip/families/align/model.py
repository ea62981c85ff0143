"""ALIGN: CLIP's idea with other towers, trained on a billion noisy captions.

Builds on the towers (wiring) and an ops module (arithmetic); everything that is the same in CLIP is inherited.
"""

from typing import Any

import numpy as np

from miniclip.errors import InputError
from miniclip.families.align.config import ALIGNConfig
from miniclip.families.bert_model import BertCLIP
from miniclip.ops import Array


class ALIGN(BertCLIP):
    """Scaling Up Visual and Vision-Language Representation Learning With Noisy Text Supervision (Jia et al., 2021).

    As `CLIP`, with an ALIGNConfig, {"visual": ..., "text": ..., "temperature": ()}, and a WordPiece tokenizer.
    """

    config: ALIGNConfig

    def logits(self, image_features: Array, text_features: Array) -> Array:
        """Cosines / temperature: features (B, E) and (N, E), normalised or not -> (B, N), float32 at least."""
        image_features, text_features, temperature = self._in_logits_dtype(
            image_features, text_features, self.temperature
        )
        image_features, text_features = map(self.ops.l2_normalize, (image_features, text_features))
        return self.ops.linear(image_features, text_features) / temperature

    @property
    def temperature(self) -> Array:
        """The number that cosines are divided by, (), as stored in the checkpoints."""
        if "temperature" not in self.params:
            raise InputError("one tower alone has no temperature: load the whole model")
        return self.params["temperature"]

    @property
    def logit_scale(self) -> Any:
        """-log(temperature), a number: CLIP's parameter instead of the temperature."""
        return -np.log(self.ops.to_numpy(self.temperature))
