"""transformers' Chinese-CLIP and AltCLIP of random weights, saved in directories, and a small vocabulary."""

import hf_models
import pytest
import transformers
from small_vocabularies import SPECIAL

from miniclip.tokenizers.wordpiece import WordPiece

SIZES = {key: x for key, x in hf_models.SIZES.items() if key[0] in ("ChineseCLIP", "AltCLIP")}
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
    size = {"height": 30, "width": 30}
    transformers.ChineseCLIPImageProcessorPil(size=size, do_center_crop=False).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def alt(tmp_path_factory):
    """The directory of transformers' smallest AltCLIP, without a vocabulary."""
    directory = tmp_path_factory.mktemp("alt") / "m"
    hf_models.official("AltCLIP", hf_models.ALT["small"]).save_pretrained(directory)
    return directory


def save_alt(directory, vocabulary):
    """Save an AltCLIP, the settings of its pictures, and XLM-RoBERTa's tokenizer from the directory `vocabulary`."""
    tokenizer = transformers.XLMRobertaTokenizer.from_pretrained(vocabulary)
    sizes = hf_models.ALT["small"]
    sizes = {**sizes, "text_config": {**sizes["text_config"], "vocab_size": len(tokenizer), "pad_token_id": 1}}
    hf_models.official("AltCLIP", sizes).save_pretrained(directory)
    side = sizes["vision_config"]["image_size"]
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)
    transformers.AltCLIPProcessor(images, tokenizer).save_pretrained(directory)
