"""miniclip.hf's Flax models against transformers' models for torch, and, where there is one, its Flax models."""

import copy
import inspect
import io
import json
import subprocess
import sys
import types
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
import torch
import transformers
from checkout import ROOT
from flax_models import flax_tree, packed
from flax_official import LACKING, PYTHON, calls, flat, gradients, official
from hf_models import CLIP, LOOK, batch, compare, of_tower
from hf_models import official as torch_model
from test_ways_in import PICTURE, save_clip

from miniclip import InputError, hf, params

NAMES = ["FlaxCLIPModel", "FlaxCLIPTextModel", "FlaxCLIPTextModelWithProjection", "FlaxCLIPVisionModel"]
PROJECTED = "FlaxCLIPTextModelWithProjection"


@pytest.fixture(scope="module", params=CLIP)
def saved(request, tmp_path_factory):
    """(transformers' model for torch, its directory with PyTorch's weights, one with Flax's)."""
    model, directory = torch_model("CLIP", CLIP[request.param]), tmp_path_factory.mktemp("flax")
    model.save_pretrained(directory / "torch")
    write_flax(directory / "torch", directory / "flax", model)
    return model, directory / "torch", directory / "flax"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(transformers' model for torch, its directory, our Flax model, inputs)."""
    model, directory = torch_model("CLIP", CLIP["end of text by id"]), tmp_path_factory.mktemp("clip") / "m"
    model.save_pretrained(directory)
    return model, directory, hf.FlaxCLIPModel.from_pretrained(directory), batch(model.config, np.asarray)


def write_flax(source, directory, model):
    directory.mkdir()
    (directory / "config.json").write_bytes((source / "config.json").read_bytes())
    (directory / "flax_model.msgpack").write_bytes(packed(flax_tree(model)))


def inputs_of(name, model, masked=True):
    inputs = batch(model.config, np.asarray, masked)
    tower = next((tower for tower in ("Text", "Vision") if tower in name), None)
    return of_tower(inputs, tower) if tower else inputs


def tensors(inputs):
    return {name: torch.from_numpy(x) for name, x in inputs.items()}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)


# -------------------------------------------------------------------------- against transformers' models for torch


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_every_field_of_the_whole_model_is_transformers(saved, masked, relative_error):
    theirs, *directories = saved
    inputs = batch(theirs.config, np.asarray, masked)
    with torch.no_grad():
        expected = theirs(**tensors(inputs), **LOOK)
        # transformers 5 has the features here, Flax what they are projected from.
        for name, tower in (("Text", "text_model"), ("Vision", "vision_model")):
            pooled = getattr(theirs, tower)(**tensors(of_tower(inputs, name))).pooler_output
            expected[f"{tower}_output"].pooler_output = pooled
        texts = theirs.get_text_features(**tensors(of_tower(inputs, "Text"))).pooler_output
        images = theirs.get_image_features(torch.from_numpy(inputs["pixel_values"])).pooler_output
    for directory in directories:
        ours = hf.FlaxCLIPModel.from_pretrained(directory)
        output = ours(**inputs, **LOOK)
        assert isinstance(output.logits_per_image, jax.Array)
        compare(output, expected, relative_error)
        compare(ours.get_text_features(**of_tower(inputs, "Text")), texts, relative_error)
        compare(ours.get_image_features(inputs["pixel_values"]), images, relative_error)


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_field_of_each_tower_is_transformers(saved, name, relative_error):
    theirs, *directories = saved
    inputs = inputs_of(name, theirs)
    with torch.no_grad():
        expected = getattr(theirs, "vision_model" if "Vision" in name else "text_model")(**tensors(inputs), **LOOK)
        if name == PROJECTED:
            features = theirs.text_projection(expected.pooler_output)
            rest = {key: expected[key] for key in ("last_hidden_state", "hidden_states", "attentions")}
            expected = transformers.modeling_outputs.ModelOutput(text_embeds=features, **rest)
    for directory in directories:
        ours = getattr(hf, name).from_pretrained(directory)
        compare(ours(**inputs, **LOOK), expected, relative_error)


def test_a_gradient_is_torch_s(clip):
    theirs, _, ours, inputs = clip
    weights = np.linspace(-1, 2, 3, dtype=np.float32)
    theirs.zero_grad()
    (theirs(**tensors(inputs)).logits_per_image * torch.from_numpy(weights)).sum().backward()
    gradient = copy.deepcopy(theirs)
    for x, own in zip(gradient.parameters(), theirs.parameters()):
        x.data = own.grad
    expected = {name: np.asarray(x) for name, x in params.flatten(flax_tree(gradient)).items()}
    found = jax.grad(lambda p: (ours(**inputs, params=p, train=True)[0] * weights).sum())(ours.params)
    found = params.flatten(found)
    assert found.keys() == expected.keys()
    largest = max(np.abs(x).max() for x in expected.values())
    assert largest > 0.1 and all(np.abs(found[name] - x).max() < 1e-5 * largest for name, x in expected.items())
    theirs.zero_grad()


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


