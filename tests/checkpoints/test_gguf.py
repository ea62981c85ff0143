"""GGUF files for clip.cpp, read by ggml's own package: names, types, settings and vocabulary, and what is refused.

`test_clip_cpp.py` has clip.cpp itself read them.
"""

import dataclasses
import re
import resource
import signal
import sys

import gguf
import numpy as np
import pytest
from gguf_models import save

from miniclip import InputError, checkpoints, families, params
from miniclip.checkpoints.convert import WRITERS, convert
from miniclip.cli import main
from miniclip.config import CLIPConfig, PictureSettings, ResNetConfig, TextConfig, VisionConfig
from miniclip.families.clip.clip_cpp import NAMES
from miniclip.families.clip.image import own_settings
from miniclip.fetch import hub

# transformers' names -> clip.cpp's, in clip_model_load. {} is a tower's letter or a block's number.
TOWERS = {"text_model": "t", "vision_model": "v"}
PARTS = {
    "embeddings.token_embedding.weight": "token_embd.weight",
    "embeddings.position_embedding.weight": "position_embd.weight",
    "embeddings.patch_embedding.weight": "patch_embd.weight",
    "embeddings.class_embedding": "class_embd",
}
MODULES = {"pre_layrnorm": "pre_ln", "post_layernorm": "post_ln", "final_layer_norm": "post_ln"}
BLOCK = {
    "layer_norm1": "ln1",
    "self_attn.k_proj": "attn_k",
    "self_attn.q_proj": "attn_q",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_down",
    "mlp.fc2": "ffn_up",
}


def their_name(name):
    """clip.cpp's name of transformers' parameter."""
    tower, _, rest = name.partition(".")
    if tower not in TOWERS:
        return name
    block = re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)\.(\w+)", rest)
    if block:
        return f"{TOWERS[tower]}.blk.{block[1]}.{BLOCK[block[2]]}.{block[3]}"
    module, _, kind = rest.rpartition(".")
    return f"{TOWERS[tower]}.{PARTS.get(rest) or f'{MODULES[module]}.{kind}'}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(transformers' model, its directory)."""
    directory = tmp_path_factory.mktemp("gguf") / "small"
    return save("small", directory), directory


def read(path):
    """({key: value}, {name: (type, array)}) of a file."""
    reader = gguf.GGUFReader(path)
    tensors = {x.name: (x.tensor_type.name, x.data) for x in reader.tensors}
    return {key: field.contents() for key, field in reader.fields.items()}, tensors


@pytest.mark.parametrize("dtype", [None, "float16", "q8_0"])
def test_every_parameter_has_its_name_and_its_type(dtype, model, tokenizer, tmp_path):
    convert(model[1], tmp_path / "m.gguf", "gguf", dtype=dtype, official=lambda: tokenizer)
    fields, tensors = read(tmp_path / "m.gguf")
    expected = {their_name(name): x.numpy() for name, x in model[0].state_dict().items() if "position_ids" not in name}
    assert tensors.keys() == expected.keys() - {"logit_scale"} and len(tensors) == 397
    for name, (kind, found) in tensors.items():
        x = expected[name]
        if dtype == "q8_0" and x.ndim == 2:
            scale = abs(x.reshape(-1, 32)).max(1) / 127
            error = abs(gguf.quants.dequantize(found, gguf.GGMLQuantizationType.Q8_0) - x).reshape(-1, 32).max(1)
            assert kind == "Q8_0" and (error <= scale * (0.5 + 127 * 2.0**-11)).all()  # the scale is float16
        else:
            half = x.ndim == 4 or (x.ndim == 2 and dtype == "float16")
            assert kind == ("F16" if half else "F32") and np.array_equal(found, x.astype("f2") if half else x)
    assert fields["general.file_type"] == {None: 0, "float16": 1, "q8_0": 8}[dtype]
    assert fields.get("general.quantization_version") == (2 if dtype == "q8_0" else None)


