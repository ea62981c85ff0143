"""The model in a file of weights: under which prefix its names are, beside what, and what a refusal shows."""

import time

import numpy as np
import pytest
import torch

import miniclip
from miniclip import checkpoints, params
from miniclip.formats import safetensors

SIZES = (16, 40, 2, 64, 8, 11, 100, 64, 1, 2)
AROUND = ["module.", "_orig_mod.", "model.", "clip.", "clip_model.", "base_model.model.", "text.", "net.0.", "a.b.c."]
KEYS = [
    "state_dict",
    "model_state_dict",
    "model",
    "ema",
    "model_ema",
    "state_dict_ema",
    "net",
    "params",
    "module",
    "x.y",
]


@pytest.fixture(scope="module")
def expected(official_model, tmp_path_factory):
    """(the weights of an official model, the parameter tree that miniclip makes of them)."""
    state = official_model(*SIZES).state_dict()
    path = tmp_path_factory.mktemp("expected") / "m.pt"
    torch.save(state, path)
    return state, checkpoints.load(path, as_openai=True)[1]


def save(tensors, path):
    if path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        safetensors.write(path, {name: x.numpy() for name, x in tensors.items()})


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", [*AROUND, "module.model."])
def test_a_prefix_is_removed_whatever_it_is(prefix, suffix, expected, tmp_path, same_tree):
    state, tree = expected
    others = {"head.weight": torch.ones(2), "optimizer.visual.proj.exp_avg": torch.ones(2)}
    save({f"{prefix}{name}": x for name, x in state.items()} | others, tmp_path / f"m{suffix}")
    assert same_tree(checkpoints.load(tmp_path / f"m{suffix}", as_openai=True)[1], tree)


def test_a_text_tower_with_names_of_its_own_is_read(expected, tmp_path, same_tree):
    """OpenCLIP's CustomTextCLIP."""
    state, tree = expected
    kept = ("visual.", "logit_scale")
    custom = {name if name.startswith(kept) else f"text.{name}": x for name, x in state.items()}
    save(custom, tmp_path / "m.safetensors")
    assert same_tree(checkpoints.load(tmp_path / "m.safetensors", as_openai=True)[1], tree)
    save({name: x for name, x in custom.items() if name.startswith("text.")}, tmp_path / "m.safetensors")
    assert same_tree(checkpoints.load(tmp_path / "m.safetensors", as_openai=True)[1], {"text": tree["text"]})


@pytest.mark.parametrize("key", KEYS)
def test_a_model_is_found_in_a_training_checkpoint(key, expected, tmp_path, same_tree):
    state, tree = expected
    moments = {i: {"exp_avg": x.to(torch.float8_e4m3fn)} for i, x in enumerate(state.values())}
    content = {"epoch": 3, "optimizer": {"state": moments, "param_groups": [{"params": [0, 1]}]}, key: state}
    torch.save(content, tmp_path / "m.pt")
    assert same_tree(checkpoints.load(tmp_path / "m.pt", as_openai=True)[1], tree)
    torch.save(content | {key: {f"module.{name}": x for name, x in state.items()}}, tmp_path / "m.pt")
    assert same_tree(checkpoints.load(tmp_path / "m.pt", as_openai=True)[1], tree)


@pytest.mark.parametrize("averages", ["ema", "model_ema", "state_dict_ema"])
def test_the_weights_count_not_their_moving_averages(averages, expected, tmp_path, same_tree):
    state, tree = expected
    torch.save({averages: {name: x + 1 for name, x in state.items()}, "model": state}, tmp_path / "m.pt")
    assert same_tree(checkpoints.load(tmp_path / "m.pt", as_openai=True)[1], tree)


def test_several_models_are_refused_by_their_names(expected, tmp_path):
    state, _ = expected
    torch.save({"student": state, "teacher": {f"module.{name}": x for name, x in state.items()}}, tmp_path / "m.pt")
    with pytest.raises(
        miniclip.InputError, match=r"m\.pt: has several models, after 'student\.' and 'teacher\.module\.'"
    ):
        checkpoints.load(tmp_path / "m.pt")