# ----------------------------------------------------------------------------------------------- functions of JAX


def test_calls_can_be_compiled(clip, relative_error):
    _, _, ours, inputs = clip
    expected = ours(**inputs, **LOOK)
    found = jax.jit(lambda p, given: ours(**given, **LOOK, params=p))(ours.params, inputs)
    assert list(found) == list(expected) and found.text_model_output.attentions is not None
    for name, x in flat(expected).items():
        assert relative_error(flat(found)[name], x) < 1e-5
    plain = jax.jit(ours.__call__)(**inputs)
    assert plain.text_model_output.attentions is None and plain[4][1].shape == (3, 48)
    images = jax.vmap(ours.get_image_features)(inputs["pixel_values"][:, None])
    compare(images[:, 0], torch.from_numpy(np.array(ours.get_image_features(inputs["pixel_values"]))), relative_error)
    mapped = jax.tree.map(lambda x: x * 2, expected)
    np.testing.assert_array_equal(mapped.logits_per_text, expected.logits_per_text * 2)


def test_what_is_kept_while_a_function_is_compiled_has_values(clip):
    _, directory, _, inputs = clip
    model = hf.FlaxCLIPModel.from_pretrained(directory)
    jax.jit(lambda x: x * model.params["logit_scale"])(1.0)
    assert {type(x) for x in jax.tree.leaves(model.params)} == {type(jnp.ones(2))}
    drawn = hf.FlaxCLIPModel(model.config)
    found = jax.jit(drawn.get_image_features)(inputs["pixel_values"])
    np.testing.assert_allclose(drawn.get_image_features(inputs["pixel_values"]), found, rtol=1e-3)


def test_compiled_calls_give_nan_where_others_refuse(clip):
    _, _, ours, inputs = clip
    mask = inputs["attention_mask"].copy()
    mask[0, 3], mask[1, 1:] = 0, 0  # a hole; the end of the text is hidden
    features = jax.jit(ours.get_text_features)(inputs["input_ids"], mask)
    assert np.isnan(features).all(axis=1).tolist() == [True, True, False]
    for row, expected in ((0, "ones and then zeros"), (1, "hides the end of a text")):
        with pytest.raises(InputError, match=expected):
            ours.get_text_features(inputs["input_ids"][[row]], mask[[row]])
    with pytest.raises(InputError, match=r"input_ids are \(3, 21\), expected \(B, T\) with 1 <= T <= 20"):
        jax.jit(ours.get_text_features)(np.zeros((3, 21), int))
    with pytest.raises(InputError, match=r"attention_mask is \(3, 10\), for tokens \(3, 11\)"):
        jax.jit(ours.get_text_features)(inputs["input_ids"], mask[:, 1:])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, "float16", np.float16])
def test_the_dtype_is_that_of_the_computation(clip, dtype, relative_error):
    _, directory, ours, inputs = clip
    half = hf.FlaxCLIPModel.from_pretrained(directory, dtype)
    found, expected = half(**inputs), ours(**inputs)
    assert found.text_embeds.dtype == half.dtype == np.dtype(dtype) and half.params["logit_scale"].dtype == np.float32
    assert 1e-5 < relative_error(np.asarray(found[0], np.float32), np.asarray(expected[0])) < 0.03


# ----------------------------------------------------------------------------------------- arguments and refusals

COMMON = "params dropout_rng train output_attentions output_hidden_states return_dict"
ORDER = {  # modeling_flax_clip.py
    "FlaxCLIPModel": f"input_ids pixel_values attention_mask position_ids {COMMON}",
    "FlaxCLIPTextModel": f"input_ids attention_mask position_ids {COMMON}",
    PROJECTED: f"input_ids attention_mask position_ids {COMMON}",
    "FlaxCLIPVisionModel": f"pixel_values {COMMON}",
}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_have_flax_s_order(name):
    assert " ".join(inspect.signature(getattr(hf, name).__call__).parameters) == f"self {ORDER[name]}"


def test_the_order_of_the_other_arguments():
    text = "self input_ids attention_mask position_ids params dropout_rng train"
    kind = hf.FlaxCLIPModel
    assert " ".join(inspect.signature(kind.get_text_features).parameters) == text
    assert (
        " ".join(inspect.signature(kind.get_image_features).parameters) == "self pixel_values params dropout_rng train"
    )
    assert " ".join(inspect.signature(kind).parameters) == "config input_shape seed dtype _do_init"
    assert next(iter(list(inspect.signature(kind.from_pretrained).parameters)[1:])) == "dtype"


