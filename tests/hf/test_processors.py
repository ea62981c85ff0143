"""miniclip.hf's configurations, tokenizers and processors against transformers' classes of the same names."""

import json

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessorPil, EfficientNetImageProcessorPil

import miniclip
from miniclip import InputError, Tokenizer, hf
from miniclip.tokenizers.wordpiece import WordPiece

CORPUS = ["a photo of a red cat", "the cat sat on the red mat", "photos of cats, dogs and a 日本語 café!"] * 3
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz,!", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"), "cat", "##s"]


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """{"CLIP": ..., "Bert": ...}: directories with small vocabularies and the settings of image processors."""
    clip, bert = tmp_path_factory.mktemp("clip"), tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer.train(CORPUS, 560)
    tokenizer.save(clip / "merges.txt")
    (clip / "vocab.json").write_text(json.dumps(tokenizer.encoder))
    (clip / "tokenizer_config.json").write_text('{"model_max_length": 12, "tokenizer_class": "CLIPTokenizer"}')
    CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=40).save_pretrained(clip)
    WordPiece(dict.fromkeys(PIECES)).save(bert / "vocab.txt")
    (bert / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    EfficientNetImageProcessorPil(**ALIGN_PICTURES).save_pretrained(bert)
    return {"CLIP": clip, "Bert": bert}


ALIGN_PICTURES = {
    "size": {"height": 50, "width": 50},
    "crop_size": {"height": 41, "width": 41},
    **{"do_center_crop": True, "do_normalize": False, "include_top": False, "resample": 2},
    **{"rescale_factor": 1 / 127.5, "rescale_offset": True},
}


@pytest.fixture(scope="module", params=["CLIP", "Bert"])
def tokenizers(request, directories):
    """(ours, theirs)"""
    name = f"{request.param}Tokenizer"
    return [getattr(module, name).from_pretrained(directories[request.param]) for module in (hf, transformers)]


def plain(encoding):
    return {name: x.tolist() if hasattr(x, "tolist") else x for name, x in encoding.items()}


# ---------------------------------------------------------------------------------------------------- tokenizers

TEXTS = ["a photo of cats", "dogs", "the cat sat, on the red mat and the mat sat on a dog", ""]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": True},
        {"padding": "longest", "pad_to_multiple_of": 4},
        {"padding": "max_length", "max_length": 9, "truncation": True},
        {"padding": "max_length", "max_length": 30},
        {"truncation": True, "max_length": 5},
        {"max_length": 6},
        {"truncation": "only_first", "max_length": 7, "padding": True},
        {"add_special_tokens": False, "padding": True},
        {"add_special_tokens": False, "truncation": True, "max_length": 3},
        {"padding": True, "return_attention_mask": False},
        {"padding": True, "return_token_type_ids": True, "return_special_tokens_mask": True, "return_length": True},
    ],
    ids=str,
)
def test_batches_are_encoded_as_by_transformers(tokenizers, options):
    ours, theirs = tokenizers
    assert plain(ours(TEXTS, **options)) == plain(theirs(TEXTS, **options))
    for one in TEXTS:
        assert plain(ours(one, **options)) == plain(theirs(one, **options))
        if "return_length" not in options:
            assert ours.encode(one, **options) == theirs.encode(one, **options)
    if len({len(row) for row in ours(TEXTS, **options).input_ids}) == 1:
        for kind, expected in (("np", np.ndarray), ("pt", torch.Tensor)):
            x, y = ours(TEXTS, **options, return_tensors=kind), theirs(TEXTS, **options, return_tensors=kind)
            assert plain(x) == plain(y) and {type(v) for v in x.values()} == {expected}
            assert x.input_ids.dtype == y.input_ids.dtype and list(x) == list(y)


