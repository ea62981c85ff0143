"""PEFT's adapters: merged by us they give the features that PEFT gives, and PEFT loads those that we write."""

import json
import random
import warnings

import numpy as np
import pytest
import torch
from hf_models import ALIGN, CLIP, TEXT, VISION, batch, official

import miniclip
from miniclip import InputError, checkpoints, params
from miniclip.checkpoints import peft as adapters
from miniclip.checkpoints.convert import convert
from miniclip.config import CLIPConfig, ResNetConfig
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.formats import safetensors
from miniclip.train import lora

peft = pytest.importorskip("peft", reason="pip install peft")
transformers = pytest.importorskip("transformers")

SIZES = {"CLIP": CLIP["end of text by id"], "Align": ALIGN["small"]}
AS_OPENAI = {"text_config": {**TEXT, "eos_token_id": 2}, "vision_config": VISION, "projection_dim": 24}
CASES = {
    "queries, keys and values": {"target_modules": ["q_proj", "k_proj", "v_proj"]},
    "queries alone": {"target_modules": ["q_proj"], "lora_alpha": 3.5},
    "attention and MLP": {"target_modules": ["v_proj", "out_proj", "fc1", "fc2"], "lora_dropout": 0.1},
    "all linear": {"target_modules": "all-linear"},
    "a regular expression": {"target_modules": r"vision_model\.encoder\.layers\.[12]\..*(q_proj|fc1)"},
    "one module": {"target_modules": ["text_model.encoder.layers.1.mlp.fc2"]},
    "all but some": {"target_modules": "all-linear", "exclude_modules": ["v_proj", "text_projection"]},
    "some layers": {"target_modules": ["k_proj"], "layers_to_transform": [0, 2]},
    "a layer of a list": {"target_modules": ["k_proj"], "layers_to_transform": 1, "layers_pattern": "layers"},
    "rank-stabilised": {"target_modules": ["q_proj", "fc1"], "use_rslora": True},
    "several ranks and scales": {
        "target_modules": ["q_proj", "fc1", "visual_projection"],
        "rank_pattern": {"fc1": 2, r"layers\.0\..*q_proj": 6},
        "alpha_pattern": {"vision_model.encoder.layers.1.mlp.fc1": 1, "q_proj": 5},
    },
    "projections": {"target_modules": ["visual_projection", "text_projection"]},
    "patches and embeddings": {"target_modules": ["patch_embedding", "token_embedding", "position_embedding"]},
    "biases of the targets": {"target_modules": ["q_proj", "fc1"], "bias": "lora_only"},
    "all biases": {"target_modules": ["q_proj", "patch_embedding"], "bias": "all"},
    "whole modules": {"target_modules": ["q_proj"], "modules_to_save": ["visual_projection", "pre_layrnorm", "fc1"]},
    "whole embeddings": {"target_modules": "all-linear", "modules_to_save": ["embeddings", "text_projection"]},
    "transposed": {"target_modules": ["fc1"], "fan_in_fan_out": True},
    "another start": {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"},
}
ALIGNS = {
    "all linear": {"target_modules": "all-linear"},
    "attention and embeddings": {"target_modules": ["query", "value", "word_embeddings", "token_type_embeddings"]},
    "squeezed convolutions": {"target_modules": ["reduce", "squeeze_excite.expand"], "bias": "lora_only"},
}


def trained(model, **settings):
    """PEFT's model with an adapter whose every parameter has been trained: none is 0."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fan_in_fan_out, and embeddings
        model = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "lora_alpha": 8, **settings}))
    with torch.no_grad():
        for x in model.parameters():
            if x.requires_grad:
                x.add_(0.1 * torch.randn_like(x))
    return model.eval()


def features(model, inputs):
    """[those of pictures, those of texts] of a model of transformers or PEFT."""
    images = {"pixel_values": inputs["pixel_values"]}
    texts = {name: x for name, x in inputs.items() if name != "pixel_values"}
    with torch.no_grad():
        found = model.get_image_features(**images), model.get_text_features(**texts)
    return [x.pooler_output.numpy() for x in found]


def ours(model, inputs):
    padded = {"lengths": inputs["attention_mask"].numpy().sum(1)} if model.config.family == "align" else {}
    texts = model.encode_text(inputs["input_ids"].numpy(), **padded)
    return [model.encode_image(inputs["pixel_values"].numpy()), texts]


def check(found, wanted, tolerance):
    for x, y in zip(found, wanted):
        assert np.abs(x - y).max() <= tolerance * np.abs(y).max()


def made(tmp_path, family="CLIP", sizes=None, **settings):
    """(the base's directory, the adapter's, inputs, features of the adapted model, and of the merged one)."""
    model = official(family, sizes or SIZES[family])
    model.save_pretrained(tmp_path / "base")
    inputs, before = batch(model.config), features(model, batch(model.config))
    model.name_or_path = str(tmp_path / "base")  # what transformers remembers of a model that it has loaded
    model = trained(model, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # embeddings are saved too
        model.save_pretrained(tmp_path / "adapter")
    apart, merged = features(model, inputs), features(model.merge_and_unload(), inputs)
    assert max(np.abs(x - y).max() for x, y in zip(before, apart)) > 1e-3  # the adapter changes something
    return tmp_path / "base", tmp_path / "adapter", inputs, apart, merged


@pytest.mark.parametrize(
    ("family", "settings"),
    [("CLIP", x) for x in CASES.values()] + [("Align", x) for x in ALIGNS.values()],
    ids=[*CASES, *(f"ALIGN: {name}" for name in ALIGNS)],
)
def test_merged_features_are_peft_s(family, settings, tmp_path):
    base, adapter, inputs, apart, merged = made(tmp_path, family, **settings)
    model, _ = miniclip.load(base, backend="numpy", adapter=adapter)
    check(ours(model, inputs), merged, 2e-6)
    check(ours(model, inputs), apart, 1e-5)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    modules = ["q_proj", "v_proj", "fc1", "visual_projection"]
    return made(tmp_path_factory.mktemp("small"), sizes=AS_OPENAI, target_modules=modules)


@pytest.mark.parametrize("to", ["miniclip", "hf", "open_clip"])
def test_the_base_may_have_any_form(to, small, tmp_path):
    base, adapter, inputs, _, merged = small
    convert(base, tmp_path / "base", to)
    model, _ = miniclip.load(tmp_path / "base", backend="numpy", adapter=adapter)
    check(ours(model, inputs), merged, 2e-6)


def test_an_adapter_names_its_base(small, tmp_path, monkeypatch):
    base, adapter, inputs, _, merged = small
    check(ours(miniclip.load(adapter, backend="numpy")[0], inputs), merged, 2e-6)
    changed(adapter, tmp_path / "a", lambda settings, _: settings.update(base_model_name_or_path="base"))
    monkeypatch.chdir(base.parent)  # where a relative path begins, as in PEFT
    check(ours(miniclip.load(tmp_path / "a", backend="numpy")[0], inputs), merged, 2e-6)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"a: belongs to the model 'base': .*; load .* with adapter='.*a'"):
        miniclip.load(tmp_path / "a")
    changed(adapter, tmp_path / "b", lambda settings, _: settings.update(base_model_name_or_path=None))
    with pytest.raises(InputError, match=r"adapter_config\.json: does not say which model it belongs to"):
        miniclip.load(tmp_path / "b")
    with pytest.raises(InputError, match="adapter: is an adapter itself, and adapter is"):
        miniclip.load(adapter, adapter=adapter)


def test_a_merged_model_is_converted(small, tmp_path):
    base, adapter, inputs, _, merged = small
    convert(base, tmp_path / "m", "hf", adapter=adapter)
    check(features(transformers.CLIPModel.from_pretrained(tmp_path / "m"), inputs), merged, 1e-5)


def test_a_merge_is_rounded_once(small, tmp_path):
    """It is computed in float32, whatever the weights are stored as."""
    base, adapter, _, _, _ = small
    convert(base, tmp_path / "half.safetensors", "miniclip", dtype="float16")
    before = params.flatten(checkpoints.load(tmp_path / "half.safetensors")[1])
    after = params.flatten(checkpoints.load(tmp_path / "half.safetensors", adapter=adapter, mmap=True)[1])
    wanted = params.flatten(checkpoints.load(tmp_path / "half.safetensors", adapter=adapter, dtype="float64")[1])
    for name, x in after.items():
        assert x.dtype == before[name].dtype
        exact, ulp = wanted[name], np.spacing(np.abs(wanted[name]).astype(x.dtype))
        assert (np.abs(x - exact) <= 0.5 * ulp + 1e-7).all(), name


@pytest.mark.parametrize(
    ("kind", "tower"),
    [
        ("CLIPTextModel", "text"),
        ("CLIPTextModelWithProjection", "text"),
        ("CLIPVisionModel", "visual"),
        ("CLIPVisionModelWithProjection", "visual"),
    ],
)
@pytest.mark.parametrize("whole", [True, False], ids=["on the whole model", "on the tower"])
def test_adapters_of_one_tower(kind, tower, whole, tmp_path):
    """transformers 5 leaves the tower out of the names of a bare one."""
    sizes = {x: {**y, "projection_dim": 24} if isinstance(y, dict) else y for x, y in SIZES["CLIP"].items()}
    official("CLIP", sizes).save_pretrained(tmp_path / "whole")
    model = getattr(transformers, kind).from_pretrained(tmp_path / "whole").eval()
    model.save_pretrained(tmp_path / "tower")
    model = trained(model, target_modules=["q_proj", "fc1"])
    model.save_pretrained(tmp_path / "adapter")
    inputs = batch(transformers.CLIPConfig.from_pretrained(tmp_path / "whole"))
    given = {"pixel_values": inputs.pop("pixel_values")} if tower == "visual" else inputs
    with torch.no_grad():
        found = model(**given)
    found = (found.pooler_output if "Projection" not in kind else found[0]).numpy()
    base = tmp_path / ("whole" if whole else "tower")
    loaded, _ = miniclip.load(base, backend="numpy", adapter=tmp_path / "adapter", tower=tower)
    if whole and "Projection" not in kind:
        found = found @ loaded.params[tower]["projection"]["weight"].T
    encode = {"visual": loaded.encode_image, "text": loaded.encode_text}[tower]
    check([encode(next(iter(given.values())).numpy())], [found], 1e-5)


def test_a_classifier_is_left_out(tmp_path):
    """As it is when a CLIPForImageClassification itself is loaded."""
    config = transformers.CLIPConfig(**SIZES["CLIP"], num_labels=3)
    model = transformers.CLIPForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "base")
    model = trained(model, target_modules=["q_proj"], modules_to_save=["classifier"])
    model.save_pretrained(tmp_path / "adapter")
    images = batch(config)["pixel_values"]
    with torch.no_grad():
        wanted = model.base_model.model.vision_model(pixel_values=images).pooler_output.numpy()
    loaded, _ = miniclip.load(tmp_path / "base", backend="numpy", adapter=tmp_path / "adapter")
    check([loaded.encode_image(images.numpy())], [wanted], 1e-5)


# ---------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("family", SIZES)
def test_peft_loads_what_we_write(family, tmp_path):
    base = official(family, SIZES[family])
    base.save_pretrained(tmp_path / "base")
    config, tree, _ = checkpoints.load(tmp_path / "base")
    patterns = [lora.ALL_LINEAR, "text.embed", "text.position_embedding"]
    patterns += ["visual.patch_embed", "visual.patch_embed.position_embedding"] if family == "CLIP" else []
    rng = np.random.default_rng(0)
    start = lora.init(tree, 3, lora.targets(tree, patterns), rng)
    adapter = {name: (A, (0.1 * rng.standard_normal(B.shape)).astype(np.float32)) for name, (A, B) in start.items()}
    adapters.save(tmp_path / "adapter", config, adapter, 6, base=tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT asks transformers for an attribute that is going to be removed
        loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    inputs = batch(loaded.config)
    model = miniclip.families.of(config).model(config, lora.merge(tree, adapter, 6 / 3), miniclip.ops.numpy_ops)
    check(ours(model, inputs), features(loaded, inputs), 1e-5)
    assert sum(x.numel() for name, x in loaded.named_parameters() if "lora_" in name) == lora.trained_parameters(
        adapter
    )
    # and so do we, by the name of the base
    again = params.flatten(miniclip.load(tmp_path / "adapter", backend="numpy")[0].params)
    for name, x in params.flatten(model.params).items():
        assert again[name] == pytest.approx(x, rel=1e-6, abs=1e-6), name


def test_what_peft_s_files_cannot_have_is_refused(small, tmp_path):
    config, tree, _ = checkpoints.load(small[0])
    rng = np.random.default_rng(0)
    adapter = lora.init(tree, 2, ["text.projection.weight"], rng)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="there: exists already"):
        adapters.save(tmp_path / "there", config, adapter, 2)
    for pairs in ({}, adapter | lora.init(tree, 3, ["visual.projection.weight"], rng)):
        with pytest.raises(InputError, match=r"has pairs of one rank, these have (none|\[2, 3\])"):
            adapters.save(tmp_path / "a", config, pairs, 2)
    resnet = ResNetConfig(image_size=64, width=8, layers=(1, 1, 1, 1), heads=4)
    stages = ((1, 16, 3, 2, 1), (1, 24, 3, 2, 6))
    bert = BertConfig(16, 6, width=8, layers=1, heads=2, mlp_width=16)
    for other, name in (
        (CLIPConfig(resnet, config.text, embed_dim=24), "visual.attention_pool.q.weight"),
        (ALIGNConfig(EfficientNetConfig(33, 40, 1.0, 1.0, stages=stages), bert, embed_dim=24), "visual.stem.weight"),
    ):
        tree = params.tree_map(lambda shape: np.ones(shape, np.float32), other.shapes())
        with pytest.raises(InputError, match=f"{name}: PEFT's files cannot have a pair for it"):
            adapters.save(tmp_path / "a", other, lora.init(tree, 2, [name], rng), 2)
    assert not (tmp_path / "a").exists()


# ------------------------------------------------------------------------------------------------ damaged adapters


def changed(adapter, target, change):
    """A copy of an adapter's directory; `change(settings, tensors)` changes what is in its files."""
    settings = json.loads((adapter / adapters.CONFIG).read_text())
    tensors, metadata = safetensors.read(adapter / adapters.WEIGHTS[0])
    change(settings, tensors)
    target.mkdir()
    (target / adapters.CONFIG).write_text(json.dumps(settings))
    safetensors.write(target / adapters.WEIGHTS[0], tensors, metadata)
    return target


Q = "base_model.model.text_model.encoder.layers.1.self_attn.q_proj"


def renamed(old, new):
    def change(_, tensors):
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def setting(**values):
    return lambda settings, _: settings.update(values)


def tensor(name, shape, dtype=np.float32):
    return lambda _, tensors: tensors.update({name: np.ones(shape, dtype)})


def without(*ends):
    def change(_, tensors):
        for name in [name for name in tensors if name.endswith(ends)]:
            del tensors[name]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting(peft_type="LOHA"), r"config\.json: peft_type is 'LOHA', expected 'LORA': merge it with PEFT"),
        (setting(use_dora=True), r"config\.json: use_dora is True, which miniclip does not have: merge it with PEFT"),
        (setting(lora_bias=True), "lora_bias is True, which"),
        (setting(trainable_token_indices=[3]), r"trainable_token_indices is \[3\], which"),
        (setting(invented_next_year={"x": 1}), "invented_next_year is {'x': 1}, which"),
        (setting(init_lora_weights="pissa"), "init_lora_weights is 'pissa', which has changed the model's weights"),
        (setting(r=5), r"safetensors: .*lora_A\.weight is \(4, \d+\), expected \(5, \d+\)"),
        (setting(r=0), "has rank 0 and alpha 8, expected"),
        (setting(lora_alpha="8"), "has rank 4 and alpha '8', expected"),
        (setting(lora_alpha=float("nan")), "has rank 4 and alpha nan, expected"),
        (setting(lora_alpha=10**400), "has rank 4 and alpha 1000"),
        (setting(rank_pattern={"q_proj": 2}), r"q_proj\.lora_A\.weight is \(4, 48\), expected \(2, 48\)"),
        (setting(rank_pattern=[2]), r"rank_pattern is \[2\]: not the settings of an adapter"),
        (setting(target_modules=7), "target_modules is 7: not the settings of an adapter"),
        (setting(target_modules=None), "target_modules does not name .*, which has a pair in the weights"),
        (setting(target_modules=["q_proj", "fc1", "visual_projection"]), "does not name .*v_proj, which has a pair"),
        (setting(target_modules=".*(q_proj|v_proj|fc1|fc2|_projection)"), "names .*fc2, which has no pair"),
        (setting(target_modules="all-linear"), "names .*k_proj, which has no pair"),
        (setting(target_modules="(q_proj"), r"'\(q_proj' cannot be used as a regular expression"),
        (setting(target_modules="(.|..|...|....)+(?<!j)"), "cannot be used as a regular expression"),
        (setting(layers_to_transform=[0]), r"does not name .*layers\.1\..*, which has a pair"),
        (setting(modules_to_save=["q_proj"]), "does not name .*q_proj, which has a pair"),
        (without(f"{Q[17:]}.lora_A.weight", f"{Q[17:]}.lora_B.weight"), r"names .*1\.self_attn\.q_proj, which has no"),
        (without(f"{Q[17:]}.lora_B.weight"), r"q_proj has lora_A\.weight, expected lora_A\.weight and lora_B\.weight"),
        (without("weight"), r"safetensors: has no pairs lora_A and lora_B"),
        (tensor(f"{Q}.lora_A.weight", (4, 47)), r"q_proj\.lora_A\.weight is \(4, 47\), expected \(4, 48\)"),
        (tensor(f"{Q}.lora_B.weight", (48, 4, 1, 1)), r"lora_B\.weight is \(48, 4, 1, 1\), expected \(48, 4\)"),
        (tensor(f"{Q}.lora_A.weight", (4, 48), np.int64), r"lora_A\.weight \(int64\) is not part of an adapter"),
        (tensor(f"{Q}.lora_embedding_A", (4, 48)), "q_proj has .*lora_embedding_A.*, expected lora_A"),
        (
            tensor(f"{Q}.lora_magnitude_vector", (48,)),
            r"changes .*q_proj\.lora_magnitude_vector, which this",
        ),
        (tensor(f"{Q}.base_layer.bias", (47,)), r"self_attn\.q_proj\.bias is \(47,\), expected \(48,\)"),
        (tensor("optimizer.step", ()), r"optimizer\.step \(float32\) is not part of an adapter"),
        (renamed("text_model.", "language_model."), r"safetensors: changes language_model\..*, which this model does"),
        (renamed("layers.1", "layers.7"), r"changes text_model\.encoder\.layers\.7.*; load|which this model does not"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(change, message, small, tmp_path):
    adapter = changed(small[1], tmp_path / "a", change)
    with pytest.raises(InputError, match=message) as error:
        checkpoints.load(small[0], adapter=adapter)
    assert str(error.value).startswith(str(adapter))


VALUES = [None, True, 0, -1, 2.5, 10**30, float("inf"), "", "(", "*", ".*", "all-linear", "q_proj", "\0"]
VALUES += [
    [],
    [1],
    [None],
    ["q_proj"],
    ["("],
    [["a"]],
    {},
    {"fc1": 2},
    {"(": 1},
    {"fc1": None},
    {"base_model_class": 3},
]


def test_any_settings_are_used_or_refused_in_one_sentence(small, tmp_path):
    config, tree, _ = checkpoints.load(small[0])
    adapter, draw = changed(small[1], tmp_path / "a", setting()), random.Random(0)
    path, refused = adapter / adapters.CONFIG, 0
    settings = json.loads(path.read_text())
    for _ in range(300):
        wrong = {draw.choice(list(settings)): draw.choice(VALUES) for _ in range(draw.choice([1, 1, 2]))}
        path.write_text(json.dumps(settings | wrong))
        try:
            adapters.merge(params.flatten(tree), config, adapter)
        except InputError as error:
            assert str(error).startswith(str(adapter)), wrong
            refused += 1
    assert 100 < refused < 300


def test_files_of_an_adapter_that_are_missing_or_damaged_are_named(small, tmp_path):
    adapter = changed(small[1], tmp_path / "a", setting())
    (adapter / adapters.WEIGHTS[0]).write_bytes(b"\x08")
    with pytest.raises(InputError, match=r"a/adapter_model\.safetensors: "):
        checkpoints.load(small[0], adapter=adapter)
    (adapter / adapters.WEIGHTS[0]).unlink()
    with pytest.raises(InputError, match=r"a: has adapter_config\.json, but no weights: expected adapter_model\.s"):
        checkpoints.load(small[0], adapter=adapter)
    (adapter / adapters.CONFIG).write_text("[]")
    with pytest.raises(InputError, match=r"adapter_config\.json: expected a JSON object"):
        miniclip.load(small[0], adapter=adapter)
    with pytest.raises(InputError, match=r"base/adapter_config\.json: cannot be read"):
        miniclip.load(small[0], adapter=small[0])


def test_an_old_file_of_torch_is_read_too(small, tmp_path):
    base, adapter, inputs, _, merged = small
    adapter = changed(adapter, tmp_path / "a", setting())
    tensors, _ = safetensors.read(adapter / adapters.WEIGHTS[0])
    torch.save({name: torch.from_numpy(x.copy()) for name, x in tensors.items()}, adapter / adapters.WEIGHTS[1])
    (adapter / adapters.WEIGHTS[0]).unlink()
    check(ours(miniclip.load(base, backend="numpy", adapter=adapter)[0], inputs), merged, 2e-6)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"target_modules": ["expand_conv"]}, "expand_conv"),
        ({"target_modules": ["query"], "modules_to_save": ["convolution"]}, r"embeddings\.convolution"),
    ],
)
def test_convolutions_with_a_batchnorm_are_refused(settings, name, tmp_path):
    base, adapter, *_ = made(tmp_path, "Align", **settings)
    with pytest.raises(
        InputError, match=rf"{name}\.weight, whose BatchNorm is a part of it in miniclip: merge it with"
    ):
        miniclip.load(base, adapter=adapter)


def test_a_directory_of_an_adapter_is_no_model(small):
    with pytest.raises(InputError, match=r"adapter: has an adapter of PEFT .*with adapter='.*adapter'"):
        checkpoints.load(small[1])
    with pytest.raises(InputError, match=r"safetensors: has an adapter of PEFT, .* as in adapter='.*adapter'"):
        checkpoints.load(small[1] / adapters.WEIGHTS[0])
