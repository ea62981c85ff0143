"""Special and added tokens of miniclip.hf's tokenizers against transformers' classes of the same names."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import copy
import json
import pickle
import shutil

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from small_vocabularies import directories  # noqa: F401
from transformers import AddedToken

import miniclip
from miniclip import InputError, hf
from miniclip.checkpoints.convert import convert

ROLES = hf.CLIPTokenizer.SPECIAL_TOKENS_ATTRIBUTES
KINDS = ["CLIP", "Bert"]


def both(name, directory, **options):
    """(ours, theirs)"""
    classes = (getattr(module, f"{name}Tokenizer") for module in (hf, transformers))
    return [kind.from_pretrained(directory, **options) for kind in classes]


def state(tokenizer):
    """All that a tokenizer knows of special and added tokens."""
    names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    added = {id: [getattr(x, name) for name in names] for id, x in tokenizer.added_tokens_decoder.items()}
    special = {role: (getattr(tokenizer, role), getattr(tokenizer, f"{role}_id")) for role in ROLES}
    lists = [tokenizer.all_special_tokens, tokenizer.all_special_ids, tokenizer.extra_special_tokens]
    sizes = len(tokenizer), tokenizer.vocab_size, tokenizer.get_vocab(), tokenizer.get_added_vocab()
    return added, special, lists, sizes, tokenizer.added_tokens_encoder, tokenizer.special_tokens_map


def ids(tokenizer, texts, **options):
    return tokenizer(texts, padding=True, **options)["input_ids"]


TEXTS = ["a cat! <my-cat> sat!!", "red<my-cat>s", "!"]


def special(content, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, **flags}


@pytest.fixture(params=["decoder", "map", "added", "config"])
def stable_diffusion(request, directories, tmp_path):
    """A directory whose tokenizer pads with "!", which is one of the vocabulary, as Stable Diffusion's do."""
    shutil.copytree(directories["CLIP"], tmp_path / "tokenizer")
    size = len(hf.CLIPTokenizer.from_pretrained(directories["CLIP"]))
    end, start = ("<|endoftext|>", "<|startoftext|>")
    decoder = {"0": special("!", special=True), str(size - 1): special(end, special=True, normalized=True)}
    decoder |= {str(size - 2): special(start, special=True), str(size): special("<my-cat>", normalized=True)}
    files = {
        "decoder": {"tokenizer_config": {"pad_token": "!", "added_tokens_decoder": decoder}},
        "map": {
            "special_tokens_map": {"pad_token": "!", "bos_token": special(start)},
            "added_tokens": {"<my-cat>": size},
        },
        "added": {
            "tokenizer_config": {"pad_token": special("!", __type="AddedToken")},
            "added_tokens": {"<my-cat>": size},
        },
        "config": {"tokenizer_config": {"pad_token": "!", "extra_special_tokens": ["<my-cat>"]}},
    }[request.param]
    for name, content in files.items():
        (tmp_path / "tokenizer" / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_stable_diffusion_s_tokenizers_are_read_and_saved(stable_diffusion, tmp_path):
    ours, theirs = both("CLIP", stable_diffusion, subfolder="tokenizer")
    assert state(ours) == state(theirs) and ours.pad_token_id == 0
    assert ids(ours, TEXTS) == ids(theirs, TEXTS)
    size = len(ours) - 1
    assert size in ids(ours, TEXTS)[1] and ids(ours, TEXTS)[2][1] == ids(ours, TEXTS)[2][-1] == 0
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    for directory in ("ours", "theirs"):
        for again in both("CLIP", tmp_path / directory):
            assert state(again) == state(theirs) and ids(again, TEXTS) == ids(theirs, TEXTS)


def test_models_have_the_added_tokens_of_their_directory(stable_diffusion, directories):
    from miniclip.families.clip import huggingface

    tokenizer = huggingface.load_tokenizer(stable_diffusion / "tokenizer", None)
    expected = transformers.CLIPTokenizer.from_pretrained(stable_diffusion / "tokenizer")
    for text, row in zip(TEXTS, tokenizer.tokenize(TEXTS, 30)):
        assert [id for id in row.tolist() if id] == [id for id in expected(text)["input_ids"] if id]
        assert tokenizer.decode(expected(text)["input_ids"]).strip() == expected.decode(expected(text)["input_ids"])
    assert len(tokenizer) == len(expected)
    with pytest.raises(InputError, match="added tokens, which only transformers' files can express"):
        tokenizer.lines()
    plain = huggingface.load_tokenizer(directories["CLIP"], None)
    assert type(plain) is miniclip.Tokenizer  # without added tokens nothing is wrapped around it


TOKENS = [
    ("<my-cat>", {}),
    ("Bim", {}),
    ("[X]", {"special": True}),
    ("at", {"single_word": True}),
    ("rst", {"rstrip": True, "normalized": False}),
    ("lst", {"lstrip": True, "normalized": False}),
    ("a  cat", {}),
    ("!", {"special": True}),
    ("本", {"normalized": False}),
    ("cat", {"normalized": False}),
    ("text", {}),
]
WORDS = [
    "a",
    "cat",
    "!",
    " ",
    "  ",
    "<my-cat>",
    "BIM",
    "bimbo",
    "[X]",
    "at",
    "rst",
    "lst",
    "日本",
    "it's",
    "é",
    "[MASK]",
    "<|startoftext|>",
    "<|endoftext|>",
    "mat",
    "tomatoes",
]


@pytest.mark.parametrize("name", KINDS)
@given(
    tokens=st.lists(st.sampled_from(TOKENS), unique_by=lambda token: token[0]),
    words=st.lists(st.lists(st.sampled_from(WORDS)), min_size=1, max_size=3),
    separator=st.sampled_from(["", " "]),
)
def test_added_tokens_are_found_as_by_transformers(directories, name, tokens, words, separator):
    ours, theirs = both(name, directories[name])
    for content, flags in tokens:
        token, is_special = AddedToken(content, **flags), "special" in flags
        assert ours.add_tokens(token, is_special) == theirs.add_tokens(token, is_special)
    assert state(ours) == state(theirs)
    texts = [separator.join(row) for row in words]
    options = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    found, expected = ours(texts, **options), theirs(texts, **options)
    assert dict(found) == dict(expected)
    for row, other in zip(found.encodings, expected.encodings):
        assert (row.word_ids, row.sequence_ids) == (other.word_ids, other.sequence_ids)
        for skip in (True, False):
            assert ours.decode(row.ids, skip_special_tokens=skip) == theirs.decode(row.ids, skip_special_tokens=skip)


@pytest.mark.parametrize("name", KINDS)
def test_a_token_keeps_the_space_at_its_end(directories, name):
    ours, theirs = both(name, directories[name])
    for tokenizer in (ours, theirs):
        tokenizer.add_tokens(["mat "])
    texts = ["mat tomatoes", "tomat tomatoes", "a mat a"]
    assert ids(ours, texts) == ids(theirs, texts)


@pytest.mark.parametrize("name", KINDS)
def test_tokens_are_added_and_counted_as_by_transformers(directories, name, tmp_path):
    ours, theirs = both(name, directories[name])
    steps = [
        ("add_tokens", ["<my-cat>", "cat", "<my-cat>"]),
        ("add_tokens", "<my-dog>"),
        ("add_tokens", ""),
        ("add_tokens", []),
        ("add_special_tokens", {"pad_token": "<pad>", "extra_special_tokens": ["<x>", AddedToken("<y>", lstrip=True)]}),
        ("add_special_tokens", {"additional_special_tokens": ["<z>"]}),
        ("add_special_tokens", {"eos_token": "<my-dog>"}),
        ("add_tokens", [AddedToken("<my-cat>", lstrip=True)]),
        ("add_special_tokens", {}),
    ]
    for method, value in steps:
        assert getattr(ours, method)(value) == getattr(theirs, method)(value)
        assert state(ours) == state(theirs)
    texts = ["a <my-cat><my-dog> cat", "<pad><x>"]
    assert ids(ours, texts) == ids(theirs, texts)
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert state(again) == state(ours) and ids(again, texts) == ids(ours, texts)
        again.add_tokens("<more>")
        assert len(again) == len(ours) + 1  # the copy has its own vocabulary
    with pytest.raises(InputError, match="there is no special token 'padding'"):
        ours.add_special_tokens({"padding": "x"})
    with pytest.raises(InputError, match="7 is not a token, expected a str or an AddedToken"):
        ours.add_tokens([7])


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_are_set_as_in_transformers(directories, name):
    ours, theirs = both(name, directories[name])
    for tokenizer in (ours, theirs):
        tokenizer.pad_token = "!"
        tokenizer.mask_token_id = 7
        tokenizer.unk_token = None
        tokenizer.extra_special_tokens_ids = [3]
    assert state(ours)[1:3] == state(theirs)[1:3]
    assert ids(ours, ["a", "a a"]) == ids(theirs, ["a", "a a"])
    ours.pad_token = None
    with pytest.raises(InputError, match=r"there is no padding token: set tokenizer\.pad_token"):
        ids(ours, ["a", "a a"])
    with pytest.raises(InputError, match="extra_special_tokens is 7, expected a list of tokens"):
        ours.extra_special_tokens = 7


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_are_given_to_from_pretrained(directories, name):
    options = {"pad_token": "<pad>", "bos_token": "<BOS>", "extra_special_tokens": ["<x>"], "model_max_length": 9}
    options |= {"local_files_only": True, "use_fast": True, "revision": "main", "token": None, "legacy": False}
    ours, theirs = both(name, directories[name], **options)
    assert state(ours) == state(theirs) and ours.model_max_length == 9 and ours.is_fast
    assert ours.name_or_path == theirs.name_or_path
    for bad, message in (
        ({"revision": 2}, "revision is 2, expected a str"),
        ({"token": "hf_1"}, "HF_TOKEN"),
        ({"get_vocab": True}, "takes no get_vocab here"),
        ({"extra_special_tokens": {"image_token": "<i>"}}, "expected a list of tokens"),
        ({"subfolder": 7}, "subfolder is 7"),
    ):
        with pytest.raises(InputError, match=message):
            type(ours).from_pretrained(directories[name], **bad)
    with pytest.raises(InputError, match="is not on this machine with all its files, and local_files_only forbids"):
        type(ours).from_pretrained("nobody/nothing", local_files_only=True)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config", {"model_max_length": "long"}, "model_max_length is 'long', expected a whole number"),
        ("tokenizer_config", {"model_max_length": [77]}, "model_max_length is .77., expected a whole number"),
        ("tokenizer_config", {"pad_token": 7}, r"tokenizer_config\.json: .* is not a token"),
        ("tokenizer_config", {"added_tokens_decoder": {"x": "<a>"}}, r"tokenizer_config\.json: .*invalid literal"),
        (
            "tokenizer_config",
            {"added_tokens_decoder": {"9999": "<a>"}},
            "token '<a>' has the id 9999, but the vocabulary",
        ),
        ("tokenizer_config", {"truncation_side": "both"}, "truncation_side is 'both'"),
        ("special_tokens_map", {"pad_token": {"lstrip": 1}}, r"special_tokens_map\.json: not the settings"),
        ("added_tokens", {"<a>": "x"}, r"the added token '<a>' has the id|added_tokens_decoder is"),
        ("added_tokens", [], r"added_tokens\.json: expected a JSON object"),
        ("tokenizer", {"added_tokens": [{"content": "x"}]}, r"tokenizer\.json: not the settings of a tokenizer"),
        ("tokenizer", {"model": {"vocab": "/etc/passwd", "merges": []}}, r"tokenizer\.json: has no"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", KINDS)
def test_files_that_are_malformed_are_refused(directories, tmp_path, name, file, content, message):
    shutil.copytree(directories[name], tmp_path / "t")
    (tmp_path / "t" / f"{file}.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        both(name, tmp_path / "t")


def test_a_limit_that_no_row_can_have_is_none(directories, tmp_path):
    shutil.copytree(directories["CLIP"], tmp_path / "t")
    (tmp_path / "t" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 2**70}))
    ours, theirs = both("CLIP", tmp_path / "t")
    options = {"padding": "max_length", "truncation": True}
    assert ours("a cat", **options)["input_ids"] == theirs("a cat", **options)["input_ids"]
    assert ours.model_max_length == theirs.model_max_length == 2**70
    with pytest.raises(InputError, match="do not fit into memory"):
        ours("a cat", padding="max_length", max_length=2**62)


@pytest.mark.parametrize("name", KINDS)
def test_one_file_has_a_tokenizer_with_its_added_tokens(directories, tmp_path, name):
    theirs = both(name, directories[name])[1]
    theirs.add_tokens(["<my-cat>"])
    theirs.save_pretrained(tmp_path)
    for ours in both(name, tmp_path / "tokenizer.json"):
        assert ids(ours, TEXTS) == ids(theirs, TEXTS) and len(ours) == len(theirs)


def test_forms_without_a_vocabulary_refuse_other_ids(directories, official_vocabulary, tmp_path):
    tokenizer = miniclip.Tokenizer.load(official_vocabulary, 49408)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
    config = transformers.CLIPConfig(vision_config={**sizes, "image_size": 32}, text_config=sizes, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(tmp_path / "m")
    tokenizer.save(tmp_path / "m" / "merges.txt")
    vocab = {token: 49407 - id for token, id in tokenizer.encoder.items()}
    (tmp_path / "m" / "vocab.json").write_text(json.dumps(vocab))
    assert miniclip.load(tmp_path / "m")[0].tokenize(["a"])[0, 0] == 1  # 49406 is the official start
    for form in ("openai", "open_clip"):
        with pytest.raises(InputError, match=f"has a vocabulary of its own, which the form '{form}' cannot express"):
            convert(tmp_path / "m", tmp_path / "converted", to=form)


def test_special_tokens_with_names_of_their_own_are_refused(directories, tmp_path):
    shutil.copytree(directories["CLIP"], tmp_path / "t")
    (tmp_path / "t" / "tokenizer_config.json").write_text('{"image_token": "<image>"}')
    with pytest.raises(InputError, match=r"tokenizer_config\.json: has image_token, a special token with its own name"):
        hf.CLIPTokenizer.from_pretrained(tmp_path / "t")


def test_files_that_contradict_each_other_are_refused(directories, tmp_path):
    shutil.copytree(directories["CLIP"], tmp_path / "t")
    (tmp_path / "t" / "tokenizer_config.json").write_text('{"added_tokens_decoder": {}}')
    (tmp_path / "t" / "added_tokens.json").write_text('{"<my-cat>": 560}')
    with pytest.raises(InputError, match=r"has <my-cat>, but tokenizer_config\.json has added_tokens_decoder without"):
        hf.CLIPTokenizer.from_pretrained(tmp_path / "t")