def test_settings_are_those_that_clip_cpp_asks_for(model, tokenizer, tmp_path):
    convert(model[1], tmp_path / "m.gguf", "gguf", official=lambda: tokenizer)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    fields = {key: (field.types[0].name, field.contents()) for key, field in reader.fields.items()}
    vision, text = model[0].config.vision_config, model[0].config.text_config
    for name, tower in (("vision", vision), ("text", text)):
        for key, value in {
            "embedding_length": tower.hidden_size,
            "feed_forward_length": tower.intermediate_size,
            "projection_dim": model[0].config.projection_dim,
            "attention.head_count": tower.num_attention_heads,
            "block_count": tower.num_hidden_layers,
        }.items():
            assert fields.pop(f"clip.{name}.{key}") == ("UINT32", value)
        eps = np.float32(tower.layer_norm_eps).item()
        assert fields.pop(f"clip.{name}.attention.layer_norm_epsilon") == ("FLOAT32", eps)
        assert fields.pop(f"clip.has_{name}_encoder") == ("BOOL", True)
    assert fields.pop("clip.use_gelu") == ("BOOL", True)
    assert fields.pop("clip.text.context_length") == ("UINT32", text.max_position_embeddings)
    assert fields.pop("clip.vision.image_size") == ("UINT32", vision.image_size)
    assert fields.pop("clip.vision.patch_size") == ("UINT32", vision.patch_size)
    assert np.allclose(fields.pop("clip.vision.image_mean")[1], [0.48145466, 0.4578275, 0.40821073], atol=1e-7)
    assert np.allclose(fields.pop("clip.vision.image_std")[1], [0.26862954, 0.26130258, 0.27577711], atol=1e-7)
    _, tokens = fields.pop("tokenizer.ggml.tokens")
    assert {token: id for id, token in enumerate(tokens)} == tokenizer.encoder
    assert fields.pop("general.architecture") == ("STRING", "clip")
    general = {"general.file_type", "general.name", "general.description"}
    assert {key for key in fields if not key.startswith("GGUF.")} == general


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_one_tower_is_a_model(tower, model, tokenizer, tmp_path):
    config, tree, _ = checkpoints.load(model[1])
    other = {"visual": "text", "text": "visual"}[tower]
    checkpoints.save(tmp_path / "m.safetensors", dataclasses.replace(config, **{other: None}), {tower: tree[tower]})
    convert(tmp_path / "m.safetensors", tmp_path / "m.gguf", "gguf", official=lambda: tokenizer)
    fields, tensors = read(tmp_path / "m.gguf")
    assert (fields["clip.has_vision_encoder"], fields["clip.has_text_encoder"]) == (tower == "visual", tower == "text")
    assert len(tensors) == {"visual": 200, "text": 197}[tower] and ("tokenizer.ggml.tokens" in fields) is (
        tower == "text"
    )


def test_matrices_that_are_all_float16_stay_so(model, tokenizer, tmp_path):
    convert(model[1], tmp_path / "m.safetensors", "miniclip", dtype="float16")
    convert(tmp_path / "m.safetensors", tmp_path / "m.gguf", "gguf", official=lambda: tokenizer)
    fields, tensors = read(tmp_path / "m.gguf")
    assert fields["general.file_type"] == 1 and fields["general.name"] == "m"
    assert tensors["t.token_embd.weight"][0] == "F16" and tensors["v.class_embd"][0] == "F32"


def test_every_canonical_name_is_hit_exactly_once(model):
    config = checkpoints.load(model[1])[0]
    flat = params.flatten(config.shapes())
    assert {re.sub(r"\.\d+\.", ".{}.", name) for name in flat} == NAMES.keys() | {"logit_scale"}
    theirs = [name for names in NAMES.values() for name in names]
    assert len(theirs) == len({*theirs})


# ---------------------------------------------------------------------------------------------------- refused


def small(**changes):
    """A CLIP that clip.cpp can read, but for these changes of "visual", "text" or the whole."""
    towers = {
        "visual": VisionConfig(16, 8, width=8, layers=12, heads=2, mlp_width=8),
        "text": TextConfig(6, 49408, width=8, layers=12, heads=2, mlp_width=8),
    }
    for name, tower in towers.items():
        change = changes.pop(name, {})
        towers[name] = dataclasses.replace(tower, **change) if isinstance(change, dict) else change
    return CLIPConfig(**{**towers, "embed_dim": 8, **changes})


def zeros(config):
    return params.tree_map(lambda shape: np.zeros(shape, np.float32), config.shapes())