@pytest.mark.filterwarnings("ignore:.max_length. is ignored")
@given(
    texts=st.lists(st.tuples(st.text("abc ,", max_size=12), st.text("cat s", max_size=12)), min_size=1, max_size=3),
    max_length=st.integers(5, 20),  # if no token of a text fits, transformers leaves out special tokens as well
    strategy=st.sampled_from(["longest_first", True, False]),
    padding=st.sampled_from([False, True, "max_length"]),
)
def test_pairs_of_texts_are_encoded_as_by_transformers(tokenizers, texts, max_length, strategy, padding):
    ours, theirs = tokenizers
    options = {"max_length": max_length, "truncation": strategy, "padding": padding, "return_token_type_ids": True}
    options["return_special_tokens_mask"] = True
    first, second = map(list, zip(*texts))
    assert plain(ours(first, second, **options)) == plain(theirs(first, second, **options))
    if second[0]:  # transformers treats an empty second text as none, unless it is in a list
        assert plain(ours(first[0], second[0], **options)) == plain(theirs(first[0], second[0], **options))


def test_one_of_two_texts_is_cut(tokenizers):
    ours, theirs = tokenizers
    for strategy in ("only_first", "only_second"):
        options = {"truncation": strategy, "max_length": 14}
        texts = ("red cats on mats", "a dog") if strategy == "only_first" else ("a dog", "red cats on mats")
        assert plain(ours(*texts, **options)) == plain(theirs(*texts, **options))
        with pytest.raises(
            InputError, match=f"max_length is 5: too short, truncation='{strategy}' would leave nothing"
        ):
            ours("a cat sat", "the cat sat", truncation=strategy, max_length=5)


@given(ids=st.lists(st.integers(0, 57)), skip=st.booleans())
def test_ids_are_decoded_as_by_transformers(tokenizers, ids, skip):
    ours, theirs = tokenizers
    ids = [id + (97 if ours.family.__name__.endswith("clip") else 0) for id in ids]  # no parts of UTF-8 characters
    assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_batches_are_decoded(tokenizers):
    ours, theirs = tokenizers
    rows = ours(TEXTS, padding=True, return_tensors="pt").input_ids
    for skip in (True, False):
        expected = theirs.batch_decode(rows, skip_special_tokens=skip)
        assert ours.batch_decode(rows, skip_special_tokens=skip) == expected
        assert ours.decode(rows.numpy(), skip_special_tokens=skip) == expected
    assert ours.decode(rows[0, 1]) == theirs.decode(rows[0, 1])
    with pytest.raises(InputError, match="there is no token id 9999"):
        ours.batch_decode([[9999]])