@pytest.mark.parametrize("kind", [jnp.asarray, torch.from_numpy, lambda x: x.tolist()])
def test_inputs_of_any_kind(clip, kind):
    _, _, ours, inputs = clip
    found = ours(**{name: kind(x) for name, x in inputs.items()})
    assert isinstance(found[0], jax.Array)
    np.testing.assert_array_equal(found[0], ours(**inputs)[0])


def test_bad_input_is_refused(clip, tmp_path):
    _, directory, ours, inputs = clip
    for change, expected in [
        ({"input_ids": None}, "input_ids is missing"),
        ({"pixel_values": None}, "pixel_values is missing"),
        ({"position_ids": inputs["input_ids"]}, "position_ids is given"),
        ({"input_ids": inputs["input_ids"] + 60}, "vocabulary has ids 0 to 59"),
        ({"input_ids": inputs["input_ids"][0]}, r"expected \(B, T\)"),
        ({"pixel_values": inputs["pixel_values"][..., 1:]}, r"expected \(B, C, height, width\)"),
        ({"pixel_values": inputs["pixel_values"].astype(int)}, "expected floats"),
        ({"pixel_values": inputs["pixel_values"] * np.nan}, "have a pixel of nan"),
    ]:
        with pytest.raises(InputError, match=expected):
            ours(**{**inputs, **change})
    with pytest.raises(InputError, match=r"takes a CLIPConfig of miniclip\.hf, not transformers's CLIPConfig"):
        hf.FlaxCLIPModel(transformers.CLIPConfig())
    with pytest.raises(InputError, match="jax backend does not compute in float64"):
        hf.FlaxCLIPModel.from_pretrained(directory, np.float64)
    with pytest.raises(InputError, match="pretrained_model_name_or_path is missing"):
        hf.FlaxCLIPModel.from_pretrained(None)
    with pytest.raises(InputError, match="takes no push_to_hub = True"):
        ours.save_pretrained(tmp_path / "m", push_to_hub=True)
    with pytest.raises(OSError, match="no model 'nothing'"):
        hf.FlaxCLIPModel.from_pretrained("nothing")


def test_jax_is_imported_for_flax_s_models_only():
    code = """if True:
        import sys
        from miniclip import InputError, hf
        assert "jax" not in sys.modules
        sys.modules["jax"] = None
        try:
            hf.FlaxCLIPModel(hf.CLIPConfig())
        except InputError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("the jax backend needs jax: ") and "[jax]" in done.stdout


# --------------------------------------------------------------------------------------------- transformers' examples

PICTURES = """
from PIL import Image
import requests
from transformers import {imported}

model = {name}.from_pretrained("openai/clip-vit-base-patch32")
processor = AutoProcessor.from_pretrained("openai/clip-vit-base-patch32")

url = "http://images.cocodataset.org/val2017/000000039769.jpg"
image = Image.open(requests.get(url, stream=True).raw)
"""
TEXTS = """
from transformers import AutoTokenizer, {name}

model = {name}.from_pretrained("openai/clip-vit-base-patch32")
tokenizer = AutoTokenizer.from_pretrained("openai/clip-vit-base-patch32")

inputs = tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="np")
"""
CODE = {  # the examples of modeling_flax_clip.py
    "FlaxCLIPModel": "import jax"
    + PICTURES.format(imported="AutoProcessor, FlaxCLIPModel", name="FlaxCLIPModel")
    + """
inputs = processor(
    text=["a photo of a cat", "a photo of a dog"], images=image, return_tensors="np", padding=True
)

outputs = model(**inputs)
logits_per_image = outputs.logits_per_image  # this is the image-text similarity score
probs = jax.nn.softmax(logits_per_image, axis=1)  # we can take the softmax to get the label probabilities
""",
    "get_text_features": TEXTS.format(name="FlaxCLIPModel") + "text_features = model.get_text_features(**inputs)",
    "get_image_features": PICTURES.format(imported="AutoProcessor, FlaxCLIPModel", name="FlaxCLIPModel")
    + """
inputs = processor(images=image, return_tensors="np")

image_features = model.get_image_features(**inputs)
""",
    "FlaxCLIPTextModel": TEXTS.format(name="FlaxCLIPTextModel")
    + """
outputs = model(**inputs)
last_hidden_state = outputs.last_hidden_state
pooler_output = outputs.pooler_output  # pooled (EOS token) states
""",
    PROJECTED: TEXTS.format(name=PROJECTED)
    + """
