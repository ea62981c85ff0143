"""Directories with small vocabularies and the settings of image processors."""

import json

import pytest
from transformers import ChineseCLIPImageProcessorPil, CLIPImageProcessorPil, EfficientNetImageProcessorPil

from miniclip import Tokenizer
from miniclip.tokenizers.wordpiece import WordPiece

CORPUS = ["a photo of a red cat", "the cat sat on the red mat", "photos of cats, dogs and a 日本語 café!"] * 3
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz,!", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"), "cat", "##s"]

ALIGN_PICTURES = {
    "size": {"height": 50, "width": 50},
    "crop_size": {"height": 41, "width": 41},
    **{"do_center_crop": True, "do_normalize": False, "include_top": False, "resample": 2},
    **{"rescale_factor": 1 / 127.5, "rescale_offset": True},
}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """{"CLIP", "Bert", "Chinese": a directory with a small vocabulary and the settings of an image processor}."""
    clip, bert, chinese = (tmp_path_factory.mktemp(name) for name in ("clip", "bert", "chinese"))
    tokenizer = Tokenizer.train(CORPUS, 560)
    tokenizer.save(clip / "merges.txt")
    (clip / "vocab.json").write_text(json.dumps(tokenizer.encoder))
    (clip / "tokenizer_config.json").write_text('{"model_max_length": 12, "tokenizer_class": "CLIPTokenizer"}')
    CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=40).save_pretrained(clip)
    for directory in (bert, chinese):
        WordPiece(dict.fromkeys(PIECES)).save(directory / "vocab.txt")
        (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    ChineseCLIPImageProcessorPil(size={"height": 40, "width": 40}, do_center_crop=False).save_pretrained(chinese)
    EfficientNetImageProcessorPil(**ALIGN_PICTURES).save_pretrained(bert)
    return {"CLIP": clip, "Bert": bert, "Chinese": chinese}
