"""transformers' Chinese-CLIP and AltCLIP of random weights, saved in directories, and a small vocabulary."""

import hf_models
import pytest
from transformers import ChineseCLIPImageProcessorPil

from miniclip.tokenizers.wordpiece import WordPiece

SIZES = {key: x for key, x in hf_models.SIZES.items() if key[0] in ("ChineseCLIP", "AltCLIP")}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, *"杰尼龟妙蛙种子小火皮卡丘一只猫的照片", *"abcdefghijklmnopqrstuvwxyz", "##a", "##b", "##c"]


@pytest.fixture(scope="module", params=SIZES, ids=" ".join)
def pair(request, tmp_path_factory):
    """(transformers' model, the directory that it was saved in)."""
    model = hf_models.official(request.param[0], SIZES[request.param])
    directory = tmp_path_factory.mktemp("pair") / "m"
    model.save_pretrained(directory)
    return model, directory


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The directory of transformers' smallest Chinese-CLIP, with a vocabulary and the settings of its pictures."""
    directory = tmp_path_factory.mktemp("small") / "m"
    hf_models.official("ChineseCLIP", hf_models.CHINESE["small"]).save_pretrained(directory)
    WordPiece([*PIECES, *(f"x{i}" for i in range(60 - len(PIECES)))]).save(directory / "vocab.txt")
    # as in OFA-Sys/chinese-clip-vit-base-patch16's preprocessor_config.json
    ChineseCLIPImageProcessorPil(size={"height": 30, "width": 30}, do_center_crop=False).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def alt(tmp_path_factory):
    """The directory of transformers' smallest AltCLIP, without a vocabulary."""
    directory = tmp_path_factory.mktemp("alt") / "m"
    hf_models.official("AltCLIP", hf_models.ALT["small"]).save_pretrained(directory)
    return directory
