"""Small vocabularies of SigLIP and SigLIP 2, made here, in directories as transformers writes them."""

import io
import json
import warnings

import pytest

CORPUS = [
    "a photo of a red cat",
    "the cat sat on the red mat with 3 dogs",
    "photos of cats dogs and a 日本語 café",
    "one traffic light and two blue tshirts",
    "seven wizards mix quartz painting vivid yellow flowers",
]


@pytest.fixture(scope="session")
def sentencepiece():
    """The package; tests that need it are skipped without it."""
    return pytest.importorskip("sentencepiece", reason="pip install sentencepiece")


@pytest.fixture(scope="session")
def spiece_directory(sentencepiece, tmp_path_factory):
    """A directory with a spiece.model, whose special tokens have the ids of SigLIP's, and transformers' settings."""
    directory, model = tmp_path_factory.mktemp("spiece"), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    )
    (directory / "spiece.model").write_bytes(model.getvalue())
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 16, "model_input_names": ["input_ids"]}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


@pytest.fixture(scope="session")
def gemma_directory(tmp_path_factory):
    """{the class of transformers: a directory with a tokenizer.json that it wrote}."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import GemmaTokenizer, Siglip2Tokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=[*special, *bytes_], show_progress=False)
    trained.train_from_iterator([*CORPUS, "A Red CAT"] * 20, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    directories = {}
    for kind in (GemmaTokenizer, Siglip2Tokenizer):
        directory = tmp_path_factory.mktemp(kind.__name__)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind(
                model["vocab"], merges, add_bos_token=False, add_eos_token=True, padding_side="right",
                model_max_length=16, model_input_names=["input_ids"],
            ).save_pretrained(directory)  # fmt: skip
        directories[kind.__name__] = directory
    return directories
