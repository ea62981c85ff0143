"""Text encoders of M-CLIP and sentence-transformers, small and random, in directories as those packages write them.

The oracles are the packages' formulas over transformers' models: neither package has to be installed.
"""

import json
from unittest import mock

import torch
import transformers
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel
from xlm_roberta_vocabularies import CORPUS

from miniclip.families.multilingual import bases
from miniclip.tokenizers.wordpiece import WordPiece

TEXTS = [
    "a photo of a red cat",
    "un chat rouge sur le tapis à côté de deux chiens",
    "eine Katze",
    "日本語 の 猫",
    "красная кошка, <mask> <pad> кошка",
    "قطة حمراء",
    "",
]
E, LENGTH = 16, 40  # embed_dim, context length
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
OURS = {"width": 24, "layers": 2, "heads": 3, "mlp_width": 40, "context_length": LENGTH}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def small(base, vocab_size):
    """A context in which miniclip knows only this BERT, as it is here: small."""
    sizes = {**bases.SIZES[base], **OURS, "vocab_size": vocab_size}
    return mock.patch.dict(bases.SIZES, {base: sizes}, clear=True)


def cased(directory):
    """A multilingual vocabulary of word pieces with capitals; returns its size."""
    letters = sorted({*"".join(CORPUS)} - {" "})
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), "cat", "##otte"]
    WordPiece(dict.fromkeys(pieces), lower_case=False).save(directory / "vocab.txt")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": LENGTH}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(pieces)


def randomised(model):
    """The model with weights of which none has a special value, such as 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in model.parameters():
            x.add_(0.3 * torch.randn(x.shape, generator=generator))
    return model.eval()


def mean(tokens, mask):
    """The mean of the tokens (B, T, D) that the mask (B, T) leaves."""
    return (tokens * mask.unsqueeze(2)).sum(dim=1) / mask.sum(dim=1)[:, None]


class MultilingualCLIP(torch.nn.Module):
    """As in multilingual-clip 1.0.10, pt_multilingual_clip.py."""

    def __init__(self, transformer):
        super().__init__()
        self.transformer = transformer
        self.LinearTransformation = torch.nn.Linear(transformer.config.hidden_size, E)

    def forward(self, texts, tokenizer):
        found = tokenizer(texts, padding=True, return_tensors="pt")
        return self.LinearTransformation(mean(self.transformer(**found)[0], found["attention_mask"]))


def save_mclip(directory, base, files=None):
    """Write an M-CLIP on XLM-RoBERTa, whose tokenizer is in `files`, or on LaBSE; returns the features of TEXTS."""
    if base == "xlm-roberta-large":
        for file in files.iterdir():
            (directory / file.name).write_bytes(file.read_bytes())
        tokenizer = transformers.XLMRobertaTokenizer.from_pretrained(directory)
        more = {"max_position_embeddings": LENGTH + 2, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}
        transformer = XLMRobertaModel(XLMRobertaConfig(vocab_size=len(tokenizer), **SIZES, **more))
    else:
        V = cased(directory)
        tokenizer = transformers.BertTokenizer.from_pretrained(directory)
        transformer = BertModel(BertConfig(vocab_size=V, **SIZES, max_position_embeddings=LENGTH))
    model = randomised(MultilingualCLIP(transformer))
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    config = {"model_type": "M-CLIP", "modelBase": base, "numDims": E, "transformerDimensions": 24}
    (directory / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        return model(TEXTS, tokenizer).numpy()
