"""Reads sentence-transformers' directories of a text encoder: modules.json, and a folder for each module.

clip-ViT-B-32-multilingual-v1 is one: a DistilBERT, the mean of its tokens, and a projection, trained for the pictures
of OpenAI's ViT-B/32. (sentence_transformers: modules/transformer.py, pooling.py, dense.py.)
"""

import re
from pathlib import Path

from miniclip.checkpoints import huggingface
from miniclip.errors import InputError
from miniclip.families import activations, names
from miniclip.families.bert import BertConfig
from miniclip.families.multilingual.config import MultilingualConfig
from miniclip.families.multilingual.tokenizer_files import load_tokenizer
from miniclip.families.tokenizer_settings import CONFIG
from miniclip.formats import read_json

MODULES = "modules.json"
SETTINGS = "sentence_bert_config.json"
KINDS = ("Transformer", "Pooling", "Dense")
# Names in transformers, modeling_distilbert.py.
DISTILBERT = {
    "text.embed.table": ("embeddings.word_embeddings.weight",),
    "text.position_embedding": ("embeddings.position_embeddings.weight",),
    **names.modules("text.", "embeddings.", {"ln_embed": ("LayerNorm",)}),
    **names.modules(
        "text.blocks.{}.",
        "transformer.layer.{}.",
        {
            "attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
            "attention.out": ("attention.out_lin",),
            "ln_1": ("sa_layer_norm",),
            "mlp.fc": ("ffn.lin1",),
            "mlp.proj": ("ffn.lin2",),
            "ln_2": ("output_layer_norm",),
        },
    ),
}
DENSE = names.modules("text.", "", {"projection": ("linear",)})


def load(directory, read_file):
    """A directory -> (config, {our name: array}, tokenizer or None); read_file(path) -> ({name: array}, metadata).

    Raises InputError that names the file which is missing, damaged, or of another kind of model.
    """
    tower, pooling, dense = _folders(directory)
    fields = {
        **_parsed(tower / "config.json", _distilbert),
        **_parsed(pooling / "config.json", _pool),
        **_parsed(dense / "config.json", _head),
    }
    for path in (tower / CONFIG, directory / SETTINGS, tower / SETTINGS):
        fields |= _parsed(path, _length) if path.exists() else {}
    config = _parsed(tower / "config.json", lambda _: _whole(**fields))
    flat: dict = {}
    for folder, table in ((tower, DISTILBERT), (dense, DENSE)):
        for file in huggingface.weight_files(folder):
            flat |= names.rename(read_file(file, part=True)[0], table)
    return config, flat, load_tokenizer(tower, config.text.vocab_size)


def _folders(directory):
    """The folders of the three modules. Raises InputError if the model has others."""
    path = directory / MODULES
    try:
        modules = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in read_json(path, list)]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a list of modules: {error!r}") from error
    kinds = tuple(kind for kind, _ in modules)
    if kinds != KINDS:
        raise InputError(f"{path}: its modules are {', '.join(kinds)}, expected {', '.join(KINDS)}")
    if any(Path(folder).is_absolute() or ".." in Path(folder).parts for _, folder in modules):
        raise InputError(f"{path}: has a folder outside its directory")  # anyone may have written it
    return [directory / folder for _, folder in modules]


def _parsed(path, parse):
    """What `parse` makes of a JSON file; InputErrors name the file."""
    try:
        return parse(read_json(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        named = isinstance(error, InputError) and str(error).startswith(str(path))
        raise error if named else InputError(f"{path}: not the settings of a text encoder: {error}") from error


def _whole(embed_dim, **fields):
    return MultilingualConfig(None, BertConfig(**fields), embed_dim)


def _distilbert(source):
    if source.get("model_type") != "distilbert":
        raise InputError(f"its model_type is {source.get('model_type')!r}, expected 'distilbert'")
    return {
        "context_length": source.get("max_position_embeddings", 512),
        "vocab_size": source.get("vocab_size", 30522),
        "width": source.get("dim", 768),
        "layers": source.get("n_layers", 6),
        "heads": source.get("n_heads", 12),
        "mlp_width": source.get("hidden_dim", 3072),
        "pad_token_id": source.get("pad_token_id", 0),
        "activation": activations.ours(source.get("activation", "gelu")),
        "token_types": 0,
        "pooler": False,
        "longest_text": source.get("max_position_embeddings", 512),
    }


def _pool(source):
    """Either {"pooling_mode": "mean"} or, until version 5, {"pooling_mode_mean_tokens": true, ...}."""
    on = [name for name, value in source.items() if name.startswith("pooling_mode_") and value]
    older = [re.sub("^pooling_mode_|_tokens?$", "", name) for name in on]
    mode = source.get("pooling_mode", older[0] if len(older) == 1 else older or "mean")
    if mode not in ("mean", "cls"):
        raise InputError(f"its pooling is {mode!r}, expected 'mean' or 'cls'")
    return {"pool": "mean" if mode == "mean" else "first"}


def _head(source):
    activation = source.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not activation.endswith(".Identity"):
        raise InputError(f"its activation_function is {activation!r}, expected torch.nn.modules.linear.Identity")
    return {"head": "bias" if source.get("bias", True) else "linear", "embed_dim": source["out_features"]}


def _length(source):
    """The longest text, in the settings of the module or of its tokenizer."""
    if source.get("do_lower_case") and "max_seq_length" in source:
        raise InputError("do_lower_case is true, and miniclip does not make its texts lower case")
    length = source.get("max_seq_length", source.get("model_max_length"))  # since version 5 the tokenizer's
    return {"longest_text": min(int(length), 1 << 30)} if length else {}  # 1e30 means that there is no limit