def test_a_small_part_of_another_model_does_not_hide_the_model(expected, tmp_path, same_tree):
    state, tree = expected
    part = {f"critic.{name}": x for name, x in state.items() if name.startswith("transformer.resblocks.0")}
    torch.save(part | {f"clip.{name}": x for name, x in state.items()}, tmp_path / "m.pt")
    assert same_tree(checkpoints.load(tmp_path / "m.pt", as_openai=True)[1], tree)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_refusal_shows_the_names_of_the_file_and_those_that_were_looked_for(suffix, tmp_path):
    save({f"encoder.layer{i}.kernel": torch.ones(2) for i in range(9)}, tmp_path / f"m{suffix}")
    with pytest.raises(miniclip.InputError) as error:
        checkpoints.load(tmp_path / f"m{suffix}")
    assert "m" + suffix + ": not the weights of a CLIP: it has encoder.layer0.kernel, encoder.layer1" in str(
        error.value
    )
    assert "..., encoder.layer8" not in str(error.value) and "token_embedding.weight (OpenAI" in str(error.value)
    save({"a": torch.ones(2), "visual.ln_post.weight": torch.ones(2)}, tmp_path / f"m{suffix}")
    with pytest.raises(miniclip.InputError, match=r"no 'visual\.patch_embed\.weight'; it has a, visual\.ln_post"):
        checkpoints.load(tmp_path / f"m{suffix}")


def test_the_file_of_an_adapter_is_refused_with_the_way_to_load_it(expected, tmp_path):
    state, _ = expected
    lora = {f"base_model.model.{name}.lora_A.weight": x for name, x in state.items()}
    save(lora, tmp_path / "adapter_model.safetensors")
    with pytest.raises(
        miniclip.InputError, match=r"adapter_model\.safetensors: has an adapter of PEFT, .*as in adapter='.*'"
    ):
        checkpoints.load(tmp_path / "adapter_model.safetensors")


def numbered(i):
    return f"module.visual.transformer.resblocks.{i}.attn.in_proj_bias"


@pytest.mark.parametrize(
    "names",
    [
        [numbered(i) for i in range(30_000)],  # of one table, all different
        [f"m{i}.{numbered(0)}" for i in range(30_000)],  # under prefixes that are all different
        ["a" + 400 * f".{i}" for i in range(3_000)],  # many numbers
        [".1" * 20_000],
        ["1" * 3_000_000],
    ],
    ids=range(5),
)
def test_time_is_proportional_to_the_names(names, tmp_path):
    safetensors.write(tmp_path / "m.safetensors", {name: np.ones(1, np.float32) for name in names})
    start = time.process_time()
    with pytest.raises(miniclip.InputError):
        checkpoints.load(tmp_path / "m.safetensors")
    assert time.process_time() - start < 10


# --------------------------------------------------------------------------------------------- one tower alone


def test_a_tower_alone_has_no_use_for_a_scale(expected, tmp_path, same_tree):
    """As in ComfyUI's files of text encoders."""
    state, tree = expected
    text = {name: x for name, x in state.items() if not name.startswith("visual.")}
    save({f"conditioner.embedders.1.model.{name}": x for name, x in text.items()}, tmp_path / "m.safetensors")
    config, read, _ = checkpoints.load(tmp_path / "m.safetensors", as_openai=True)
    assert config.visual is None and same_tree(read, {"text": tree["text"]})


def test_the_scale_is_float32_whatever_the_dtype(expected, tmp_path):
    state, _ = expected
    torch.save({name: x.half() for name, x in state.items()}, tmp_path / "m.pt")
    for dtype in (None, "float16", "float32"):
        _, tree, _ = checkpoints.load(tmp_path / "m.pt", dtype=dtype, as_openai=True)
        found = {name: str(x.dtype) for name, x in params.flatten(tree).items()}
        assert found.pop("logit_scale") == "float32" and set(found.values()) == {dtype or "float16"}
