"""The captioner of the built-in model: what it writes, on all backends, and what it refuses."""

import hashlib
import json

import numpy as np
import pytest

import miniclip
from miniclip import caption, checkpoints, weights
from miniclip.caption import evaluation
from miniclip.cli import main
from miniclip.errors import InputError
from miniclip.train import shapes

PICTURE = "weights/example.png"
ENTRY = weights.manifest()["decoders"]["shapes"]
FILE = weights.DIRECTORY / ENTRY["file"]


@pytest.fixture(scope="module")
def captioner():
    return caption.load()


def drawn(count, seed=1):
    rng = np.random.default_rng(seed)
    scenes = [shapes.one_object(rng, shapes.PAIRS[rng.integers(80)]) for _ in range(count)]
    return scenes, [shapes.draw(scene, rng) for scene in scenes]


def test_the_manifest_describes_the_file():
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == ENTRY["sha256"]
    assert FILE.stat().st_size == ENTRY["bytes"] < 2_000_000


def test_it_names_colours_and_shapes(captioner):
    scenes, pictures = drawn(40)
    captions = captioner(captioner.preprocess(pictures))
    right = [evaluation.named(best[0][0]) == [(x.colour, x.shape)] for best, (x,) in zip(captions, scenes)]
    assert np.mean(right) > 0.85
    for best in captions:
        assert len(best) == 5
        assert all(score < 0 for _, score in best)


def test_torch_writes_the_same_as_numpy(captioner):
    _, pictures = drawn(4)
    other = caption.load(backend="torch")
    both = [each(each.preprocess(pictures), 3) for each in (captioner, other)]
    texts, scores = ([[[x[i] for x in best] for best in captions] for captions in both] for i in (0, 1))
    assert texts[0] == texts[1]
    np.testing.assert_allclose(*scores, atol=1e-3)


def test_16_bits_write_almost_the_same(captioner):
    _, pictures = drawn(4)
    other = caption.load(backend="torch", dtype="bfloat16")
    both = [each(each.preprocess(pictures), 3) for each in (captioner, other)]
    first = [[best[0] for best in captions] for captions in both]
    assert [text for text, _ in first[0]] == [text for text, _ in first[1]]
    np.testing.assert_allclose(*([score for _, score in x] for x in first), atol=0.2)


def test_the_score_is_that_of_the_tokens(captioner):
    """The log probability of a caption, from one pass over all its tokens."""
    features = captioner.model.encode_image(captioner.preprocess([PICTURE]))
    text, score = captioner.of_features(features)[0][0]
    tokens = [*captioner.model.tokenizer.encode(text), captioner.end]
    decoder = captioner.decoder
    logits = decoder.logits(decoder.prefix(features), np.array([tokens[:-1]]), last=False)
    P, ops = decoder.config.prefix_length, decoder.ops
    each = ops.log_softmax(logits)[0, P - 1 :][np.arange(len(tokens)), tokens]
    assert score == pytest.approx(each.sum(), abs=1e-4)


def test_the_command(capsys, tmp_path):
    assert main(["caption", PICTURE]) == 0
    name, line = capsys.readouterr().out.splitlines()
    assert name == PICTURE
    assert "red heart" in line and "log probability -" in line
    assert main(["caption", PICTURE, str(tmp_path / "missing.png"), "--top", "2", "--beams", "3", "--json"]) == 1
    out, err = capsys.readouterr()
    (answer,) = json.loads(out)
    assert answer["image"] == PICTURE
    assert [set(entry) for entry in answer["captions"]] == [{"caption", "log_probability"}] * 2
    assert "missing.png" in err


@pytest.mark.parametrize("beams", [0, 2.5])
def test_a_number_of_beams_that_is_none_is_refused(captioner, beams):
    with pytest.raises(InputError, match="beams is"):
        captioner(captioner.preprocess([PICTURE]), beams)


def test_features_of_another_model_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    model, _ = miniclip.load()
    tree = model.params | {"logit_scale": model.params["logit_scale"] + 1}
    checkpoints.save(path, model.config, tree, tokenizer=model.tokenizer)
    with pytest.raises(InputError, match=r"captions.safetensors: was trained with another model than"):
        caption.load(path, FILE)


def test_a_vocabulary_that_is_not_needed_is_refused():
    with pytest.raises(InputError, match="needs neither vocabulary nor normalize"):
        caption.load(vocabulary="folder")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a red heart", [("red", "heart")]),
        ("look, a heart that is red in the middle!", [("red", "heart")]),
        ("a big red heart over a blue cross", [("blue", "cross"), ("red", "heart")]),
        ("a heart", [("", "heart")]),
        ("something red", []),
        ("a star that is pink and a pink star", [("pink", "star"), ("pink", "star")]),
    ],
)
def test_what_a_caption_names(text, pairs):
    assert evaluation.named(text) == pairs


def test_every_way_to_name_an_object_is_understood():
    """The captions of the training name no more than what is in the picture."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = shapes.two_objects(rng, shapes.PAIRS)
        there = {(thing.colour, thing.shape) for thing in scene} | {("", thing.shape) for thing in scene}
        found = evaluation.named(shapes.caption(scene, rng))
        assert len(found) <= 2 and set(found) <= there
