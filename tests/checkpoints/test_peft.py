"""PEFT's adapters: merged by us they give the features that PEFT gives, and PEFT loads those that we write."""

import warnings

import numpy as np
import pytest
import torch
from hf_models import batch, official
from peft_adapters import AS_OPENAI, SIZES, changed, check, features, made, ours, trained

import miniclip
from miniclip import InputError, checkpoints, params
from miniclip.checkpoints import peft as adapters
from miniclip.checkpoints.convert import convert
from miniclip.config import CLIPConfig, ResNetConfig
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.train import lora

peft = pytest.importorskip("peft", reason="pip install peft")
transformers = pytest.importorskip("transformers")


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
