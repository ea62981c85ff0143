"""Parameters of miniclip.hf's Flax models: Flax's names, layouts and files."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
import torch
from flax_models import flax_tree
from flax_official import flat
from hf_flax import NAMES, PROJECTED, clip, inputs_of, same, saved, tensors, write_flax  # noqa: F401
from hf_models import CLIP, compare
from hf_models import official as torch_model

from miniclip import InputError, hf, params

# ------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_have_flax_s_names_and_layouts(saved, name):
    theirs, *directories = saved
    expected = flax_tree(theirs)
    parts = {"FlaxCLIPModel": list(expected), PROJECTED: ["text_model", "text_projection"]}
    expected = {
        part: expected[part] for part in parts.get(name, ["vision_model" if "Vision" in name else "text_model"])
    }
    for directory in directories:
        model = getattr(hf, name).from_pretrained(directory)
        same(params.flatten(model.params), params.flatten(expected))
        assert {x.dtype for x in jax.tree.leaves(model.params)} == {jnp.dtype("float32")}
        assert model.required_params == {tuple(path.split(".")) for path in params.flatten(expected)}
        assert jax.tree.structure(model.params_shape_tree) == jax.tree.structure(model.params)


def test_a_call_takes_other_parameters(clip, relative_error):
    _, directory, ours, inputs = clip
    halved = jax.tree.map(lambda x: x / 2, ours.params)
    other = torch_model("CLIP", CLIP["end of text by id"])
    with torch.no_grad():
        for x in other.parameters():
            x.div_(2)
        expected = other(**tensors(inputs)).logits_per_image
    compare(ours(**inputs, params=halved)[0], expected, relative_error)
    compare(ours(**inputs, params=Frozen(halved))[0], expected, relative_error)
    model = hf.FlaxCLIPModel.from_pretrained(directory)
    model.params = halved
    compare(model(**inputs)[0], expected, relative_error)
    with torch.no_grad():  # an array of the model's own parameters is replaced, by JAX's or NumPy's
        for kind in (jnp.asarray, np.asarray):
            other.logit_scale.add_(0.5)
            model.params["logit_scale"] = kind(model.params["logit_scale"] + 0.5)
            compare(model(**inputs)[0], other(**tensors(inputs)).logits_per_image, relative_error)
    bare, parameters = hf.FlaxCLIPModel.from_pretrained(directory, _do_init=False)
    same(params.flatten(parameters), params.flatten(ours.params))
    compare(bare(**inputs, params=halved)[0], expected, relative_error)
    for use in (lambda: bare.params, lambda: bare(**inputs), lambda: setattr(bare, "params", halved)):
        with pytest.raises(InputError, match="_do_init=False has no params: give them to each call"):
            use()


class Frozen(Mapping):
    """As Flax's FrozenDict: a mapping of mappings, no dict."""

    def __init__(self, tree):
        self.tree = tree

    def __getitem__(self, key):
        return Frozen(self.tree[key]) if isinstance(self.tree[key], dict) else self.tree[key]

    def __iter__(self):
        return iter(self.tree)

    def __len__(self):
        return len(self.tree)


def test_wrong_parameters_are_named(clip):
    _, directory, ours, inputs = clip
    less = {**ours.params, "text_projection": {}}
    other = {**ours.params, "text_projection": {"kernel": jnp.zeros((24, 48))}}
    for tree, expected in ((less, r"missing text_projection\.kernel \(48, 24\)"), (other, r"is \(24, 48\), expected")):
        with pytest.raises(InputError, match=f"params: the parameters do not fit.*\n.*{expected}"):
            ours(**inputs, params=tree)
        with pytest.raises(InputError, match=expected):
            hf.FlaxCLIPModel.from_pretrained(directory).params = tree
    more = {**ours.params, "head": {"kernel": jnp.zeros(3)}}  # ignored, as by Flax
    np.testing.assert_array_equal(ours(**inputs, params=more)[0], ours(**inputs, params=dict(ours.params))[0])


