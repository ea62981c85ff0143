"""ClipCap's decoders (github.com/rmokady/CLIP_prefix_caption, train.py): names, configuration and vocabulary.

A file is the state dict of a ClipCaptionModel: GPT-2 with transformers' names, and a mapping network `clip_project`,
which is an MLP, one linear map, or a transformer.
"""

from pathlib import Path

import numpy as np

from miniclip.caption.decoder import DecoderConfig, MapperConfig
from miniclip.config import TextConfig
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.formats import read_json
from miniclip.tokenizer import SYMBOL_BYTES

HEAD_WIDTH = 64  # of every GPT-2, whatever its size; files do not state it
MAPPER_HEADS = 8  # train.py, TransformerMapper
LONGEST = 67  # tokens of a caption (predict.py, entry_length)
END = "."  # the token that ends a caption (predict.py, stop_token)

_NORMS = {"ln_1": ("ln_1",), "ln_2": ("ln_2",)}
_CONV1D = {  # transformers keeps these as (in, out)
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "mlp.fc": "mlp.c_fc",
    "mlp.proj": "mlp.c_proj",
}
_MAPPER_BLOCK = {
    "ln_1": ("norm1",),
    "attention.out": ("attn.project",),
    "ln_2": ("norm2",),
    "mlp.fc": ("mlp.fc1",),
    "mlp.proj": ("mlp.fc2",),
}
NAMES = {
    "gpt.embed.table": ("gpt.transformer.wte.weight",),
    "gpt.position_embedding": ("gpt.transformer.wpe.weight",),
    **names.modules("gpt.blocks.{}.", "gpt.transformer.h.{}.", _NORMS),
    **{
        f"gpt.blocks.{{}}.{ours}.weight": (names.Transposed(f"gpt.transformer.h.{{}}.{theirs}.weight"),)
        for ours, theirs in _CONV1D.items()
    },
    **{f"gpt.blocks.{{}}.{ours}.bias": (f"gpt.transformer.h.{{}}.{theirs}.bias",) for ours, theirs in _CONV1D.items()},
    **names.modules("gpt.", "gpt.transformer.", {"ln_final": ("ln_f",)}),
}
# the mapping network: an MLP, one linear map (in the notebook, for long prefixes), a transformer
MAPPERS = {
    "clip_project.model.0.weight": names.modules(
        "mapper.", "clip_project.", {"fc": ("model.0",), "proj": ("model.2",)}
    ),
    "clip_project.weight": names.modules("mapper.", "", {"proj": ("clip_project",)}),
    "clip_project.linear.weight": {
        **names.modules("mapper.", "clip_project.", {"proj": ("linear",)}),
        "mapper.constant": ("clip_project.prefix_const",),
        **names.modules("mapper.blocks.{}.", "clip_project.transformer.layers.{}.", _MAPPER_BLOCK),
        "mapper.blocks.{}.attention.qkv.weight": tuple(
            f"clip_project.transformer.layers.{{}}.attn.to_{part}.weight" for part in ("queries", "keys", "values")
        ),
    },
}


def without_masks(names, metadata):
    """{name: name} of what is read from a file: all except the causal masks that older GPT-2s have."""
    return {name: name for name in names if not name.endswith((".attn.bias", ".attn.masked_bias"))}


def has_its_names(tensors):
    return "gpt.transformer.wte.weight" in tensors and any(name in tensors for name in MAPPERS)


def read(tensors):
    """{their name: array} -> (DecoderConfig, {our name: array}). Raises InputError for what cannot be one of theirs."""
    kind = next(name for name in MAPPERS if name in tensors)
    head = tensors.pop("gpt.lm_head.weight", None)
    if head is not None and not np.array_equal(head, tensors["gpt.transformer.wte.weight"]):
        raise InputError("gpt.lm_head.weight differs from gpt.transformer.wte.weight, but in a GPT-2 they are one")
    flat = names.rename(_parted(tensors), NAMES | MAPPERS[kind])
    for name in [name for name in flat if name.startswith("mapper.") and name.endswith("qkv.weight")]:
        flat[name.replace("weight", "bias")] = np.zeros(len(flat[name]), flat[name].dtype)  # theirs have none
    shapes = {name: x.shape for name, x in flat.items()}
    V, D = shapes["gpt.embed.table"]
    if D % HEAD_WIDTH:
        raise InputError(f"its width is {D}, expected a multiple of {HEAD_WIDTH}, the width of GPT-2's heads")
    gpt = TextConfig(
        context_length=shapes["gpt.position_embedding"][0],
        vocab_size=V,
        width=D,
        layers=_layers(shapes, "gpt"),
        heads=D // HEAD_WIDTH,
        mlp_width=shapes["gpt.blocks.0.mlp.fc.weight"][0],
        activation="gelu_tanh",
    )
    rows, E = shapes["mapper.proj.weight"]
    if kind == "clip_project.linear.weight":
        mapper = MapperConfig(
            tokens=rows // D,
            width=D,
            layers=_layers(shapes, "mapper"),
            heads=MAPPER_HEADS,
            mlp_width=shapes["mapper.blocks.0.mlp.fc.weight"][0],
        )
        return DecoderConfig(E, shapes["mapper.constant"][0], gpt, mapper=mapper, normalize=False), flat
    hidden = None
    if "mapper.fc.weight" in shapes:
        hidden, E = shapes["mapper.fc.weight"]
    return DecoderConfig(E, rows // D, gpt, hidden, normalize=False), flat


def _layers(shapes, part):
    return 1 + max((int(name.split(".")[2]) for name in shapes if name.startswith(f"{part}.blocks.")), default=-1)


def _parted(tensors):
    """The tensors with keys and values apart, so that they can be joined with the queries."""
    parted = {}
    for name, x in tensors.items():
        if "attn.to_keys_values" in name:
            for part, half in zip(("keys", "values"), np.split(x, 2)):
                parted[name.replace("keys_values", part)] = half
        else:
            parted[name] = x
    return parted


class Vocabulary:
    """The tokens of a GPT-2 as texts: `decode` alone, since a decoder reads no text.

    path  a folder with GPT-2's vocab.json, or that file · size  how many tokens the model has

    Raises InputError for a file that is none, or of another size.
    """

    def __init__(self, path, size):
        path = Path(path) / "vocab.json" if Path(path).is_dir() else Path(path)
        encoder = read_json(path)
        if sorted(id for id in encoder.values() if type(id) is int) != list(range(size)):
            raise InputError(f"{path}: expected the tokens 0 to {size - 1} of the decoder, found {len(encoder)} others")
        if END not in encoder:
            raise InputError(f"{path}: has no token {END!r}, which ends a caption")
        self.end_id, self.symbols = encoder[END], {id: symbol for symbol, id in encoder.items()}

    def decode(self, tokens):
        """Tokens to text, without spaces around it. Bytes that are not UTF-8 become U+FFFD."""
        symbols = "".join(self.symbols[token] for token in tokens)
        # a special token does not consist of byte symbols; it stays as it is
        data = b"".join(bytes([SYMBOL_BYTES[c]]) if c in SYMBOL_BYTES else c.encode() for c in symbols)
        return data.decode(errors="replace").strip()
