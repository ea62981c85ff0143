"""Text encoders of M-CLIP and sentence-transformers, small and random, in directories as those packages write them.

The oracles are the packages' formulas over transformers' models: neither package has to be installed.
"""

import json
from unittest import mock

import torch
import transformers
from safetensors.torch import save_file
from small_vocabularies import SPECIAL
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, XLMRobertaConfig, XLMRobertaModel
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
E, LENGTH, LONGEST = 16, 48, 44  # embed_dim, context length, a sentence-transformer's longest text
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
OURS = {"width": 24, "layers": 2, "heads": 3, "mlp_width": 40, "context_length": LENGTH}


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


FOLDERS = {"Transformer": "0_Transformer", "Pooling": "1_Pooling", "Dense": "2_Dense"}


def save_sentence_transformer(directory, pool="mean", bias=False, older=True, embed_dim=E):
    """Write a sentence-transformers model of a DistilBERT, a pooling and a Dense module; returns the features of TEXTS.

    Its classes do: tokens (B, T, D) by DistilBertModel, their mean under the mask or the first, then a Linear.
    `older`: in the form of versions before 5, where the transformer has a folder of its own.
    """
    tower = directory / FOLDERS["Transformer"] if older else directory
    for folder in (tower, directory / "1_Pooling", directory / "2_Dense"):
        folder.mkdir(exist_ok=True)
    V = cased(tower)
    sizes = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": LENGTH}
    model = randomised(DistilBertModel(DistilBertConfig(vocab_size=V, **sizes)))
    dense = randomised(torch.nn.Linear(24, embed_dim, bias=bias))
    model.save_pretrained(tower)
    weights = {f"linear.{name}": x for name, x in dense.state_dict().items()}
    if older:
        torch.save(weights, directory / "2_Dense" / "pytorch_model.bin")
    else:
        save_file(weights, directory / "2_Dense" / "model.safetensors")
    modes = {"pooling_mode_cls_token": pool == "cls", "pooling_mode_mean_tokens": pool == "mean"}
    settings = {"out_features": embed_dim, "bias": bias, "activation_function": "torch.nn.modules.linear.Identity"}
    contents = {
        tower / "sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": False} if older else {},
        directory / "1_Pooling" / "config.json": modes if older else {"pooling_mode": pool},
        directory / "2_Dense" / "config.json": settings,
        directory / "modules.json": [
            {
                "path": "" if name == "Transformer" and not older else folder,
                "type": f"sentence_transformers.models.{name}",
            }
            for name, folder in FOLDERS.items()
        ],
    }
    for path, content in contents.items():
        path.write_text(json.dumps(content))
    tokenizer = transformers.BertTokenizer.from_pretrained(tower)
    with torch.no_grad():
        found = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
        tokens = model(**found)[0]
        return dense(mean(tokens, found["attention_mask"]) if pool == "mean" else tokens[:, 0]).numpy()
