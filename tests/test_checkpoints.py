"""Files: what is written comes back, official files are read right, damaged ones are refused by name."""

import dataclasses
import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import huggingface, names
from miniclip.checkpoints import safetensors as files
from miniclip.config import CLIPConfig, TextConfig, VisionConfig, infer_config

CONFIG = CLIPConfig(
    visual=VisionConfig(image_size=24, patch_size=8, width=128, layers=3, heads=2, mlp_width=60),
    text=TextConfig(context_length=9, vocab_size=530, width=64, layers=11, heads=1, mlp_width=70),
    embed_dim=20,
)


def random_params(config=CONFIG, seed=0):
    rng = np.random.default_rng(seed)
    return params.tree_map(lambda shape: np.asarray(rng.standard_normal(shape), np.float32), config.shapes())


def same(a, b):
    a, b = params.flatten(a), params.flatten(b)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# ------------------------------------------------------------------------------------- parameter trees


@given(
    st.recursive(
        st.integers(),
        lambda branch: st.lists(branch, min_size=1) | st.dictionaries(st.text("abc", min_size=1), branch, min_size=1),
    ).filter(lambda t: not isinstance(t, int))
)
def test_unflatten_inverts_flatten(tree):
    assert params.unflatten(params.flatten(tree)) == tree


def test_check_reports_missing_unexpected_and_misshaped_together():
    tree = random_params()
    del tree["text"]["ln_final"]["bias"]
    tree["visual"]["extra"] = np.zeros((2, 3))
    tree["logit_scale"] = np.zeros(1)
    with pytest.raises(miniclip.InputError) as error:
        params.check(tree, CONFIG.shapes(), "some/file")
    message = str(error.value)
    assert message.startswith("some/file: ")
    assert "missing text.ln_final.bias (64,)" in message
    assert "unexpected visual.extra (2, 3)" in message
    assert "logit_scale is (1,), expected ()" in message


def test_config_is_read_off_the_shapes():
    shapes = params.flatten(CONFIG.shapes())
    assert infer_config(shapes) == CONFIG
    assert CLIPConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
    text_only = infer_config({name: shape for name, shape in shapes.items() if name.startswith("text.")})
    assert text_only == CLIPConfig(visual=None, text=CONFIG.text, embed_dim=20)


SHAPES = params.flatten(CONFIG.shapes())


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"a.b": (1,)},
        {"visual.patch_embed.weight": (4, 3, 2, 2)},
        {**SHAPES, "visual.patch_embed.weight": (4, 3)},
        {**SHAPES, "visual.patch_embed.position_embedding": (0, 128)},
        {**SHAPES, "text.blocks.0.mlp.fc.weight": ()},
        {**SHAPES, "visual.projection.weight": ()},
    ],
)
def test_parameters_of_something_else_are_refused(shapes):
    with pytest.raises(miniclip.InputError, match="not the parameters of a CLIP"):
        infer_config(shapes)


# ------------------------------------------------------------------------------------------ safetensors


ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "__metadata__"),
    st.sampled_from(["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
    ),
    min_size=1,  # the official package cannot read its own file of none
    max_size=4,
)