def test_tokens_ids_and_special_ones_are_transformers(tokenizers):
    ours, theirs = tokenizers
    tokens = ours.tokenize("a photo of cats")
    assert tokens == theirs.tokenize("a photo of cats")
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    assert ours.convert_tokens_to_ids("no such token") == theirs.convert_tokens_to_ids("no such token")
    assert ours.convert_ids_to_tokens([5, 7]) == theirs.convert_ids_to_tokens([5, 7])
    assert ours.convert_ids_to_tokens(5) == theirs.convert_ids_to_tokens(5)
    assert ours.get_vocab() == theirs.get_vocab()
    for name in ("vocab_size", "model_max_length", "pad_token_id", "padding_side", "special_tokens_map"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert sorted(ours.all_special_ids) == sorted(theirs.all_special_ids) and len(ours) == len(theirs)
    assert list(ours.model_input_names) == theirs.model_input_names
    for role, token in theirs.special_tokens_map.items():
        assert (getattr(ours, role), getattr(ours, f"{role}_id")) == (token, theirs.convert_tokens_to_ids(token))


def test_rows_are_built_and_masked_as_by_transformers(tokenizers):
    """transformers 5 removed its methods for this; a call of its tokenizers still gives the same rows."""
    ours, theirs = tokenizers
    first, second = (theirs.encode(text, add_special_tokens=False) for text in ("a cat", "the dogs"))
    options = {"return_token_type_ids": True, "return_special_tokens_mask": True}
    for ids, texts in (((first,), ("a cat",)), ((first, second), ("a cat", "the dogs"))):
        expected = theirs(*texts, **options)
        assert ours.build_inputs_with_special_tokens(*ids) == expected["input_ids"]
        assert ours.create_token_type_ids_from_sequences(*ids) == expected["token_type_ids"]
        assert ours.get_special_tokens_mask(*ids) == expected["special_tokens_mask"]
        row = expected["input_ids"] + [theirs.pad_token_id]
        mask = theirs.get_special_tokens_mask(row, already_has_special_tokens=True)
        assert ours.get_special_tokens_mask(row, already_has_special_tokens=True) == mask
        assert ours.num_special_tokens_to_add(len(ids) == 2) == theirs.num_special_tokens_to_add(len(ids) == 2)


def test_rows_are_padded_later(tokenizers):
    ours, theirs = tokenizers
    rows = [ours("a cat"), ours("the dogs sat")]
    for options in ({}, {"padding": "max_length", "max_length": 20}, {"return_tensors": "np"}):
        for given_rows in (rows, {name: [row[name] for row in rows] for name in rows[0]}):
            found, expected = ours.pad(given_rows, **options), theirs.pad(given_rows, **options)
            assert {name: np.asarray(x).tolist() for name, x in found.items()} == {
                name: np.asarray(x).tolist() for name, x in expected.items()
            }


def test_rows_are_padded_on_the_side_that_is_asked_for(tokenizers, tmp_path):
    ours, theirs = (type(tokenizer).from_pretrained(tokenizers[1].name_or_path) for tokenizer in tokenizers)
    for tokenizer in (ours, theirs):
        tokenizer.padding_side = "left"
    assert plain(ours(TEXTS, padding=True)) == plain(theirs(TEXTS, padding=True))
    theirs.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    assert plain(type(ours).from_pretrained(tmp_path)(TEXTS, padding=True)) == plain(theirs(TEXTS, padding=True))
    (tmp_path / "tokenizer_config.json").write_text('{"truncation_side": "left"}')
    with pytest.raises(InputError, match="truncation_side is 'left', miniclip only has 'right'"):
        type(ours).from_pretrained(tmp_path)


def test_one_row_is_padded_and_decoded_alone(tokenizers):
    ours, theirs = tokenizers
    row = ours("a cat")["input_ids"]
    options = {"padding": "max_length", "max_length": 9}
    assert plain(ours.pad({"input_ids": row}, **options)) == plain(theirs.pad({"input_ids": row}, **options))
    for ids in (row, [], [row]):
        assert ours.batch_decode(ids) == theirs.batch_decode(ids)
    assert ours([], return_tensors="np").input_ids.dtype == np.int64


def test_vocabularies_with_capitals_are_refused(tmp_path):
    theirs = transformers.BertTokenizer(
        vocab={piece: id for id, piece in enumerate(dict.fromkeys(PIECES))}, do_lower_case=False
    )
    theirs.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"tokenizer_config\.json: is for a vocabulary with capitals"):
        hf.BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json: .*capitals, but ALIGN's has none"):
        hf.BertTokenizer.from_pretrained(tmp_path)


def test_vocabularies_are_saved_for_transformers(tokenizers, tmp_path):
    ours, theirs = tokenizers
    written = ours.save_pretrained(tmp_path / "m")
    again = type(theirs).from_pretrained(tmp_path / "m")
    assert all((tmp_path / "m").samefile(path.rpartition("/")[0]) for path in written)
    assert plain(again(TEXTS)) == plain(theirs(TEXTS)) == plain(type(ours).from_pretrained(tmp_path / "m")(TEXTS))
    theirs.save_pretrained(tmp_path / "theirs")  # one file, tokenizer.json
    assert plain(type(ours).from_pretrained(tmp_path / "theirs")(TEXTS)) == plain(theirs(TEXTS))
    files = ours.save_vocabulary(str(tmp_path), "small")
    assert [path.rpartition("/")[2] for path in files] == (
        ["small-vocab.json", "small-merges.txt"] if len(files) == 2 else ["small-vocab.txt"]
    )
    assert plain(type(ours)(*files)(TEXTS)) == plain(ours(TEXTS))


