"""TensorFlow's names of transformers' parameters (transformers 4, modeling_tf_clip.py); its layouts are Flax's.

    Flax                                         TensorFlow
    text_model.encoder.layers.0.mlp.fc1.kernel   clip/text_model/encoder/layers_._0/mlp/fc1/kernel:0
    norm                  scale, bias            gamma, beta
    position embeddings   embedding              embeddings
    token embeddings      embedding              weight
    logit_scale           ()                     (1,)

In a file, there are more names before "clip", which change nothing: "clip/tfclip_model/clip/logit_scale:0".
"""

import re

END = ":0"  # of all names
LAYER = "clip"  # the model's only layer of Keras
FLAX = {"gamma": "scale", "beta": "bias", "embeddings": "embedding", "weight": "embedding"}
# The parts of names, in the order of a model's variables.
PARTS = (
    *("logit_scale", "text_model", "vision_model", "visual_projection", "text_projection"),
    *("embeddings", "pre_layrnorm", "encoder", "final_layer_norm", "post_layernorm"),
    *("token_embedding", "class_embedding", "position_embedding", "patch_embedding"),
    *("self_attn", "layer_norm1", "mlp", "layer_norm2", "q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    *("kernel", "bias", "gamma", "beta"),
)


def are_in(names):
    """Whether a file with these names has TensorFlow's."""
    return any(name.endswith(END) for name in names)


def to_flax(theirs):
    """TensorFlow's name of a parameter -> Flax's."""
    path = re.sub(rf"^(.*/)?{LAYER}/", "", theirs.removesuffix(END)).replace("layers_._", "layers/")
    module, _, kind = path.rpartition("/")
    return ".".join([*filter(None, module.split("/")), FLAX.get(kind, kind)])


def from_flax(name):
    """The inverse of `to_flax`: a name that begins with "clip/"."""
    module, _, kind = name.rpartition(".")
    last = module.rpartition(".")[2]
    if "norm" in last:
        kind = {"scale": "gamma", "bias": "beta"}[kind]
    elif kind == "embedding":
        kind = "weight" if last == "token_embedding" else "embeddings"
    path = re.sub(r"layers/(\d+)", r"layers_._\1", module.replace(".", "/"))
    return "/".join([LAYER, *filter(None, [path]), kind]) + END


def place(name):
    """Flax's name -> where it is among a model's variables: a key to sort by."""
    parts = from_flax(name).removesuffix(END).split("/")[1:]
    numbers = (re.search(r"\d+$", part) for part in parts)
    return [PARTS.index(part) if part in PARTS else int(n[0]) if n else 0 for part, n in zip(parts, numbers)]