@given(tensors=ARRAYS, metadata=st.dictionaries(st.text(), st.text(), max_size=2))
def test_safetensors_are_read_as_the_official_package_reads_them(tensors, metadata, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    files.write(path, tensors, metadata)
    ours, found = files.read(path)
    theirs = safetensors.numpy.load_file(path)
    assert found == metadata
    assert ours.keys() == theirs.keys() == tensors.keys()
    for name, array in tensors.items():
        assert ours[name].dtype == theirs[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array)
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_arrays_are_written_by_their_values_and_not_by_their_layout(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    files.write(tmp_path / "x.safetensors", {"turned": x.T, "part": x[:, 1:3], "back": x[::-1]})
    found = files.read(tmp_path / "x.safetensors")[0]
    np.testing.assert_array_equal(found["turned"], x.T)
    np.testing.assert_array_equal(found["part"], x[:, 1:3])
    np.testing.assert_array_equal(found["back"], x[::-1])


def test_bfloat16_is_widened(tmp_path):
    import torch
    from safetensors.torch import save_file

    x = torch.randn(5, 7).bfloat16()
    save_file({"x": x}, tmp_path / "x.safetensors")
    ours = files.read(tmp_path / "x.safetensors")[0]["x"]
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, x.float().numpy())


def test_arrays_are_mapped_and_writing_to_them_leaves_the_file_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    files.write(path, {"x": np.arange(6, dtype=np.float32)})
    before = path.read_bytes()
    x = files.read(path)[0]["x"]
    assert x.base is not None and not x.flags.owndata  # a view of the map, not a copy
    x[:] = 7
    assert path.read_bytes() == before


def test_a_float32_model_stays_mapped(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoints.save(path, CONFIG, random_params())
    model = miniclip.load(path)[0]
    assert not any(x.flags.owndata for x in params.flatten(model.params).values())


GOOD = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"hello, this is a text and no tensor file",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 10_000) + json.dumps(GOOD).encode(),
        *(
            struct.pack("<Q", len(text)) + text + bytes(8)
            for text in [
                b"[1, 2]",
                b'{"__metadata__": null}',
                b'{"__metadata__": 5}',
                b'{"__metadata__": "text"}',
                b'{"__metadata__": {"config": {}}}',
                b"{" * 5000,
                b"\xff\xfe{}",
                *(
                    json.dumps({"x": {**GOOD["x"], **change}}).encode()
                    for change in [
                        {"shape": [3]},
                        {"shape": [-2]},
                        {"shape": [1 << 62, 4]},
                        {"shape": "2"},
                        {"shape": None},
                        {"data_offsets": [8, 16]},
                        {"data_offsets": [-8, 0]},
                        {"data_offsets": [0]},
                        {"data_offsets": [0, 4]},
                        {"dtype": "F4"},
                        {"dtype": []},
                        {"more": 1},
                    ]
                ),
                json.dumps({"x": {"dtype": "F32"}}).encode(),
                json.dumps({"x": 3}).encode(),
            ]
        ),
    ],
)
def test_damaged_files_are_refused_by_name(content, tmp_path):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(miniclip.InputError, match=r"damaged\.safetensors"):
        files.read(path)


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = tmp_path / "cut.safetensors"
    checkpoints.save(path, CONFIG, random_params())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(miniclip.InputError, match=r"cut\.safetensors: not a safetensors file, or a damaged one"):
        miniclip.load(path)


# --------------------------------------------------------------------------------------- miniclip's own files


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_save_then_load_is_the_identity(tmp_path, dtype):
    tokenizer = miniclip.Tokenizer.train(["a red circle", "a blue circle"] * 9, 600)
    ours = dataclasses.replace(CONFIG, text=dataclasses.replace(CONFIG.text, vocab_size=len(tokenizer)))
    tree = random_params(ours)
    checkpoints.save(tmp_path / "m.safetensors", ours, tree, tokenizer=tokenizer, dtype=dtype)
    config, loaded, read = checkpoints.load(tmp_path / "m.safetensors")
    assert config == ours
    assert same(loaded, params.tree_map(lambda x: np.asarray(x, dtype), tree))
    assert read.merges == tokenizer.merges


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"config": "[" * 100_000}, "recursion"),
        ({"config": "7"}, "not a miniclip configuration"),
        ({"merges": "a b\nc"}, "'c' is no pair of known symbols"),
        ({"merges": "a b\nab c d"}, "'ab c d' is no pair"),
        ({"merges": "日 本"}, "'日 本' is no pair"),
        ({"merges": "a b"}, "its vocabulary has 515 ids, its model 530"),
    ],
)
def test_metadata_that_cannot_be_are_refused(tmp_path, metadata, message):
    path = tmp_path / "m.safetensors"
    tensors = params.flatten(random_params())
    files.write(path, tensors, {"config": json.dumps(CONFIG.to_dict()), **metadata})
    with pytest.raises(miniclip.InputError, match=rf"m\.safetensors: .*{message}"):
        miniclip.load(path)


def test_a_bfloat16_scalar_is_widened(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.tensor(1.5).bfloat16()}, tmp_path / "x.safetensors")
    assert files.read(tmp_path / "x.safetensors")[0]["x"] == 1.5


def test_a_dtype_that_files_do_not_get_is_refused(tmp_path):
    with pytest.raises(miniclip.InputError, match="dtype is 'bfloat16'"):
        checkpoints.save(tmp_path / "m.safetensors", CONFIG, random_params(), dtype="bfloat16")


