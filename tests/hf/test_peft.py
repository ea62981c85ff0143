"""PEFT on the models of miniclip.hf: what it puts around their layers computes as around transformers' own."""

import warnings
import zlib

import numpy as np
import pytest
import torch
from hf_models import ALIGN, ALT, CHINESE, CLIP, batch, official

from miniclip import InputError, hf

peft = pytest.importorskip("peft", reason="pip install peft")

SIZES = {"CLIP": CLIP["end of text by id"], "Align": ALIGN["small"]}
SIZES |= {"ChineseCLIP": CHINESE["small"], "AltCLIP": ALT["small"]}
CASES = {
    "queries alone": ("CLIP", {"target_modules": ["q_proj"]}),
    "all linear": ("CLIP", {"target_modules": "all-linear", "use_rslora": True}),
    "patches and embeddings": (
        "CLIP",
        {"target_modules": ["patch_embedding", "token_embedding", "position_embedding"]},
    ),
    "biases": ("CLIP", {"target_modules": ["fc1"], "bias": "all"}),
    "whole modules": ("CLIP", {"target_modules": ["v_proj"], "modules_to_save": ["visual_projection", "pre_layrnorm"]}),
    "ALIGN": ("Align", {"target_modules": "all-linear"}),
    "Chinese-CLIP": ("ChineseCLIP", {"target_modules": "all-linear"}),
    "AltCLIP": ("AltCLIP", {"target_modules": "all-linear"}),
}