outputs = model(**inputs)
text_embeds = outputs.text_embeds
""",
    "FlaxCLIPVisionModel": PICTURES.format(imported="AutoProcessor, FlaxCLIPVisionModel", name="FlaxCLIPVisionModel")
    + """
inputs = processor(images=image, return_tensors="np")

outputs = model(**inputs)
last_hidden_state = outputs.last_hidden_state
pooler_output = outputs.pooler_output  # pooled CLS states
""",
}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A directory with a model, tokenizer and image processor."""
    directory = tmp_path_factory.mktemp("example") / "m"
    save_clip(directory)
    return directory


@pytest.mark.parametrize("name", CODE)
def test_transformers_examples_run_with_another_import(name, example, monkeypatch, relative_error):
    requests = types.ModuleType("requests")
    with open(ROOT / PICTURE, "rb") as picture:
        raw = io.BytesIO(picture.read())
    requests.get = lambda url, stream: types.SimpleNamespace(raw=raw)
    monkeypatch.setitem(sys.modules, "requests", requests)
    found = {}
    code = CODE[name].replace("from transformers import", "from miniclip.hf import")
    exec(code.replace("openai/clip-vit-base-patch32", str(example)), found)
    theirs = transformers.CLIPModel.from_pretrained(example).eval()
    inputs = {key: torch.from_numpy(np.asarray(x)) for key, x in found["inputs"].items()}
    with torch.no_grad():
        if name == "FlaxCLIPModel":
            compare(found["probs"], theirs(**inputs).logits_per_image.softmax(1), relative_error)
        elif name.startswith("get_"):
            features = found.get("text_features", found.get("image_features"))
            compare(features, getattr(theirs, name)(**inputs).pooler_output, relative_error)
        elif name == PROJECTED:
            compare(found["text_embeds"], theirs.get_text_features(**inputs).pooler_output, relative_error)
        else:
            expected = (theirs.vision_model if "Vision" in name else theirs.text_model)(**inputs)
            for field in ("last_hidden_state", "pooler_output"):
                compare(found[field], expected[field], relative_error)


# ----------------------------------------------------------------------------------- transformers' Flax models


@pytest.fixture(scope="module")
def answers(saved, tmp_path_factory):
    """{name: (its inputs, its answers, the directory where transformers' Flax model is saved)}."""
    if PYTHON is None:
        pytest.skip(LACKING)
    theirs, source, _ = saved
    place, tasks, found = tmp_path_factory.mktemp("answers"), [], {}
    for name in NAMES:
        inputs = inputs_of(name, theirs)
        np.savez(place / f"{name} inputs.npz", **inputs)
        files = [str(place / f"{name} {file}") for file in ("inputs.npz", "answers.npz", "saved")]
        tasks.append([name, str(source), options_of(name, theirs), files[0], LOOK, *files[1:]])
        found[name] = inputs, files[1], files[2]
    official(*tasks)
    return {name: (inputs, dict(np.load(file)), directory) for name, (inputs, file, directory) in found.items()}


def options_of(name, model):
    return {"projection_dim": model.config.projection_dim} if name == PROJECTED else {}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_those_of_flax(saved, answers, name, relative_error):
    inputs, expected, _ = answers[name]
    model = getattr(hf, name).from_pretrained(saved[1], **options_of(name, saved[0]))
    found = calls(model, inputs, LOOK)
    wanted = {key: x for key, x in expected.items() if not key.startswith("gradient")}
    assert found.keys() == wanted.keys()
    for key, x in wanted.items():
        assert found[key].shape == x.shape and relative_error(found[key], x) < 1e-5, key
    gradient = {f"gradient{key}": x for key, x in gradients(model, inputs).items()}
    assert found.keys() | gradient.keys() == expected.keys()
    largest = max(np.abs(expected[key]).max() for key in gradient)
    assert all(np.abs(x - expected[key]).max() < 1e-5 * largest for key, x in gradient.items())


@pytest.mark.parametrize("name", NAMES)
def test_files_go_both_ways(saved, answers, name, tmp_path):
    inputs, expected, directory = answers[name]
    wanted = {key: x for key, x in expected.items() if key.startswith("params")}
    for form in ("", " safe", " pieces"):
        model = getattr(hf, name).from_pretrained(directory + form, **options_of(name, saved[0]))
        same(flat(model.params, "params"), wanted)
    np.savez(tmp_path / "inputs.npz", **inputs)
    tasks = []
    for form in ("plain", "safe"):
        model.save_pretrained(tmp_path / form, safe_serialization=form == "safe")
        answer = str(tmp_path / f"{form}.npz")
        tasks.append([name, str(tmp_path / form), {}, str(tmp_path / "inputs.npz"), LOOK, answer, None])
    official(*tasks)
    for task in tasks:
        same(dict(np.load(task[-2])), expected)
