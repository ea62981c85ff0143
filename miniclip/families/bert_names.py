"""transformers' names for a BERT: those of its parameters, and its settings."""

from miniclip.families import activations, names

_BLOCK = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.out": ("attention.output.dense",),
    "ln_1": ("attention.output.LayerNorm",),
    "mlp.fc": ("intermediate.dense",),
    "mlp.proj": ("output.dense",),
    "ln_2": ("output.LayerNorm",),
}
BERT = {  # the defaults of transformers' settings
    "max_position_embeddings": 512,
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def table(theirs: str, blocks: str = "encoder.layer.{}.") -> dict[str, tuple[str, ...]]:
    """Names of transformers' BertModel and XLMRobertaModel, which begin with `theirs`: a table (see `names`)."""
    embeddings = f"{theirs}embeddings."
    return {
        "text.embed.table": (f"{embeddings}word_embeddings.weight",),
        "text.position_embedding": (f"{embeddings}position_embeddings.weight",),
        "text.type_embedding": (f"{embeddings}token_type_embeddings.weight",),
        **names.modules("text.", embeddings, {"ln_embed": ("LayerNorm",)}),
        **names.modules("text.blocks.{}.", f"{theirs}{blocks}", _BLOCK),
        **names.modules("text.", theirs, {"pooler": ("pooler.dense",)}),
    }


def bert(source):
    """transformers' settings of a BERT, complete -> those fields of BertConfig that all BERTs have."""
    return {
        "context_length": source["max_position_embeddings"],
        "vocab_size": source["vocab_size"],
        "width": source["hidden_size"],
        "layers": source["num_hidden_layers"],
        "heads": source["num_attention_heads"],
        "mlp_width": source["intermediate_size"],
        "token_types": source["type_vocab_size"],
        "pad_token_id": source["pad_token_id"],
        "activation": activations.ours(source["hidden_act"]),
        "eps": source["layer_norm_eps"],
    }


def bert_to(text):
    """The inverse of `bert`."""
    return {
        "max_position_embeddings": text.context_length,
        "vocab_size": text.vocab_size,
        "hidden_size": text.width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "intermediate_size": text.mlp_width,
        "type_vocab_size": text.token_types,
        "pad_token_id": text.pad_token_id,
        "hidden_act": activations.theirs(text.activation),
        "layer_norm_eps": text.eps,
    }