def test_clip_s_tokens_are_openai_s(official_tokenizer):
    ours = hf.CLIPTokenizer()
    assert hf.CLIPTokenizerFast is hf.CLIPTokenizer and hf.BertTokenizerFast is hf.BertTokenizer
    for text in ("“quoted”", "a &amp; b", "schÃ¶n", "it's 12 o'clock"):
        assert ours.encode(text, add_special_tokens=False) == official_tokenizer.encode(text)
    assert ours("a photo", padding="max_length", max_length=6).input_ids == [49406, 320, 1125, 49407, 49407, 49407]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a", "b c"],), {"return_tensors": "np"}, "input_ids has rows of different lengths: pass padding=True"),
        (("a",), {"return_tensors": "tf"}, "return_tensors is 'tf', expected 'np', 'pt' or None"),
        ((7,), {}, "text is 7, expected a str or a list of str"),
        (([["a", "b"]],), {}, "text is .*, expected a str or a list of str"),
        ((["a"], ["b", "c"]), {}, "text_pair has not as many texts as text"),
        (("a",), {"padding": "wide"}, "padding is 'wide', expected one of False"),
        (("a",), {"truncation": "middle"}, "truncation is 'middle', expected one of"),
        (("a b c",), {"truncation": True, "max_length": 1}, "max_length is 1: too short"),
    ],
)
def test_what_cannot_be_encoded_is_refused(tokenizers, arguments, options, message):
    with pytest.raises(InputError, match=message):
        tokenizers[0](*arguments, **options)


def test_vocabularies_that_are_none_are_refused(directories, tmp_path):
    with pytest.raises(InputError, match="has no vocabulary for a CLIPTokenizer"):
        hf.CLIPTokenizer.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="BertTokenizer has no vocabulary of its own: give vocab_file"):
        hf.BertTokenizer()
    (tmp_path / "vocab.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match=r"vocab\.json: its ids differ from those of .*merges\.txt"):
        hf.CLIPTokenizer(tmp_path / "vocab.json", directories["CLIP"] / "merges.txt")


# ------------------------------------------------------------------------------------------------------ pictures


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(40, 40), (64, 64), (60, 90), (31, 31)]
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


@pytest.fixture(scope="module", params=["CLIP", "Bert"])
def image_processors(request, directories):
    """(ours, theirs)"""
    name = {"CLIP": "CLIPImageProcessor", "Bert": "EfficientNetImageProcessor"}[request.param]
    return [
        getattr(module, name).from_pretrained(directories[request.param])
        for module, name in ((hf, name), (transformers, f"{name}Pil"))
    ]


def test_pictures_are_prepared_as_by_transformers(image_processors):
    ours, theirs = image_processors
    arrays = pictures()
    expected = theirs(arrays, return_tensors="np")["pixel_values"]
    kinds = {
        "arrays": arrays,
        "PIL": [Image.fromarray(x) for x in arrays],
        "tensors": [torch.from_numpy(x) for x in arrays],
        "channels first": [torch.from_numpy(x).permute(2, 0, 1) for x in arrays],
    }
    for images in kinds.values():
        found = ours.preprocess(images, return_tensors="np")
        np.testing.assert_allclose(found.pixel_values, expected, atol=1e-6)
    assert isinstance(ours(arrays, return_tensors="pt")["pixel_values"], torch.Tensor)
    lists = ours(arrays[0])["pixel_values"]
    assert isinstance(lists, list) and lists[0].shape == expected.shape[1:]
    square = np.stack([arrays[0], arrays[0][::-1]])
    np.testing.assert_array_equal(ours(square, return_tensors="np").pixel_values[0], lists[0])
    assert ours(torch.from_numpy(square), return_tensors="np").pixel_values.shape == (2, *expected.shape[1:])


def test_settings_are_transformers(image_processors, tmp_path):
    ours, theirs = image_processors
    idle = (
        {"image_processor_type", "image_mean", "image_std"}
        if theirs.do_normalize is False
        else {"image_processor_type"}
    )
    for name in theirs.to_dict().keys() - idle:
        value = theirs.to_dict()[name]
        assert ours.to_dict()[name] == getattr(ours, name) == (list(value) if isinstance(value, tuple) else value), name
    ours.save_pretrained(tmp_path)
    np.testing.assert_array_equal(
        theirs.from_pretrained(tmp_path)(pictures(), return_tensors="np")["pixel_values"],
        theirs(pictures(), return_tensors="np")["pixel_values"],
    )
    assert type(ours).from_pretrained(tmp_path).to_dict() == ours.to_dict()


