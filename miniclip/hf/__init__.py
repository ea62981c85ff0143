"""miniclip under transformers' names: change the import, and code for transformers' CLIP and its relatives runs.

    from transformers import CLIPModel, CLIPProcessor    becomes    from miniclip.hf import CLIPModel, CLIPProcessor

These are adapters without maths of their own: they take transformers' arguments, call `miniclip.CLIP`, `ALIGN` or
`SigLIP` on any backend, and return transformers' outputs: tensors if the inputs are tensors, arrays if they are arrays.
The files have the same names as in transformers. On torch's backends the models are torch modules. `backend="auto"` is
triton for a GPU that it supports, else torch, and numpy if torch is not installed. The Flax models, transformers 4's,
run on JAX, and those for TensorFlow on TensorFlow. Differences, on purpose:

- `get_text_features` and `get_image_features` return the features, as in transformers up to version 4; with
  return_dict=True an output with the features in `pooler_output`
- towers, projections, layer norms and embeddings can be called, other submodules only keep parameters; a change that
  the towers would not see (a hook, another module, a new parameter) is an error
- there is no dropout, and BatchNorms keep their statistics, also in training
- CLIP's tokens and crops are equal to OpenAI's, bit for bit: transformers' tokens differ for rare texts, its crops by a
  pixel
- weights are float32 unless you ask for another dtype
"""

from miniclip.hf.auto import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    FlaxAutoModel,
    TFAutoModel,
    from_pretrained,
)
from miniclip.hf.configuration import (
    AlignConfig,
    AlignTextConfig,
    AlignVisionConfig,
    AltCLIPConfig,
    AltCLIPTextConfig,
    AltCLIPVisionConfig,
    ChineseCLIPConfig,
    ChineseCLIPTextConfig,
    ChineseCLIPVisionConfig,
    CLIPConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
    Siglip2Config,
    Siglip2TextConfig,
    Siglip2VisionConfig,
    SiglipConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
)
from miniclip.hf.image_processing import (
    ChineseCLIPImageProcessor,
    CLIPFeatureExtractor,
    CLIPImageProcessor,
    EfficientNetImageProcessor,
    SiglipImageProcessor,
)
from miniclip.hf.image_processing_siglip2 import Siglip2ImageProcessor
from miniclip.hf.modeling_align import AlignModel, AlignTextModel, AlignVisionModel
from miniclip.hf.modeling_altclip import AltCLIPModel, AltCLIPTextModel, AltCLIPVisionModel
from miniclip.hf.modeling_chinese_clip import ChineseCLIPModel, ChineseCLIPTextModel, ChineseCLIPVisionModel
from miniclip.hf.modeling_clip import (
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)
from miniclip.hf.modeling_flax_clip import (
    FlaxCLIPModel,
    FlaxCLIPTextModel,
    FlaxCLIPTextModelWithProjection,
    FlaxCLIPVisionModel,
)
from miniclip.hf.modeling_siglip import (
    Siglip2Model,
    Siglip2TextModel,
    Siglip2VisionModel,
    SiglipModel,
    SiglipTextModel,
    SiglipVisionModel,
)
from miniclip.hf.modeling_tf_clip import TFCLIPModel, TFCLIPTextModel, TFCLIPVisionModel
from miniclip.hf.pipelines import ZeroShotImageClassificationPipeline, pipeline
from miniclip.hf.processing import (
    AlignProcessor,
    AltCLIPProcessor,
    ChineseCLIPProcessor,
    CLIPProcessor,
    Siglip2Processor,
    SiglipProcessor,
)
from miniclip.hf.tokenization import (
    BertTokenizer,
    BertTokenizerFast,
    CLIPTokenizer,
    CLIPTokenizerFast,
    GemmaTokenizer,
    GemmaTokenizerFast,
    Siglip2Tokenizer,
    SiglipTokenizer,
    XLMRobertaTokenizer,
    XLMRobertaTokenizerFast,
)

__all__ = [
    "AlignConfig",
    "AlignModel",
    "AlignProcessor",
    "AlignTextConfig",
    "AlignTextModel",
    "AlignVisionConfig",
    "AlignVisionModel",
    "AltCLIPConfig",
    "AltCLIPModel",
    "AltCLIPProcessor",
    "AltCLIPTextConfig",
    "AltCLIPTextModel",
    "AltCLIPVisionConfig",
    "AltCLIPVisionModel",
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoProcessor",
    "AutoTokenizer",
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
    "ChineseCLIPConfig",
    "ChineseCLIPImageProcessor",
    "ChineseCLIPModel",
    "ChineseCLIPProcessor",
    "ChineseCLIPTextConfig",
    "ChineseCLIPTextModel",
    "ChineseCLIPVisionConfig",
    "ChineseCLIPVisionModel",
    "EfficientNetImageProcessor",
    "FlaxAutoModel",
    "FlaxCLIPModel",
    "FlaxCLIPTextModel",
    "FlaxCLIPTextModelWithProjection",
    "FlaxCLIPVisionModel",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
    "Siglip2Config",
    "Siglip2ImageProcessor",
    "Siglip2Model",
    "Siglip2Processor",
    "Siglip2TextConfig",
    "Siglip2TextModel",
    "Siglip2Tokenizer",
    "Siglip2VisionConfig",
    "Siglip2VisionModel",
    "SiglipConfig",
    "SiglipImageProcessor",
    "SiglipModel",
    "SiglipProcessor",
    "SiglipTextConfig",
    "SiglipTextModel",
    "SiglipTokenizer",
    "SiglipVisionConfig",
    "SiglipVisionModel",
    "TFAutoModel",
    "TFCLIPModel",
    "TFCLIPTextModel",
    "TFCLIPVisionModel",
    "XLMRobertaTokenizer",
    "XLMRobertaTokenizerFast",
    "ZeroShotImageClassificationPipeline",
    "from_pretrained",
    "pipeline",
]
