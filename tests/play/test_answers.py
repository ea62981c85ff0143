"""What the page shows is what the model and `explain` compute; and what comes from outside has limits."""

import base64
import io
import json
import struct
import warnings
import zlib

import numpy as np
import pytest
from align_models import small  # noqa: F401
from PIL import Image

import miniclip
from miniclip import CLIP, InputError, explain, params
from miniclip.ops import numpy_ops
from miniclip.play import answers as page
from miniclip.play.answers import Answers
from miniclip.train import shapes

pytest_plugins = ["play_servers"]
EXAMPLE = page.EXAMPLE.read_bytes()
LABELS = ["a red heart", "a red circle", "a blue heart", "a pink star"]


def encoded(image, format="PNG", **options):
    """The bytes of a PIL image's file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_answer_is_the_models(backend):
    model, preprocess = miniclip.load("shapes", backend=backend)
    found = Answers(model, preprocess).answer(EXAMPLE, LABELS)
    images, tokens = preprocess([EXAMPLE]), model.tokenize(LABELS)
    expected = model.ops.to_numpy(miniclip.zero_shot.classify(model, images, LABELS))[0]
    features = (
        numpy_ops.l2_normalize(model.ops.to_numpy(x)) for x in (model.encode_image(images), model.encode_text(tokens))
    )
    picture, texts = features
    assert [entry["label"] for entry in found["labels"]] == LABELS and found["notes"] == []
    np.testing.assert_allclose([entry["probability"] for entry in found["labels"]], expected, atol=1e-6)
    np.testing.assert_allclose([entry["cosine"] for entry in found["labels"]], texts @ picture[0], atol=1e-6)
    for entry, row in zip(found["labels"], tokens.tolist()):
        assert [token["id"] for token in entry["tokens"]] == row[1:4]
        assert [token["text"] for token in entry["tokens"]] == [f"{word} " for word in entry["label"].split()]


def test_the_explanation_is_explains(answers):
    model, preprocess = answers.model, answers.preprocess
    found, image = answers.explanation(EXAMPLE, "a red heart"), preprocess(EXAMPLE)
    relevance = explain.relevance(model, image, model.tokenize("a red heart"))
    np.testing.assert_allclose(found["patches"], relevance.patches[0], atol=1e-3 * relevance.patches.max())
    np.testing.assert_allclose([x["relevance"] for x in found["tokens"]], relevance.tokens[0, 1:4], rtol=1e-5)
    assert [x["token"] for x in found["tokens"]] == ["a", "red", "heart"]
    assert found["cosine"] == pytest.approx(answers.answer(EXAMPLE, LABELS)["labels"][0]["cosine"], abs=1e-6)
    maps = explain.attention_maps(model, image)
    np.testing.assert_allclose(found["attention"], maps, atol=1e-3 * maps.max())
    sees = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["sees"]))))
    np.testing.assert_allclose(sees / 255, explain.visible(preprocess, image), atol=0.51 / 255)
    json.dumps([answers.about(), found], allow_nan=False)


def test_resnets_have_their_pools_heads_and_align_has_none(official_model, save_torchscript, small, tmp_path):  # noqa: F811
    save_torchscript(official_model(16, 64, (1, 1, 1, 1), 8, None, 32, 673, 64, 1, 2), tmp_path / "resnet.pt")
    model, preprocess = miniclip.load(tmp_path / "resnet.pt", backend="numpy")
    model.tokenizer = miniclip.load("shapes")[0].tokenizer
    resnet = Answers(model, preprocess, "a ResNet")
    assert np.shape(resnet.explanation(EXAMPLE, "a star")["attention"]) == (1, 4, 2, 2)
    assert resnet.about()["relevance"] == "Grad-CAM" and resnet.about()["picture"]["rows"] == 2
    align = Answers(*miniclip.load(small, backend="numpy"), "ALIGN")
    found = align.explanation(EXAMPLE, "a star")
    assert found["attention"] is None and np.shape(found["patches"]) == (align.about()["picture"]["rows"],) * 2
    images, tokens = align.preprocess([EXAMPLE]), align.model.tokenize(LABELS)
    picture, texts = (
        numpy_ops.l2_normalize(x) for x in (align.model.encode_image(images), align.model.encode_text(tokens))
    )
    cosines = [entry["cosine"] for entry in align.answer(EXAMPLE, LABELS)["labels"]]
    np.testing.assert_allclose(cosines, texts @ picture[0], atol=1e-5)


def test_colours_have_their_names_and_shapes_are_the_models(answers):
    about = answers.about()
    for name, css in about["colours"].items():
        assert shapes.colour_name([int(css[i : i + 2], 16) for i in (1, 3, 5)]) == name
    for name, outline in about["shapes"].items():
        np.testing.assert_allclose(outline, shapes.SHAPES[name], atol=1e-3)


def test_labels_and_pictures_that_are_asked_again_are_not_encoded_again(monkeypatch):
    answers = Answers(*miniclip.load("shapes", backend="numpy"))
    counts = {"encode_image": 0, "encode_text": 0}
    for name in counts:
        encode = getattr(answers.model, name)

        def counted(*arguments, name=name, encode=encode):
            counts[name] += 1
            return encode(*arguments)

        monkeypatch.setattr(answers.model, name, counted)
    white, black = (encoded(Image.new("RGB", (9, 9), colour)) for colour in ("white", "black"))
    first = answers.answer(white, LABELS)
    assert answers.answer(white, LABELS) == first and counts == {"encode_image": 1, "encode_text": 1}
    assert answers.answer(black, LABELS) != first and counts == {"encode_image": 2, "encode_text": 1}
    answers.answer(black, LABELS[:2])
    assert counts == {"encode_image": 2, "encode_text": 2}


# ---------------------------------------------------------------------------------------------- notes


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a red heart"], "A single label always gets 100%"),
        (
            ["a red dog", "a heart on a sofa"],
            "never saw these words, so its answer says nothing about them: dog, sofa.",
        ),
        (["a blue star", "a green cross"], "Probably none of these: right answers reach a cosine of 0.64."),
    ],
)
def test_notes_say_what_a_user_should_know(answers, labels, said):
    assert said in " ".join(answers.answer(EXAMPLE, labels)["notes"])


def test_the_notes_about_drawn_shapes_are_the_built_in_models_alone():
    other = Answers(*miniclip.load("shapes", backend="numpy"), "another")
    assert other.answer(EXAMPLE, ["a blue star", "a dog"])["notes"] == []


def test_a_picture_that_is_to_be_turned_is_named_unless_it_is_turned():
    image = Image.new("RGB", (20, 20), "white")
    exif = image.getexif()
    exif[0x0112] = 6
    turned = encoded(image, "JPEG", exif=exif)
    for option in (False, True):
        answers = Answers(*miniclip.load("shapes", backend="numpy", exif=option))
        assert ("EXIF" in " ".join(answers.answer(turned, LABELS)["notes"])) is not option


# -------------------------------------------------------------------------------------------- refusals


def png(width, height):
    """The beginning of a PNG file of this size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return head + struct.pack(">I", 1_000) + b"IDAT"


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (b"", "cannot be read: this page takes PNG, JPEG, WEBP, GIF, BMP"),
        (str(page.EXAMPLE).encode(), "cannot be read"),  # a path is no picture
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "cannot be read"),
        (encoded(Image.new("RGB", (9, 9)), "TIFF"), "cannot be read"),
        (EXAMPLE[:200], "cannot be read"),
        (bytes(page.BYTES + 1), "has 20,000,001 bytes, and this page takes 20,000,000"),
        (png(10_000, 9_000), "has more than 89,478,485 pixels"),
        (png(60_000, 60_000), "has more than 89,478,485 pixels"),
    ],
    ids=["empty", "a path", "EPS", "TIFF", "cut", "large file", "many pixels", "more pixels"],
)
def test_pictures_that_cannot_be_used_are_refused(answers, picture, said):
    for ask in (lambda: answers.answer(picture, LABELS), lambda: answers.explanation(picture, LABELS[0])):
        with pytest.raises(InputError, match=f"the picture:? .*{said}"):
            ask()


