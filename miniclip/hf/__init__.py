"""transformers' names for what miniclip has: change the import, and what is written for its CLIP and ALIGN runs.

    from transformers import CLIPModel, CLIPProcessor    becomes    from miniclip.hf import CLIPModel, CLIPProcessor

Adapters without maths of their own: they take transformers' arguments, ask `miniclip.CLIP` or `ALIGN` on any backend,
and give transformers' outputs, tensors for tensors and arrays for arrays. One file a kind, named as in transformers.
The models are no torch modules. What else differs on purpose:

- `get_text_features` and `get_image_features` give the features, as transformers did up to version 4, and not an output
  that has them as its `pooler_output`
- CLIP's tokens and crops are OpenAI's own, to the bit: transformers' are others for rare texts, and off by a pixel
- weights are float32 unless another dtype is asked for
"""

from miniclip.hf.configuration import (
    AlignConfig,
    AlignTextConfig,
    AlignVisionConfig,
    CLIPConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
)
from miniclip.hf.modeling_align import AlignModel, AlignTextModel, AlignVisionModel
from miniclip.hf.modeling_clip import (
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)
from miniclip.hf.processing import (
    AlignProcessor,
    CLIPFeatureExtractor,
    CLIPImageProcessor,
    CLIPProcessor,
    EfficientNetImageProcessor,
)
from miniclip.hf.tokenization import BertTokenizer, BertTokenizerFast, CLIPTokenizer, CLIPTokenizerFast

__all__ = [
    "AlignConfig",
    "AlignModel",
    "AlignProcessor",
    "AlignTextConfig",
    "AlignTextModel",
    "AlignVisionConfig",
    "AlignVisionModel",
    "BertTokenizer",
    "BertTokenizerFast",
    "CLIPConfig",
    "CLIPFeatureExtractor",
    "CLIPImageProcessor",
    "CLIPModel",
    "CLIPProcessor",
    "CLIPTextConfig",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPTokenizer",
    "CLIPTokenizerFast",
    "CLIPVisionConfig",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "EfficientNetImageProcessor",
]
