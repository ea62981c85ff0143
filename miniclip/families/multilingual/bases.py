"""The BERTs that other models only name: their sizes, from their config.json on Hugging Face's hub."""

from typing import Any

from miniclip.errors import InputError
from miniclip.families.bert import BertConfig

_BASE = {"width": 768, "layers": 12, "heads": 12, "mlp_width": 3072}
_LARGE = {"width": 1024, "layers": 24, "heads": 16, "mlp_width": 4096}
_BERT = {"context_length": 512, "token_types": 2, "pad_token_id": 0, "eps": 1e-12, "first_position": 0}
# max_position_embeddings is 514: a text's first position is 2.
_ROBERTA = {"context_length": 512, "token_types": 1, "pad_token_id": 1, "eps": 1e-5, "first_position": 2}
SIZES: dict[str, dict[str, Any]] = {
    "xlm-roberta-base": {**_BASE, **_ROBERTA, "vocab_size": 250002},
    "xlm-roberta-large": {**_LARGE, **_ROBERTA, "vocab_size": 250002},
    "roberta-base": {**_BASE, **_ROBERTA, "vocab_size": 50265},
    "setu4993/LaBSE": {**_BASE, **_BERT, "vocab_size": 501153},
}
ALIASES = {f"FacebookAI/{name}": name for name in SIZES if "roberta" in name}  # their owner's name, since 2024


def bert(name: str, **options: Any) -> BertConfig:
    """The BERT with this name, as a text tower with `options`. Raises InputError for an unknown name."""
    sizes = SIZES.get(ALIASES.get(name, name))
    if sizes is None:
        raise InputError(f"its text tower is transformers' {name!r}, and miniclip knows those of {', '.join(SIZES)}")
    return BertConfig(**{**sizes, "longest_text": sizes["context_length"], **options})


def name_of(text: BertConfig) -> str | None:
    """The name of the BERT with the sizes of this text tower; None if there is none."""
    return next((name for name, sizes in SIZES.items() if all(getattr(text, k) == v for k, v in sizes.items())), None)