def test_pillows_warning_need_not_be_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="the picture has more than 89,478,485 pixels"):
            page.open_picture(png(10_000, 9_000))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "there is no label: type at least one"),
        ([""], "there is no label"),
        (["a star"] * 65, "there are 65 labels, and this page takes 64"),
        (["a star", "x" * 301], "has more than 300 characters"),
        (["a star " * 20], "has 40 tokens, the model reads 30: shorten it"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(answers, labels, said):
    with pytest.raises(InputError, match=said):
        answers.answer(EXAMPLE, labels)


def test_what_the_longest_label_may_have_is_what_the_model_reads(answers):
    assert answers.answer(EXAMPLE, ["star " * 30, "heart"])["labels"][0]["probability"] < 1


def test_models_that_cannot_be_shown_are_refused_at_once():
    model, preprocess = miniclip.load("shapes", backend="numpy")
    broken = params.tree_map(lambda x: x * np.float32("nan"), model.params)
    with pytest.raises(InputError, match="mine: its answers are not numbers: the model's weights may be NaN"):
        Answers(CLIP(model.config, broken, numpy_ops, tokenizer=model.tokenizer), preprocess, "mine")
    model.backend = "jax"
    with pytest.raises(InputError, match=r"the jax backend has no gradients: pass backend='numpy' or backend='torch'"):
        Answers(model, preprocess)