def test_a_file_that_does_not_fit_its_configuration_is_refused(tmp_path):
    tree = random_params()
    path = tmp_path / "m.safetensors"
    checkpoints.save(path, CONFIG, tree)
    tensors, metadata = files.read(path)
    for change in [{"layers": 4}, {"width": 64}]:
        config = CONFIG.to_dict()
        config["visual"] |= change
        files.write(path, {k: v.copy() for k, v in tensors.items()}, {**metadata, "config": json.dumps(config)})
        with pytest.raises(miniclip.InputError, match=r"m\.safetensors: the parameters do not fit"):
            miniclip.load(path)
    files.write(path, {k: v.copy() for k, v in tensors.items()}, {**metadata, "config": '{"visual": {"depth": 3}}'})
    with pytest.raises(miniclip.InputError, match=r"m\.safetensors: not a miniclip configuration"):
        miniclip.load(path)


@pytest.mark.parametrize(
    "names",
    [
        ["logit_scale", "logit_scale.more"],
        ["visual.blocks.999999999999.ln_1.weight"],
        ["vision_model.encoder.layers.99999999999999999999.layer_norm1.weight"],
        ["visual.patch_embed.weight", "visual.patch_embed.position_embedding", "visual.blocks.0.mlp.fc.weight"],
        [""],
        ["."],
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_files_with_strange_names_are_refused(tmp_path, names, config):
    path = tmp_path / "strange.safetensors"
    metadata = {"config": json.dumps(CONFIG.to_dict())} if config else None
    files.write(path, {name: np.zeros((1, 1), np.float32) for name in names}, metadata)
    with pytest.raises(miniclip.InputError, match=r"strange\.safetensors: "):
        miniclip.load(path)


def test_a_model_that_cannot_be_saved_leaves_nothing_behind(tmp_path):
    tree = random_params()
    del tree["logit_scale"]
    with pytest.raises(miniclip.InputError, match="missing logit_scale"):
        checkpoints.save(tmp_path / "m.safetensors", CONFIG, tree)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------ Hugging Face's directories


def official_model():
    import torch
    from transformers import CLIPConfig as OfficialConfig
    from transformers import CLIPModel

    sizes = {"hidden_size": 64, "intermediate_size": 48, "num_attention_heads": 1}
    torch.manual_seed(0)
    return CLIPModel(
        OfficialConfig(
            vision_config={**sizes, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
            text_config={**sizes, "num_hidden_layers": 12, "vocab_size": 99, "eos_token_id": 98, "bos_token_id": 97},
            projection_dim=16,
        )
    ).eval()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("hf") / "model"
    official_model().save_pretrained(path)
    return path


def test_every_canonical_name_is_hit_exactly_once():
    theirs = official_model().state_dict()
    hits = names.rename({name: x.numpy() for name, x in theirs.items()}, names.HUGGING_FACE)
    config = huggingface.config_from(official_model().config.to_dict())
    assert hits.keys() == params.flatten(config.shapes()).keys()
    sources = [s for value in names.HUGGING_FACE.values() for s in (value if isinstance(value, tuple) else (value,))]
    assert len(sources) == len(set(sources))
    assert sum(x.size for x in hits.values()) == sum(x.numel() for x in theirs.values())


def test_a_sharded_directory_loads_the_same(directory, tmp_path):
    official_model().save_pretrained(tmp_path, max_shard_size="200KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert same(checkpoints.load(tmp_path)[1], checkpoints.load(directory)[1])


def test_a_lone_file_with_hugging_face_names_loads(directory, tmp_path):
    (tmp_path / "lone.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    config, tree, tokenizer = checkpoints.load(tmp_path / "lone.safetensors")
    assert config == infer_config({name: x.shape for name, x in params.flatten(tree).items()})
    assert same(tree, checkpoints.load(directory)[1])
    assert tokenizer is None


def test_a_float16_checkpoint_computes_in_float32(directory, tmp_path, relative_error):
    import torch

    official = official_model()
    official.half().save_pretrained(tmp_path)
    model = miniclip.load(tmp_path)[0]
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        official = official.float()
        theirs = official.visual_projection(official.vision_model(torch.from_numpy(images)).pooler_output)
    features = model.encode_image(images)
    assert features.dtype == np.float32
    assert relative_error(features, theirs.numpy()) < 1e-5


def change_config(directory, target, change):
    """A copy of a Hugging Face directory with its config.json changed."""
    target.mkdir(exist_ok=True)
    for file in directory.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((directory / "config.json").read_text())
    change(config)
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_what_a_config_leaves_out_has_transformers_defaults():
    from transformers import CLIPConfig as OfficialConfig

    ours = huggingface.config_from({"model_type": "clip"})
    assert ours == huggingface.config_from(OfficialConfig().to_dict())
    assert (ours.visual.width, ours.text.width, ours.embed_dim) == (768, 512, 512)
    assert sum(int(np.prod(s)) for s in params.flatten(ours.shapes()).values()) == 151_277_313  # ViT-B/32


@pytest.mark.parametrize(
    "config",
    [
        {"text_config": {"hidden_size": 768}},
        {"text_config": {}, "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12}, "vision_config": None},
        {"text_config": {"hidden_size": 768}, "text_config_dict": {"num_hidden_layers": 3}, "projection_dim": 64},
        {"vision_config": {"image_size": 64}, "vision_config_dict": {"patch_size": 16, "hidden_act": "gelu"}},
        {"vision_config_dict": {}, "vision_config": {"layer_norm_eps": 1e-6, "num_channels": 1}},
    ],
)
def test_configs_are_read_as_transformers_reads_them(config):
    from transformers import CLIPConfig as OfficialConfig

    official = OfficialConfig(**config).to_dict()
    ours = huggingface.config_from({"model_type": "clip", **config})
    for part, theirs in [(ours.visual, official["vision_config"]), (ours.text, official["text_config"])]:
        assert part.width == theirs["hidden_size"]
        assert part.layers == theirs["num_hidden_layers"]
        assert part.heads == theirs["num_attention_heads"]
        assert part.mlp_width == theirs["intermediate_size"]
        assert part.activation == theirs["hidden_act"]
        assert part.eps == theirs["layer_norm_eps"]
    assert (ours.visual.image_size, ours.visual.patch_size, ours.visual.channels) == tuple(
        official["vision_config"][name] for name in ("image_size", "patch_size", "num_channels")
    )
    assert ours.embed_dim == official["projection_dim"]


def test_official_end_of_text_id_2_means_the_highest_id():
    config = {"model_type": "clip", "text_config": {"eos_token_id": 2}}
    assert huggingface.config_from(config).text.eot_token_id is None
    assert huggingface.config_from({"model_type": "clip"}).text.eot_token_id == 49407


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="bert"), r"config\.json: .* model_type is 'bert'"),
        (lambda c: c["vision_config"].update(num_hidden_layers=1), "unexpected .*visual.blocks.1.ln_1.weight"),
        (lambda c: c["vision_config"].update(num_hidden_layers=3), "missing visual.blocks.2.ln_1.weight"),
        (lambda c: c["text_config"].update(hidden_size=128), "text.embed.table is .99, 64., expected .99, 128."),
        (lambda c: c["text_config"].update(hidden_act="relu6"), "activation .*'relu6'"),
        (lambda c: c["text_config"].update(num_attention_heads=5), "64 .*5 heads"),
        (lambda c: c["text_config"].update(hidden_size="wide"), r"config\.json.* width is 'wide'"),
        (lambda c: c["text_config"].update(num_hidden_layers=10**9), "layers is 1000000000, expected at most 1000"),
        (lambda c: c["text_config"].update(num_hidden_layers=True), "layers is True"),
        (lambda c: c["text_config"].update(layer_norm_eps="1e-5"), "eps is '1e-5'"),
        (lambda c: c["text_config"].update(layer_norm_eps=-1.0), "eps is -1.0"),
        (lambda c: c["text_config"].update(eos_token_id=99), "eot_token_id is 99, expected None or an id below 99"),
        (lambda c: c["text_config"].update(eos_token_id=[98]), "eot_token_id is .98."),
        (lambda c: c["vision_config"].update(patch_size=64), "patches of 64 pixels do not fit"),
        (lambda c: c.update(text_config=[1, 2]), r"config\.json"),
    ],
)
def test_configs_that_do_not_fit_are_refused_by_name(directory, tmp_path, change, message):
    broken = change_config(directory, tmp_path / "broken", change)
    with pytest.raises(miniclip.InputError, match=f"(?s)broken.*{message}"):
        miniclip.load(broken)


def test_a_lone_file_beside_its_config_has_that_configuration(directory, tmp_path):
    gelu = change_config(directory, tmp_path / "m", lambda c: c["vision_config"].update(hidden_act="gelu"))
    assert checkpoints.load(gelu / "model.safetensors")[0] == checkpoints.load(gelu)[0]
    assert checkpoints.load(gelu)[0].visual.activation == "gelu"


@pytest.mark.parametrize("alone", [True, False])
def test_position_ids_of_older_files_are_passed_over(directory, tmp_path, alone):
    target = change_config(directory, tmp_path / "m", lambda config: None)
    tensors, _ = files.read(target / "model.safetensors")
    tensors = {name: x.copy() for name, x in tensors.items()}
    tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]
    tensors["vision_model.embeddings.position_ids"] = np.arange(17)[None]
    files.write(target / "model.safetensors", tensors)
    if alone:
        (target / "config.json").unlink()
    assert same(checkpoints.load(target / "model.safetensors" if alone else target)[1], checkpoints.load(directory)[1])


@pytest.mark.parametrize("shapes", [((64, 64), (64, 32)), ((), ()), ((0, 64), (128, 64))])
def test_queries_and_keys_that_cannot_be_packed_are_named(directory, tmp_path, shapes):
    target = change_config(directory, tmp_path / "m", lambda config: None)
    tensors = {name: x.copy() for name, x in files.read(target / "model.safetensors")[0].items()}
    for kind, shape in zip("qk", shapes):
        tensors[f"text_model.encoder.layers.0.self_attn.{kind}_proj.weight"] = np.zeros(shape, np.float32)
    files.write(target / "model.safetensors", tensors)
    with pytest.raises(miniclip.InputError, match=r"missing text\.blocks\.0\.attention\.qkv\.weight"):
        miniclip.load(target)


def test_a_vocabulary_in_the_directory_is_the_models_own(directory, tmp_path):
    target = change_config(
        directory, tmp_path / "m", lambda c: c["text_config"].update(vocab_size=516, eos_token_id=515)
    )
    tensors = {name: x.copy() for name, x in files.read(target / "model.safetensors")[0].items()}
    tensors["text_model.embeddings.token_embedding.weight"] = np.zeros((516, 64), np.float32)
    files.write(target / "model.safetensors", tensors)
    tokenizer = miniclip.Tokenizer.train(["abc abc ab ab"], 516)
    tokenizer.save(target / "merges.txt")
    model = miniclip.load(target)[0]
    assert model.tokenizer.merges == tokenizer.merges
    np.testing.assert_array_equal(model.tokenize("ab")[0, :3], [514, *tokenizer.encode("ab"), 515][:3])
    (target / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(miniclip.InputError, match=r"merges\.txt: has 1 merges, but 516 ids need 2"):
        miniclip.load(target)


def test_directories_that_lack_a_file_are_refused_by_name(directory, tmp_path):
    with pytest.raises(miniclip.InputError, match=r"config\.json: cannot be read: No such file"):
        miniclip.load(tmp_path)
    target = change_config(directory, tmp_path / "m", lambda config: None)
    (target / "model.safetensors").unlink()
    with pytest.raises(miniclip.InputError, match=r"model\.safetensors: cannot be read: No such file"):
        miniclip.load(target)
    (target / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        miniclip.InputError, match=r"m: has its weights in pytorch_model\.bin; save them as safetensors"
    ):
        miniclip.load(target)
    (target / "config.json").write_text("[" * 100_000)
    with pytest.raises(miniclip.InputError, match=r"config\.json: not JSON"):
        miniclip.load(target)
    (target / "config.json").write_text("{")
    with pytest.raises(miniclip.InputError, match=r"config\.json: not JSON"):
        miniclip.load(target)
    (target / "config.json").write_text("[]")
    with pytest.raises(miniclip.InputError, match=r"config\.json: expected a JSON object"):
        miniclip.load(target)


def test_an_index_cannot_lead_out_of_its_directory(directory, tmp_path):
    target = change_config(directory, tmp_path / "m", lambda config: None)
    (target / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"logit_scale": "../outside.safetensors"}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(miniclip.InputError, match=r"m/outside\.safetensors: cannot be read"):
        miniclip.load(target)
