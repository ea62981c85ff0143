"""How good a model is while it trains: recall, accuracy of classes, and what is said of them."""

import numpy as np
import pytest
from PIL import Image
from training_pictures import write_colours

import miniclip
from miniclip.cli import main
from miniclip.train import data, metrics, shapes, validation


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("photos"))


def train(*arguments):
    return main(["train", *map(str, arguments), "--batch", "4", "--warmup", "2"])


def test_accuracy_on_folders_of_classes(photos, tmp_path):
    for name in ("red_square", "blue_heart"):
        (tmp_path / name).mkdir()
        rng = np.random.default_rng(3)
        for i in range(3):
            scene = shapes.one_object(rng, tuple(name.split("_")), 0.3)
            shapes.draw(scene, rng).save(tmp_path / name / f"{i}.png")
    (tmp_path / "red_square" / "broken.png").write_bytes(b"no picture")
    model, preprocess = miniclip.load("shapes")
    (tmp_path / "red_square" / ".DS_Store").write_bytes(b"a Mac's file")
    measure = validation.ZeroShot(tmp_path, preprocess, ["a {}"])
    assert measure.labels == ["blue heart", "red square"] and measure(model) == {"accuracy": 1.0}
    with pytest.raises(miniclip.InputError, match="expected pictures of at least two classes"):
        validation.ZeroShot(photos, preprocess)


def test_accuracy_on_a_list_of_labelled_pictures_with_several_templates(photos):
    model, preprocess = miniclip.load("shapes")
    rng = np.random.default_rng(3)
    labels = ["red square", "blue heart"] * 3
    pictures = [shapes.draw(shapes.one_object(rng, tuple(label.split()), 0.3), rng) for label in labels]
    templates = ["a {}", "{}"]
    measure = validation.ZeroShot(zip(pictures, labels), preprocess, templates)
    assert measure(model) == {"accuracy": 1.0}
    best = miniclip.zero_shot.classify(model, preprocess(pictures), measure.labels, templates).argmax(axis=-1)
    assert [measure.labels[i] for i in best] == labels
    for wrong, options, message in [
        ([(pictures[0], 3), (pictures[1], 4)], {}, "the label 3 is not a text"),
        (zip(pictures, labels), {"templates": ["a photo"]}, "the template 'a photo' has no {}"),
        ([(pictures[0], "one")], {}, "the list: expected pictures of at least two classes"),
    ]:
        with pytest.raises(miniclip.InputError, match=message):
            validation.ZeroShot(wrong, preprocess, **options)


def test_a_wrong_template_is_refused_before_training(photos, tmp_path, capsys):
    (tmp_path / "classes").mkdir()
    for name in "ab":
        (tmp_path / "classes" / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "classes" / name / "0.png")
    options = ["--classes", tmp_path / "classes", "--template", "a {}", "--template", "a photo"]
    assert train(photos, "--init", "shapes", "--out", tmp_path / "m", *options) == 1
    assert "the template 'a photo' has no {}" in capsys.readouterr().err
    assert not (tmp_path / "m.png").exists()


def test_recall_counts_equal_captions_as_one(photos):
    _, preprocess = miniclip.load("shapes")
    pairs = data.read(photos, None)
    measure = validation.Retrieval(pairs, preprocess)
    order = {caption: i for i, caption in enumerate(sorted(set(measure.captions)))}

    class Perfect:
        ops = miniclip.ops.numpy_ops

        def tokenize(self, texts, truncate):
            return np.array([order[text] for text in texts])

        def encode_text(self, tokens, normalize):
            return np.eye(len(order))[tokens]

        def encode_image(self, images, normalize):
            start = next(i for i in range(len(measure.images)) if np.array_equal(measure.images[i], images[0]))
            return np.eye(len(order))[[order[text] for text in measure.captions[start : start + len(images)]]]

    assert measure(Perfect()) == {"recall": 1.0}


def test_the_best_measurement_is_said(photos, tmp_path, caplog):
    caplog.set_level("INFO", "miniclip.train")
    options = ["--steps", 7, "--validation", photos, "--every", 3]
    assert train(photos, "--out", tmp_path / "m", *options) == 0
    scores = {
        line["step"]: line["recall"] for line in metrics.read(metrics.curve_of(tmp_path / "m")) if "recall" in line
    }
    best = max(scores, key=scores.get)
    assert [*scores] == [3, 6, 7]
    assert f"the best recall is {scores[best]:.3f}, after {best} steps: these parameters are written" in caplog.text
