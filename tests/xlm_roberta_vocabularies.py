"""Small vocabularies of XLM-RoBERTa, made here, in directories with the files that such models have."""

import io
import json
import warnings

import pytest

CORPUS = [
    "a photo of a red cat",
    "the cat sat on the red mat with 3 dogs",
    "un chat rouge sur le tapis à côté de deux chiens",
    "eine rote Katze auf der Matte",
    "日本語 の 猫 の 写真",
    "красная кошка на ковре",
    "قطة حمراء على السجادة",
    "빨간 고양이 두 마리",
    "लाल बिल्ली",
    "seven wizards mix quartz painting vivid yellow flowers",
]
KINDS = ["sentencepiece", "tokenizer.json", "settings"]


@pytest.fixture(scope="session")
def sentencepiece_bytes():
    """A SentencePiece model, trained with the normalisation and the special tokens of XLM-RoBERTa's."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="pip install sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        vocab_size=200,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def xlm_roberta_directories(sentencepiece_bytes, tmp_path_factory):
    """{a kind: a directory}: sentencepiece.bpe.model alone; tokenizer.json as the official one; both, with settings."""
    import transformers

    directories = {kind: tmp_path_factory.mktemp("xlm_roberta") for kind in KINDS}
    first, second, third = directories.values()
    (first / "sentencepiece.bpe.model").write_bytes(sentencepiece_bytes)
    (first / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 16}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.XLMRobertaTokenizer.from_pretrained(first).save_pretrained(second)
    content = json.loads((second / "tokenizer.json").read_text())
    content["added_tokens"][-1]["lstrip"] = True  # as in the official file: <mask> is found with the space before it
    for directory in (second, third):
        (directory / "tokenizer.json").write_text(json.dumps(content))
        (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 16}))
    settings = {
        "add_prefix_space": False,
        "model_max_length": 16,
        "padding_side": "left",
        "added_tokens_decoder": {str(x.pop("id")): x for x in content["added_tokens"]},
        "additional_special_tokens": ["▁cat"],
    }
    (third / "tokenizer_config.json").write_text(json.dumps(settings))
    return directories