SQUASHED = PictureSettings("squash", 16, None, "bicubic", 1 / 255, ((0.5, 0.5),))
TWICE = dataclasses.replace(own_settings(16), normalize=((0.5, 0.5), (0.5, 0.5)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual": {"layers": 40}}, "clip.cpp reads models of 24, 36 or 56 blocks, and this one has 52"),
        ({"visual": None, "text": {"layers": 13}}, "reads models of 12 or 24 blocks, and this one has 13"),
        ({"text": None, "visual": {"layers": 2}}, "reads models of 12, 24 or 32 blocks, and this one has 2"),
        ({"visual": ResNetConfig(32, 8, (1, 1, 1, 1), 4)}, "has only Vision Transformers"),
        ({"embed_dim": None}, "cannot express a model without projections"),
        ({"visual": {"activation": "gelu"}}, "text.activation quick_gelu, not gelu"),
        ({"visual": {"activation": "silu"}, "text": {"activation": "silu"}}, "text.activation silu, not quick_gelu"),
        ({"visual": {"channels": 4}}, "visual.channels 4, not 3"),
        ({"visual": {"image_size": (16, 24)}}, r"visual.image_size \(16, 24\), not 16"),
        ({"visual": {"pictures": SQUASHED}}, "visual.pictures.resize squash, not shortest"),
        ({"visual": {"pictures": TWICE}}, "clip.cpp cannot express .*visual.pictures.normalize"),
        ({"text": {"vocab_size": 99}}, "text.vocab_size 99, not 49408"),
        ({"text": {"eot_token_id": 7}}, "text.eot_token_id 7, not None"),
    ],
)
def test_a_model_that_clip_cpp_would_compute_differently_is_refused(changes, message, tokenizer, tmp_path):
    with pytest.raises(InputError, match=message):
        WRITERS["gguf"](tmp_path / "m.gguf", small(**changes), zeros(small(**changes)), tokenizer=tokenizer)
    assert not [*tmp_path.iterdir()]


def test_what_it_can_express_is_written(tokenizer, tmp_path):
    pictures = dataclasses.replace(own_settings(16), normalize=((0.5, (0.5, 0.25, 0.5)),))
    config = small(
        visual={"activation": "gelu_tanh", "pictures": pictures}, text={"activation": "gelu", "eot_token_id": 49407}
    )
    WRITERS["gguf"](tmp_path / "m.gguf", config, zeros(config), tokenizer=tokenizer)
    fields, _ = read(tmp_path / "m.gguf")
    assert fields["clip.use_gelu"] is True
    assert (fields["clip.vision.image_mean"], fields["clip.vision.image_std"]) == ([0.5, 0.5, 0.5], [0.5, 0.25, 0.5])
    config = small(text=None)
    WRITERS["gguf"](tmp_path / "m.gguf", config, zeros(config))
    assert read(tmp_path / "m.gguf")[0]["clip.use_gelu"] is False


@pytest.mark.parametrize("family", [name for name in families.FAMILIES if name != "clip"])
def test_other_families_are_refused(family, tmp_path):
    config = type("Config", (), {"family": family})()
    assert families.named(family).clip_cpp is None
    with pytest.raises(InputError, match=f"clip.cpp cannot express {family} models: convert to miniclip or hf"):
        WRITERS["gguf"](tmp_path / "m.gguf", config, {})


def test_a_row_that_has_no_whole_blocks_is_refused(tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"q8_0 has blocks of 32 numbers, and rows of \S+ have 8: use float16"):
        WRITERS["gguf"](tmp_path / "m.gguf", small(), zeros(small()), tokenizer=tokenizer, dtype="q8_0")


def test_such_a_file_is_not_read(tmp_path):
    WRITERS["gguf"](tmp_path / "m.gguf", small(text=None), zeros(small(text=None)))
    with pytest.raises(InputError, match=r"m\.gguf: is a GGUF file, which miniclip does not read"):
        checkpoints.load(tmp_path / "m.gguf")
    with pytest.raises(InputError, match=r"other\.gguf: "):  # a file's name, which no hub is asked for
        hub.find(str(tmp_path / "other.gguf"))


def test_without_the_vocabulary_nothing_is_written(model, tmp_path):
    with pytest.raises(InputError, match="the official one is not on this machine: run miniclip download vocabulary"):
        convert(model[1], tmp_path / "m.gguf", "gguf")
    assert main(["convert", "shapes", str(tmp_path / "m.gguf"), "--to", "gguf"]) == 1  # it has its own
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("to", "dtype"), [("gguf", "float64"), ("gguf", "q4_0"), ("hf", "q8_0")])
def test_each_form_has_its_dtypes(to, dtype, model, tmp_path):
    with pytest.raises(InputError, match=f"dtype is '{dtype}', expected one of .* in the form '{to}'"):
        convert(model[1], tmp_path / "m", to, dtype=dtype)


def test_without_the_package_the_remedy_is_named(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"to write a GGUF file, gguf is needed: .*\[gguf\]"):
        convert(model[1], tmp_path / "m.gguf", "gguf", official=lambda: tokenizer)


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of a file's size")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(model, tokenizer, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, before[1]))  # within the weights
    try:
        with pytest.raises(InputError, match=r"m\.gguf: cannot be written: .*(File too large|written)"):
            convert(model[1], tmp_path / "m.gguf", "gguf", official=lambda: tokenizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not [*tmp_path.iterdir()]