def test_other_ways_to_prepare_pictures_are_refused(image_processors):
    ours, _ = image_processors
    with pytest.raises(InputError, match=f"{type(ours).__name__} takes no nonsense here"):
        ours(pictures(), nonsense=3)
    for settings in ({"do_resize": False}, {"resample": 0}, {"rescale_factor": 0.5}):
        with pytest.raises(InputError, match=rf"{type(ours).__name__}: prepares pictures with {next(iter(settings))}"):
            ours.preprocess(pictures(), **settings)
        with pytest.raises(InputError, match=next(iter(settings))):
            type(ours)(**settings)
    same = {name: tuple(x) if isinstance(x, list) else x for name, x in ours.to_dict().items()}
    assert type(ours)(**same).to_dict() == ours.to_dict()
    with pytest.raises(InputError, match=r"crop_size is \{'side': 3\}, expected a height and a width"):
        type(ours)(crop_size={"side": 3})
    assert hf.CLIPFeatureExtractor is hf.CLIPImageProcessor
    assert hf.CLIPImageProcessor().size == {"shortest_edge": 224}


# ---------------------------------------------------------------------------------------------------- processors


@pytest.mark.filterwarnings("ignore:.max_length. is ignored")
@pytest.mark.parametrize("family", ["CLIP", "Align"])
def test_texts_and_pictures_go_together_as_in_transformers(directories, family, tmp_path):
    directory = directories["CLIP" if family == "CLIP" else "Bert"]
    ours, theirs = (getattr(module, f"{family}Processor").from_pretrained(directory) for module in (hf, transformers))
    texts, images = ["a cat", "the dogs sat"], pictures()[:2]
    for inputs in ({"text": texts, "images": images}, {"text": texts}, {"images": images}, {"text": "a cat"}):
        for kind in ("np", "pt"):
            found = ours(**inputs, return_tensors=kind, padding=True)
            expected = theirs(**inputs, return_tensors=kind, padding=True)
            assert list(found) == list(expected)
            for name in expected:
                assert found[name].dtype == expected[name].dtype
                np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    default = ours(text=texts, images=images), theirs(text=texts, images=images)
    assert default[0].input_ids == default[1].input_ids  # ALIGN's texts are padded to 64
    for x, y in zip(
        *(ours(*pair, return_tensors="np", padding=True).values() for pair in ((images, texts), (texts, images)))
    ):
        np.testing.assert_array_equal(x, y)
    ids = theirs(text=texts)["input_ids"]
    assert ours.batch_decode(ids) == theirs.batch_decode(ids) and ours.decode(ids[0]) == theirs.decode(ids[0])
    assert sorted(ours.model_input_names) == sorted(theirs.model_input_names)
    assert ours.feature_extractor is ours.image_processor
    ours.save_pretrained(tmp_path / "m")
    again = type(theirs).from_pretrained(tmp_path / "m")
    for name, x in again(text=texts, images=images, return_tensors="np", padding=True).items():
        np.testing.assert_allclose(x, theirs(text=texts, images=images, return_tensors="np", padding=True)[name])
    with pytest.raises(InputError, match="neither text nor images"):
        ours()
    for options, message in (({"do_resize": False}, "do_resize = False"), ({"nonsense": 3}, "takes no nonsense")):
        with pytest.raises(InputError, match=message):
            ours(images=images, padding=True, **options)
    with pytest.raises(InputError, match=f"this {family}Processor was made without its image_processor"):
        type(ours)(tokenizer=ours.tokenizer)(text=texts, images=images)
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    assert list(ours(images=str(tmp_path / "one.png"), return_tensors="np")) == ["pixel_values"]
    with pytest.raises(AttributeError, match="this encoding has no pixels, only input_ids"):
        _ = ours(text=texts).pixels


def test_inputs_change_their_dtype_where_they_are_floats(directories):
    inputs = hf.CLIPProcessor.from_pretrained(directories["CLIP"])(text="a", images=pictures(), return_tensors="pt")
    inputs.to("cpu", torch.float16)
    assert (inputs.pixel_values.dtype, inputs.input_ids.dtype) == (torch.float16, torch.int64)


def test_inputs_move_to_a_device(directories):
    inputs = hf.CLIPProcessor.from_pretrained(directories["CLIP"])(text="a", images=pictures(), return_tensors="pt")
    assert inputs.to("meta") is inputs and {x.device.type for x in inputs.values()} == {"meta"}


