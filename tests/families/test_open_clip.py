"""OpenCLIP's own towers on all backends, against OpenCLIP; what of a text and its padding they depend on."""

import dataclasses
import importlib.util
import pickle

import numpy as np
import pytest
from backends import HERE
from open_clip_models import CONFIGS, arrays, official, save

import miniclip
from miniclip import checkpoints, explain, export, families, params
from miniclip.families.open_clip.config import OpenCLIPConfig, OpenCLIPTextConfig, OpenCLIPVisionConfig
from miniclip.ops import numpy_ops
from miniclip.runtime import chunks
from miniclip.towers import open_clip_text, open_clip_vit

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="pip install --no-deps open_clip_torch"
)
OWN = ["clipa", "average", "coca", "coca as wide", "both ways", "bias"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{name: (directory that OpenCLIP wrote, its inputs and features)}, with texts of all lengths."""
    found = save(tmp_path_factory.mktemp("open_clip"), {name: CONFIGS[name] for name in OWN})
    tasks = []
    for name, (directory, batch) in found.items():
        path = directory.with_suffix(".npz")
        np.savez(path, images=batch["images"], tokens=texts(CONFIGS[name]["text_cfg"]))
        tasks.append(["load", str(directory), None, str(path), name])
    official(tasks)
    return {name: (directory, arrays(directory.with_suffix(".npz"))) for name, (directory, _) in found.items()}


def texts(config, seed=0):
    """Texts of every length and of random ids, padded; OpenCLIP's `CLIP` needs the whole context length."""
    rng, T, pad = np.random.default_rng(seed), config["context_length"], config.get("pad_id", 0)
    tokens = rng.integers(0, config["vocab_size"], (2 * T + 2, T))  # one in 60 is padding within the text
    return np.where(np.arange(T) < np.arange(2 * T + 2)[:, None] // 2, tokens, pad)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("name", OWN)
def test_features_are_openclips(name, backend, saved, relative_error, monkeypatch):
    monkeypatch.setattr(chunks, "share", lambda total, most, cores: 20)  # texts are sorted, and cut
    directory, batch = saved[name]
    model = miniclip.load(directory, backend, device="cpu")[0]
    assert type(model.config) is OpenCLIPConfig
    assert relative_error(model.ops.to_numpy(model.encode_image(batch["images"])), batch["image"]) < 1e-5
    assert relative_error(model.ops.to_numpy(model.encode_text(batch["tokens"])), batch["text"]) < 1e-5
    few = model.ops.to_numpy(model.encode_text(batch["tokens"][7:8]))
    assert relative_error(few, batch["text"][7:8]) < 1e-5


@pytest.mark.parametrize("name", OWN)
def test_a_trace_sees_every_stage_and_changes_nothing(name, saved, relative_error):
    directory, batch = saved[name]
    model, seen = miniclip.load(directory, "numpy")[0], {}
    visual, text = model.config.visual, model.config.text
    features = model.encode_image(batch["images"], trace=lambda name, x: seen.update({name: x}))
    assert relative_error(features, batch["image"]) < 1e-5 and np.array_equal(seen["features"], features)
    if visual.tower is open_clip_vit:
        assert ("ln_pre" in seen) == visual.pre_norm
        Q = {"tok": 1, "avg": visual.pool_queries}[visual.pool]
        if visual.pool_queries:
            weights = seen["attention_pool.attention_weights"]
            assert weights.shape == (2, 8, Q, seen["embeddings"].shape[1])
            np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    seen.clear()
    features = model.encode_text(batch["tokens"], trace=lambda name, x: seen.update({name: x}))
    assert relative_error(features, batch["text"]) < 1e-5 and seen["ln_final"].shape == (len(features), text.width)


@pytest.mark.parametrize("name", ["clipa", "coca", "bias"])
def test_a_model_is_kept_in_miniclips_own_file_and_in_a_pickle(name, saved, tmp_path):
    directory, batch = saved[name]
    model = miniclip.load(directory, "numpy")[0]
    checkpoints.save(tmp_path / "m.safetensors", model.config, model.params)
    for again in (miniclip.load(tmp_path / "m.safetensors", "numpy")[0], pickle.loads(pickle.dumps(model))):
        assert again.config == model.config
        np.testing.assert_array_equal(again.encode_text(batch["tokens"]), model.encode_text(batch["tokens"]))


def test_features_do_not_depend_on_the_batch(saved):
    directory, batch = saved["coca"]
    model = miniclip.load(directory, "numpy", batch_invariant=True)[0]
    features = model.encode_text(batch["tokens"])
    for i in (0, 5, 17):
        np.testing.assert_array_equal(model.encode_text(batch["tokens"][i : i + 1])[0], features[i])


# ---------------------------------------------------------------------------------------------------- laws, and errors


def tower(**changes):
    """A text tower of random weights, as a function of tokens (B, T) -> features (B, E)."""
    config = OpenCLIPTextConfig(8, 30, 16, 2, 2, 24, **changes)
    rng = np.random.default_rng(0)
    tree = params.tree_map(lambda shape: rng.standard_normal(shape), open_clip_text.shapes(config, 4))

    def encode(tokens):
        tokens, end, options = open_clip_text.arranged(np.array(tokens), config)
        return open_clip_text.encode_text(numpy_ops, tokens, end, **tree, config=config, **options)

    return encode


def test_what_a_feature_depends_on():
    a, b = [[1, 2, 3, 4, 5, 6, 7, 8]], [[1, 2, 3, 4, 5, 6, 7, 9]]
    assert np.allclose(tower(pool="first")(a), tower(pool="first")(b))  # the first token sees itself alone
    assert not np.allclose(tower(pool="first", causal=False)(a), tower(pool="first", causal=False)(b))
    c, d = [[5, 6, 29, 0, 0, 0, 0, 0]], [[5, 6, 29, 0, 0, 1, 0, 0]]
    assert np.allclose(tower()(c), tower()(d))  # nothing after the end
    assert not np.allclose(tower(causal=False)(c), tower(causal=False)(d))  # padding too
    assert not np.allclose(tower(pool="last")(c), tower(pool="last")(d))
    coca = tower(pad_id=0)
    assert np.allclose(coca([[5, 6, 0, 0, 0, 0, 0, 0]]), coca([[5, 6, 0, 0, 0, 0, 0, 0]]))
    assert not np.allclose(coca([[5, 6, 0, 0, 0, 0, 0, 0]]), coca([[5, 7, 0, 0, 0, 0, 0, 0]]))


def test_the_class_token_follows_the_tokens_that_are_seen():
    config = OpenCLIPTextConfig(4, 30, 16, 1, 2, 24, pad_id=0)
    tokens, end, options = open_clip_text.arranged(np.array([[7, 8, 0, 0], [7, 0, 8, 9], [6, 7, 8, 9]]), config)
    # the first padding is seen, the class token (30) sees itself only after a full text
    np.testing.assert_array_equal(tokens, [[7, 8, 0, 30, 0], [7, 0, 9, 30, 8], [6, 7, 8, 9, 30]])
    np.testing.assert_array_equal(options["positions"], [[0, 1, 2, 4, 3], [0, 1, 3, 4, 2], [0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(end, [3, 3, 4])
    np.testing.assert_array_equal(options["seen"], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])


@pytest.mark.parametrize("size", [7, 16, 33])
def test_the_mean_of_the_tokens_is_a_mean(size, relative_error):
    x = np.random.default_rng(0).standard_normal((3, size, 24))
    assert relative_error(open_clip_vit.mean(numpy_ops, x, 3), x.mean(axis=1)) < 1e-12


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (OpenCLIPVisionConfig, {"pool": "max"}, "pool is 'max', expected one of tok, avg"),
        (OpenCLIPVisionConfig, {"pre_norm": 1}, "pre_norm is 1, expected True or False"),
        (OpenCLIPVisionConfig, {"pool_queries": 0}, "pool_queries is 0, expected None, or 1 or more with pool 'tok'"),
        (OpenCLIPVisionConfig, {"pool_queries": 1, "pool": "avg"}, "expected None, or 2 or more with pool 'avg'"),
        (OpenCLIPVisionConfig, {"pool_heads": 0}, "pool_heads is 0, expected a positive integer"),
        (OpenCLIPVisionConfig, {"patch_size": 50}, "do not fit a picture"),
        (OpenCLIPTextConfig, {"pool": "eos"}, "pool is 'eos', expected one of argmax, first, last"),
        (OpenCLIPTextConfig, {"causal": None}, "causal is None, expected True or False"),
        (OpenCLIPTextConfig, {"pad_id": "0"}, "pad_id is '0', expected None or an id"),
        (OpenCLIPTextConfig, {"projection": "mlp"}, "projection is 'mlp', expected one of linear, bias, none"),
        (OpenCLIPTextConfig, {"heads": 5}, "width 16 cannot be shared by 5 heads"),
    ],
)
def test_impossible_configurations_are_refused(kind, changes, message):
    sizes = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 8}
    sizes |= {"patch_size": 8, "image_size": 16} if kind is OpenCLIPVisionConfig else {"context_length": 4}
    sizes |= {} if kind is OpenCLIPVisionConfig else {"vocab_size": 9}
    with pytest.raises(miniclip.InputError, match=message):
        kind(**{**sizes, **changes})


def test_other_forms_and_libraries_refuse_these_models(saved, tmp_path):
    directory, batch = saved["clipa"]
    model = miniclip.load(directory, "numpy")[0]
    with pytest.raises(miniclip.InputError, match="transformers has no models of the family 'open_clip'"):
        miniclip.checkpoints.convert.convert(directory, tmp_path / "hf", "hf")
    with pytest.raises(miniclip.InputError, match="cannot express open_clip models"):
        miniclip.checkpoints.convert.convert(directory, tmp_path / "m.pt", "openai")
    with pytest.raises(miniclip.InputError, match="'open_clip'"):
        miniclip.hf.CLIPModel.from_pretrained(directory)
    with pytest.raises(miniclip.InputError, match="transformers has no models of the family 'open_clip'"):
        export.export(directory, tmp_path / "onnx")
    for explained in (explain.attention_maps, lambda *x: explain.relevance(*x, batch["tokens"][:1])):
        with pytest.raises(miniclip.InputError, match="no explanation yet for towers of OpenCLIP"):
            explained(model, batch["images"])
    with pytest.raises(miniclip.InputError, match="leave out lengths"):
        model.encode_text(batch["tokens"], lengths=np.ones(len(batch["tokens"]), int))
    with pytest.raises(miniclip.InputError, match="came without vocabulary"):
        model.tokenize("a dog")


def test_configurations_become_json_and_come_back():
    visual = OpenCLIPVisionConfig(16, 8, 16, 1, 2, 8, pool_queries=3)
    config = OpenCLIPConfig(visual, OpenCLIPTextConfig(8, 30, 16, 2, 2, 24, pad_id=0), 4)
    assert families.from_dict(config.to_dict()) == config
    plain = dataclasses.replace(config, text=None)
    assert families.from_dict(plain.to_dict()) == plain
