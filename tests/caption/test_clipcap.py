"""ClipCap's files: each mapping network, GPT-2 and the vocabulary give what torch and transformers give."""

import json

import numpy as np
import pytest
import torch
from backends import HERE
from clipcaps import ClipCap

import miniclip
from miniclip import caption, checkpoints
from miniclip.caption import clipcap, files
from miniclip.caption.decoder import Decoder
from miniclip.cli import main
from miniclip.errors import InputError
from miniclip.formats import torch_files
from miniclip.ops import numpy_ops, select, torch_ops

JAX = [select("jax")] if "jax" in HERE else []
KINDS = ("mlp", "linear", "transformer")
E = 128  # the width of the built-in model's features
PICTURE = "weights/example.png"


def write(model, path):
    """The file that ClipCap's train.py writes; older versions of GPT-2 also stored their masks."""
    state = model.state_dict()
    state["gpt.transformer.h.0.attn.bias"] = torch.ones(1, 1, 100, 100, dtype=torch.bool).tril()
    state["gpt.transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, path)


@pytest.fixture(params=KINDS)
def pair(request, tmp_path):
    """A ClipCap of torch, and its file."""
    model, path = ClipCap(request.param, embed_dim=E), tmp_path / "coco-009.pt"
    write(model, path)
    return model, path


@pytest.fixture
def vocabulary(tmp_path):
    """A folder with a vocab.json of 40 tokens: "." is 13, as in GPT-2's."""
    symbols = [chr(ord("a") + i) if i != 13 else "." for i in range(26)]
    symbols += [f"Ġ{chr(ord('a') + i)}" for i in range(12)] + ["Ã©", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    return tmp_path


@pytest.mark.parametrize("ops", [numpy_ops, torch_ops, *JAX], ids=lambda ops: ops.NAME)
def test_the_prefix_and_the_next_token_are_theirs(pair, ops):
    model, path = pair
    config, tree, trained_with = files.load(path)
    assert trained_with is None
    decoder = Decoder(config, tree, ops)
    features, tokens = torch.randn(3, E), torch.randint(40, (3, 5))
    prefix = decoder.prefix(features.numpy())
    theirs = model.prefix(features)
    np.testing.assert_allclose(ops.to_numpy(prefix), theirs, atol=1e-5 * theirs.abs().max().item())
    embedded = torch.cat([theirs, model.gpt.transformer.wte(tokens)], dim=1)
    with torch.no_grad():
        logits = model.gpt(inputs_embeds=embedded).logits  # (3, P + T, V)
    tolerance = 1e-4 * logits.abs().max().item()
    np.testing.assert_allclose(ops.to_numpy(decoder.logits(prefix, tokens.numpy())), logits[:, -1], atol=tolerance)
    everywhere = decoder.logits(prefix, tokens.numpy(), last=False)
    np.testing.assert_allclose(ops.to_numpy(everywhere), logits, atol=tolerance)


def official(model, features, **how):
    """The tokens of transformers' beams, the best first: until the first "."; `how` are generate's options."""
    how = {"num_return_sequences": how["num_beams"], "do_sample": False, "eos_token_id": 13, "pad_token_id": 13, **how}
    prefix = model.prefix(features)
    found = model.gpt.generate(
        inputs_embeds=prefix, attention_mask=torch.ones(prefix.shape[:2]), max_new_tokens=67, **how
    ).tolist()
    return [row[: row.index(13) + 1] if 13 in row else row for row in found]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("normalize", [None, True])
def test_captions_are_the_beams_of_transformers(pair, vocabulary, backend, normalize):
    model, path = pair
    captioner = caption.load("shapes", path, vocabulary=vocabulary, normalize=normalize, backend=backend)
    images = captioner.preprocess([PICTURE, np.zeros((48, 48, 3), np.uint8)])
    features = torch.as_tensor(captioner.model.encode_image(images, normalize=bool(normalize)))
    words = clipcap.Vocabulary(vocabulary, 40)
    for ours, feature in zip(captioner(images), features):
        beams = official(model, feature[None], num_beams=5)
        assert [text for text, _ in ours] == [words.decode(tokens) for tokens in beams]


def test_the_command_prints_them(pair, vocabulary, capsys):
    model, path = pair
    options = ["--decoder", str(path), "--vocabulary", str(vocabulary), "--top", "3", "--json"]
    assert main(["caption", PICTURE, *options]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    clip, preprocess = miniclip.load()
    features = torch.as_tensor(clip.encode_image(preprocess([PICTURE])))
    beams = official(model, features, num_beams=5)[:3]
    words = clipcap.Vocabulary(vocabulary, 40)
    assert [entry["caption"] for entry in answer["captions"]] == [words.decode(tokens) for tokens in beams]


def test_the_vocabulary_decodes_bytes_and_special_tokens(vocabulary):
    words = clipcap.Vocabulary(vocabulary / "vocab.json", 40)
    assert words.end_id == 13
    assert words.decode([28, 0, 38, 27, 13, 39]) == "caé b.<|endoftext|>"


@pytest.mark.parametrize("size", [39, 41])
def test_a_vocabulary_of_another_size_is_refused(vocabulary, size):
    with pytest.raises(InputError, match=f"expected the tokens 0 to {size - 1} of the decoder"):
        clipcap.Vocabulary(vocabulary, size)


def test_a_vocabulary_without_an_end_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    with pytest.raises(InputError, match=r"has no token '\.', which ends a caption"):
        clipcap.Vocabulary(tmp_path, 2)


def changed(path, change):
    tensors = torch_files.read(path)
    change(tensors)
    torch_files.write(path, {name: np.ascontiguousarray(x) for name, x in tensors.items()})
    return path


def test_what_is_not_a_clipcap_is_refused(tmp_path, vocabulary):
    path = tmp_path / "coco.pt"

    def refused(change, message):
        write(ClipCap("mlp", embed_dim=E), path)
        with pytest.raises(InputError, match=message) as caught:
            caption.load("shapes", changed(path, change), vocabulary=vocabulary)
        assert str(caught.value).startswith(str(path))

    refused(lambda x: x.pop("gpt.transformer.ln_f.bias"), "missing gpt.ln_final.bias")
    refused(lambda x: x.update(other=np.zeros(3, np.float32)), "unexpected other")
    refused(lambda x: x.pop("gpt.transformer.wte.weight"), "is not a decoder")
    refused(lambda x: x.pop("gpt.transformer.wpe.weight"), "not a whole decoder: gpt.position_embedding is missing")
    refused(lambda x: x.update({"gpt.lm_head.weight": np.zeros((40, 64), np.float32)}), "in a GPT-2 they are one")
    refused(lambda x: x.update({"clip_project.model.2.weight": np.zeros((100, 128), np.float32)}), "mapper.proj.weight")
    write(ClipCap("mlp", embed_dim=E, width=96), path)
    with pytest.raises(InputError, match="width is 96, expected a multiple of 64"):
        caption.load("shapes", path, vocabulary=vocabulary)


def test_features_of_another_width_are_refused(tmp_path, vocabulary):
    path = tmp_path / "coco.pt"
    write(ClipCap("mlp", embed_dim=512), path)
    with pytest.raises(InputError, match=r"coco.pt: reads features of width 512, but those of shapes have 128"):
        caption.load("shapes", path, vocabulary=vocabulary)


def test_a_missing_vocabulary_and_other_files_are_refused(pair, capsys):
    path = pair[1]
    assert main(["caption", PICTURE, "--decoder", str(path)]) == 1
    assert "give a folder with GPT-2's vocab.json, --vocabulary" in capsys.readouterr().err
    assert main(["caption", PICTURE, "--decoder", "weights/shapes.safetensors"]) == 1
    assert "weights/shapes.safetensors: is not a decoder" in capsys.readouterr().err
    assert main(["caption", PICTURE, "--decoder", PICTURE]) == 1
    assert "neither a safetensors file nor a PyTorch file" in capsys.readouterr().err


def test_a_model_without_a_decoder_asks_for_one(tmp_path):
    path = tmp_path / "model.safetensors"
    model, _ = miniclip.load()
    checkpoints.save(path, model.config, model.params, tokenizer=model.tokenizer)
    with pytest.raises(InputError, match="has no decoder that comes with miniclip"):
        caption.load(path)