def adapted(model, **settings):
    """PEFT's model with an adapter whose every parameter has been trained: none is 0, and each depends on its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "lora_alpha": 8, **settings})).eval()
    for name, x in model.named_parameters():
        if x.requires_grad:
            torch.manual_seed(zlib.crc32(name.encode()))
            x.data = 0.1 * torch.randn_like(x)
    return model


@pytest.fixture
def both(request, tmp_path):
    """(transformers' model, ours), each with the same adapter of PEFT."""
    family, settings = CASES[request.param]
    theirs = official(family, SIZES[family])
    theirs.save_pretrained(tmp_path / "m")
    ours = getattr(hf, f"{family}Model").from_pretrained(tmp_path / "m", backend="torch")
    return adapted(theirs, **settings), adapted(ours, **settings)


def outputs(model):
    inputs = batch(model.get_base_model().config)
    found = model(**inputs)
    return [found.logits_per_image, found.image_embeds, found.text_embeds]


def check(ours, theirs):
    for x, y in zip(ours, theirs):
        x, y = x.detach().numpy(), y.detach().numpy()
        assert np.abs(x - y).max() < 1e-5 * np.abs(y).max()


@pytest.mark.parametrize("both", CASES, indirect=True)
def test_features_gradients_and_merging_are_as_on_transformers_models(both, tmp_path):
    theirs, ours = both
    trained = [{name for name, x in model.named_parameters() if x.requires_grad} for model in both]
    assert trained[0] == trained[1]
    gradients = []
    for model in (ours, theirs):
        found = outputs(model)
        torch.nn.functional.cross_entropy(found[0], torch.arange(3)).backward()
        gradients.append({name: x.grad for name, x in model.named_parameters() if x.requires_grad})
    largest = max(x.abs().max() for x in gradients[1].values() if x is not None)
    for name, x in gradients[1].items():
        assert (x is None) == (gradients[0][name] is None), name
        assert x is None or (gradients[0][name] - x).abs().max() < 1e-4 * largest, name
    with torch.no_grad():
        changed = outputs(ours)
        check(changed, outputs(theirs))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # biases stay as they are
            with ours.disable_adapter(), theirs.disable_adapter():
                check(outputs(ours), outputs(theirs))
                assert (outputs(ours)[0] - changed[0]).abs().max() > 1e-3
        check(outputs(ours), changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours.save_pretrained(tmp_path / "a")
        ours.merge_adapter()
        check(outputs(ours), changed)
        ours.unmerge_adapter()
        check(outputs(ours), changed)
        merged = ours.merge_and_unload()
        inputs = batch(merged.config)
        check([merged(**inputs).logits_per_image], changed[:1])
    again = getattr(hf, type(merged).__name__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = peft.PeftModel.from_pretrained(again.from_pretrained(tmp_path / "m", backend="torch"), tmp_path / "a")
    with torch.no_grad():
        check(outputs(again), changed)


def clip(tmp_path):
    official("CLIP", SIZES["CLIP"]).save_pretrained(tmp_path / "m")
    return hf.CLIPModel.from_pretrained(tmp_path / "m", backend="torch")


def test_another_adapter_and_an_optimizer_s_step_are_seen(tmp_path):
    model = adapted(clip(tmp_path), target_modules=["q_proj"], modules_to_save=["visual_projection"])
    with torch.no_grad():
        first = outputs(model)[1]
        model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["fc1"], modules_to_save=["visual_projection"]))
        model.set_adapter("other")
        for name, x in model.named_parameters():
            if "modules_to_save.other" in name:
                x.mul_(-1)
        second = outputs(model)[1]
        assert (first - second).abs().max() > 0.1
        model.set_adapter("default")
        check([outputs(model)[1]], [first])
    optimizer = torch.optim.SGD([x for x in model.parameters() if x.requires_grad], lr=1.0)
    outputs(model)[0].sum().backward()
    optimizer.step()
    with torch.no_grad():
        assert (outputs(model)[1] - first).abs().max() > 1e-3


def test_half_precision_stays_half(tmp_path):
    model = adapted(clip(tmp_path).half(), target_modules=["patch_embedding", "q_proj"])
    inputs = batch(model.get_base_model().config)
    with torch.no_grad():
        found = model(inputs["input_ids"], inputs["pixel_values"].half())
    assert found.image_embeds.dtype == found.text_embeds.dtype == torch.float16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (peft.LoraConfig(target_modules=["q_proj"], lora_dropout=0.1), r"q_proj has dropout in its adapter default"),
        (peft.LoraConfig(target_modules=["q_proj"], use_dora=True), r"q_proj has another adapter than plain LoRA"),
        (peft.LoraConfig(target_modules=["q_proj"], lora_bias=True), r"q_proj has another adapter than plain LoRA"),
        (peft.LoHaConfig(target_modules=["q_proj"]), r"q_proj is now a Linear, which miniclip does not call"),
    ],
)
def test_what_is_not_added_to_a_weight_is_refused(config, message, tmp_path):
    model = peft.get_peft_model(clip(tmp_path), config)
    with pytest.raises(InputError, match=message):
        outputs(model.train())
    if getattr(config, "lora_dropout", 0):
        outputs(model.eval())  # where it has no effect


def test_a_hook_of_an_adapter_is_refused(tmp_path):
    model = adapted(clip(tmp_path), target_modules=["q_proj"])
    layer = model.get_base_model().vision_model.encoder.layers[0].self_attn.q_proj
    layer.register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="q_proj has a hook, which miniclip does not call"):
        outputs(model)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_an_adapter_s_directory_is_loaded_with_its_base(backend, tmp_path):
    model = adapted(clip(tmp_path), target_modules=["q_proj", "fc1"])
    model.save_pretrained(tmp_path / "a")
    loaded = hf.CLIPModel.from_pretrained(tmp_path / "a", backend=backend)
    inputs = batch(model.get_base_model().config)
    with torch.no_grad():
        check([torch.as_tensor(loaded(**inputs).logits_per_image)], outputs(model)[:1])
    tower = hf.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "a", backend=backend)
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(torch.as_tensor(tower(inputs["pixel_values"]).image_embeds))
        check([wanted], outputs(model)[1:2])
    (tmp_path / "a" / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(OSError, match="does not say which model it belongs to"):
        hf.CLIPModel.from_pretrained(tmp_path / "a")