def test_random_parameters_have_flax_s_distributions():
    config = hf.CLIPConfig(
        text_config={"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1},
        vision_config={"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 1},
    )
    model, again = hf.FlaxCLIPModel(config, seed=3), hf.FlaxCLIPModel(config, seed=3)
    same(flat(model.params), flat(again.params))
    assert not np.array_equal(
        flat(hf.FlaxCLIPModel(config).params)[".visual_projection.kernel"],
        flat(model.params)[".visual_projection.kernel"],
    )
    deviations = {".kernel": 0.01, ".embedding": 0.01, ".bias": 0, ".scale": 0}
    for name, x in flat(model.params).items():
        wide = "projection" in name or "class" in name
        expected = 0.02 if wide else deviations.get(name[name.rindex(".") :], 0)
        assert np.std(x) == pytest.approx(expected, rel=0.25) and (".scale" not in name or (x == 1).all())
    assert model.params["logit_scale"] == np.float32(2.6592)
    projected = hf.FlaxCLIPTextModelWithProjection(config.text_config).params["text_projection"]["kernel"]
    assert np.std(projected) == pytest.approx(64**-0.5, rel=0.05)
    filled = model.init_weights(jax.random.PRNGKey(0), params={"text_model": {"x": jnp.ones(2)}, "logit_scale": 5.0})
    assert filled["logit_scale"] == 5 and filled["text_model"]["x"].shape == (2,) and "vision_model" in filled
    bare = hf.FlaxCLIPModel(config, _do_init=False)
    assert bare.init_weights(jax.random.PRNGKey(0), ((1, 1), (1, 224, 224, 3))).keys() == filled.keys()


def test_parameters_are_cast(clip):
    ours = clip[2]
    halves = ours.to_bf16(ours.params)
    assert {x.dtype for x in jax.tree.leaves(halves)} == {jnp.dtype("bfloat16")}
    mask = jax.tree.map(lambda x: x.ndim > 1, ours.params)
    some = ours.to_fp16(ours.params, mask)
    assert all((x.dtype == jnp.float16) == (x.ndim > 1) for x in jax.tree.leaves(some))
    assert {x.dtype for x in jax.tree.leaves(ours.to_fp32(some))} == {jnp.dtype("float32")}


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_flax_s_file(saved, name, tmp_path, relative_error):
    model = getattr(hf, name).from_pretrained(saved[1])
    model.save_pretrained(tmp_path / "m")
    found = unpacked((tmp_path / "m" / "flax_model.msgpack").read_bytes())
    same(params.flatten(found), params.flatten(model.params))
    assert json.loads((tmp_path / "m" / "config.json").read_text())["architectures"] == [name.removeprefix("Flax")]
    inputs = inputs_of(name, saved[0])
    again = getattr(hf, name).from_pretrained(tmp_path / "m")
    np.testing.assert_array_equal(again(**inputs)[0], model(**inputs)[0])
    for_torch = getattr(hf, name.removeprefix("Flax")).from_pretrained(tmp_path / "m", backend="numpy")
    assert relative_error(for_torch(**inputs)[0], np.asarray(model(**inputs)[0])) < 1e-5
    model.save_pretrained(tmp_path / "safe", safe_serialization=True)
    assert {path.name for path in (tmp_path / "safe").iterdir()} == {"model.safetensors", "config.json"}
    same(flat(getattr(hf, name).from_pretrained(tmp_path / "safe").params), flat(model.params))
    halved = jax.tree.map(lambda x: x / 2, model.params)
    model.save_pretrained(tmp_path / "m", params=model.to_bf16(halved))
    rounded = jax.tree.map(lambda x: np.asarray(x.astype(jnp.bfloat16).astype(jnp.float32)), halved)
    same(flat(getattr(hf, name).from_pretrained(tmp_path / "m").params), flat(rounded))


def unpacked(content):
    def array(kind, data):
        assert kind == 1
        shape, dtype, numbers = msgpack.unpackb(data)
        return np.frombuffer(numbers, dtype).reshape(shape)

    return msgpack.unpackb(content, ext_hook=array)


def test_pytorch_s_older_files_are_read(clip, tmp_path):
    theirs, directory, ours, _ = clip
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    same(flat(hf.FlaxCLIPModel.from_pretrained(tmp_path, from_pt=True).params), flat(ours.params))


def test_flax_s_file_comes_first_for_flax_only(clip, tmp_path):
    theirs, directory, ours, _ = clip
    write_flax(directory, tmp_path / "m", torch_model("CLIP", CLIP["end of text by id"]))
    other = jax.tree.map(lambda x: x / 2, ours.params)
    ours.save_pretrained(tmp_path / "m", params=other)
    (tmp_path / "m" / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    same(flat(hf.FlaxCLIPModel.from_pretrained(tmp_path / "m").params), flat(other))
    same(flat(hf.FlaxCLIPModel.from_pretrained(tmp_path / "m", from_pt=True).params), flat(ours.params))
    for options, expected in (({}, theirs.logit_scale), ({"from_flax": True}, theirs.logit_scale / 2)):
        assert hf.CLIPModel.from_pretrained(tmp_path / "m", **options).logit_scale == expected
    (tmp_path / "m" / "flax_model.msgpack").unlink()
    with pytest.raises(InputError, match=r"has no flax_model\.msgpack in one file, but model\.safetensors"):
        hf.CLIPModel.from_pretrained(tmp_path / "m", from_flax=True)
    (tmp_path / "m" / "flax_model.msgpack.index.json").write_text("{}")
    with pytest.raises(InputError, match=r"load it with from_pt=True"):
        hf.FlaxCLIPModel.from_pretrained(tmp_path / "m")
    ours.save_pretrained(tmp_path / "m")  # replaces the pieces
    same(flat(hf.FlaxCLIPModel.from_pretrained(tmp_path / "m").params), flat(ours.params))