def test_a_model_of_another_source_has_its_processor():
    processor = hf.CLIPProcessor.from_pretrained("shapes")
    model, preprocess = miniclip.load("shapes")
    inputs = processor(text=["a red heart"], images="weights/example.png", return_tensors="np")
    np.testing.assert_array_equal(inputs.pixel_values, preprocess(["weights/example.png"]))
    assert inputs.input_ids[0].tolist() == [*model.tokenize("a red heart")[0, : inputs.input_ids.shape[1]]]
    assert processor.tokenizer.model_max_length == 32
    with pytest.raises(InputError, match="EfficientNetImageProcessor cannot prepare pictures for this model"):
        hf.EfficientNetImageProcessor.from_pretrained("shapes")


# ------------------------------------------------------------------------------------------------- configurations

CONFIGS = [f"{family}{part}Config" for family in ("CLIP", "Align") for part in ("", "Text", "Vision")]


@pytest.mark.parametrize("name", CONFIGS)
def test_defaults_are_transformers(name):
    # Leave out the settings that all of transformers' configurations have, and an EfficientNet's computed depth.
    general = {*transformers.PreTrainedConfig().to_dict(), "output_attentions", "num_hidden_layers"} - {"model_type"}

    def own(settings):
        return {k: own(x) if isinstance(x, dict) else x for k, x in settings.items() if k not in general}

    assert own(getattr(hf, name)().to_dict()) == own(getattr(transformers, name)().to_dict())


@pytest.mark.parametrize("family", ["CLIP", "Align"])
def test_configurations_are_made_of_their_towers_saved_and_read(family, tmp_path):
    whole, text, vision = (getattr(hf, f"{family}{part}Config") for part in ("", "Text", "Vision"))
    sizes = {"width_coefficient": 1.0} if family == "Align" else {"patch_size": 16}
    towers = text(hidden_size=48, num_attention_heads=4, my_own="note"), vision(image_size=64, **sizes)
    config = whole.from_text_vision_configs(*towers, projection_dim=320)
    assert config == whole(text_config=towers[0].to_dict(), vision_config=towers[1], projection_dim=320)
    assert config.text_config.my_own == "note" and config.text_config.hidden_size == 48
    config.save_pretrained(tmp_path / "ours")
    assert whole.from_pretrained(tmp_path / "ours") == config != whole(projection_dim=640 if family == "Align" else 5)
    assert text.from_pretrained(tmp_path / "ours").hidden_size == 48
    theirs = getattr(transformers, f"{family}Config").from_pretrained(tmp_path / "ours")
    assert theirs.text_config.hidden_size == 48 and theirs.vision_config.image_size == 64
    theirs.save_pretrained(tmp_path / "theirs")
    again = whole.from_pretrained(tmp_path / "theirs")
    assert again.ours() == config.ours()
    assert json.loads(config.to_json_string())["projection_dim"] == 320 and "projection_dim" in repr(config)


def test_what_older_files_say_twice_is_taken_as_by_transformers():
    settings = {"text_config": {"hidden_size": 64, "vocab_size": 99}, "text_config_dict": {"hidden_size": 48}}
    ours, theirs = hf.CLIPConfig(**settings), transformers.CLIPConfig(**settings)
    assert ours.text_config.hidden_size == theirs.text_config.hidden_size == 48
    assert ours.text_config.vocab_size == theirs.text_config.vocab_size and "text_config_dict" not in ours.to_dict()


def test_configurations_that_no_model_has_are_refused(tmp_path):
    with pytest.raises(InputError, match="CLIPTextConfig: width 50 cannot be shared by 8 heads"):
        hf.CLIPTextConfig(hidden_size=50)
    with pytest.raises(InputError, match=r"CLIPConfig: .*activation is 'mish'"):
        hf.CLIPConfig(vision_config={"hidden_act": "mish"})
    hf.CLIPTextConfig().save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match="is a model of type 'clip_text_model', but CLIPVisionConfig expects 'clip_vision_model'"
    ):
        hf.CLIPVisionConfig.from_pretrained(tmp_path)
