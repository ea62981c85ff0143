"""PEFT's adapters that do not fit, are damaged, or have a setting that we do not have: each is refused by name."""

import json
import random

import numpy as np
import pytest
import torch
from peft_adapters import AS_OPENAI, changed, check, made, ours

import miniclip
from miniclip import InputError, checkpoints, params
from miniclip.checkpoints import peft as adapters
from miniclip.formats import safetensors

peft = pytest.importorskip("peft", reason="pip install peft")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    modules = ["q_proj", "v_proj", "fc1", "visual_projection"]
    return made(tmp_path_factory.mktemp("small"), sizes=AS_OPENAI, target_modules=modules)


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
