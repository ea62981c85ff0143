"""sentence-transformers' text encoders for a CLIP, against its formula over transformers' DistilBertModel."""

import json
import shutil

import numpy as np
import pytest
from text_encoders import LENGTH, LONGEST, TEXTS, E, save_sentence_transformer

import miniclip
from miniclip.checkpoints.convert import convert

FORMS = {"older": {}, "newer": {"older": False}, "first": {"pool": "cls", "bias": True}}


@pytest.fixture(scope="module", params=FORMS)
def saved(request, tmp_path_factory):
    """(the form, the directory, the features of TEXTS)"""
    directory = tmp_path_factory.mktemp("sentence_transformers")
    return request.param, directory, save_sentence_transformer(directory, **FORMS[request.param])


def test_texts_have_its_features(saved, relative_error):
    form, directory, expected = saved
    model, preprocess = miniclip.load(directory, "numpy")
    assert preprocess is None and model.config.embed_dim == E
    assert model.config.text.text_length == (LENGTH if form == "newer" else LONGEST)
    assert relative_error(model.encode_text(model.tokenize(TEXTS)), expected) < 1e-5


def test_our_own_file_keeps_it(saved, tmp_path):
    _, directory, _ = saved
    convert(directory, tmp_path / "m.safetensors", "miniclip")
    ours, again = (miniclip.load(path, "numpy")[0] for path in (directory, tmp_path / "m.safetensors"))
    assert again.config == ours.config
    np.testing.assert_array_equal(again.encode_text(again.tokenize(TEXTS)), ours.encode_text(ours.tokenize(TEXTS)))
    with pytest.raises(miniclip.InputError, match=r"transformers (has no model with these|cannot express that)"):
        convert(directory, tmp_path / "hf", "hf")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("modules.json", lambda x: x[:2], "its modules are Transformer, Pooling, expected Transformer, Pooling, Dense"),
        ("modules.json", lambda x: [{"type": "Dense"}], r"modules\.json: not a list of modules: KeyError\('path'\)"),
        ("modules.json", lambda x: {}, r"modules\.json: expected a JSON list"),
        ("modules.json", lambda x: [{**m, "path": "../0"} for m in x], "has a folder outside its directory"),
        ("1_Pooling/config.json", lambda x: {"pooling_mode": "max"}, "its pooling is 'max', expected 'mean' or 'cls'"),
        ("1_Pooling/config.json", lambda x: {**x, "pooling_mode_max_tokens": True}, r"pooling is \['mean', 'max'\]"),
        ("1_Pooling/config.json", lambda x: {"pooling_mode_mean_sqrt_len_tokens": True}, "pooling is 'mean_sqrt_len'"),
        ("2_Dense/config.json", lambda x: {"out_features": E}, r"activation_function is 'torch\.nn\..*Tanh'"),
        ("2_Dense/config.json", lambda x: {**x, "out_features": 17}, r"text\.projection\.weight"),
        ("0_Transformer/config.json", lambda x: {**x, "model_type": "bert"}, "model_type is 'bert', expected 'distil"),
        ("0_Transformer/config.json", lambda x: {**x, "n_heads": 5}, "width 24 cannot be shared by 5 heads"),
        ("0_Transformer/config.json", lambda x: {**x, "n_layers": 3}, r"missing text\.blocks\.2"),
        ("0_Transformer/sentence_bert_config.json", lambda x: {**x, "do_lower_case": True}, "do_lower_case is true"),
    ],
)
def test_what_is_of_another_kind_is_refused_by_name(file, change, message, tmp_path):
    save_sentence_transformer(tmp_path)
    content = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(change(content)))
    with pytest.raises(miniclip.InputError, match=message) as error:
        miniclip.load(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_text_may_have_any_length_that_fits(tmp_path):
    save_sentence_transformer(tmp_path)
    path = tmp_path / "sentence_bert_config.json"
    path.write_text(json.dumps({"max_seq_length": int(1e30)}))  # transformers writes it for "no limit"
    (tmp_path / "0_Transformer" / path.name).unlink(missing_ok=True)
    config = miniclip.load(tmp_path)[0].config.text
    assert config.text_length == config.context_length


def test_a_missing_file_is_named(tmp_path):
    save_sentence_transformer(tmp_path)
    shutil.rmtree(tmp_path / "2_Dense")
    with pytest.raises(miniclip.InputError, match=r"2_Dense.config\.json: cannot be read"):
        miniclip.load(tmp_path)
