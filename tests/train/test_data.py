"""Batches of training data: what each place of each step gets, on any number of processes, from any start on."""

import dataclasses
import itertools
import logging
import subprocess
import sys
import threading

import numpy as np
import pytest
import training_pictures
from PIL import Image
from training_pictures import caption_of, write_folder

from miniclip import InputError, Tokenizer
from miniclip.config import pair
from miniclip.families.align.image import AlignPreprocess
from miniclip.families.clip.image import own_settings
from miniclip.families.preprocessing import SettingsPreprocess
from miniclip.image import Preprocess, normalize
from miniclip.runtime.ahead import ahead
from miniclip.train import data, shapes

SIZE = 16  # of prepared pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pictures"))


def load(source, batch=16, **options):
    return data.load(source, SIZE, batch=batch, seed=3, **options)


def same(a, b):
    return np.array_equal(a[0], b[0]) and a[1] == b[1]


def together(parts):
    """The batch that processes have the parts of."""
    return np.concatenate([images for images, _ in parts]), [text for _, captions in parts for text in captions]


# ----------------------------------------------------------------------------------------- what is in a batch


def test_a_batch_has_pictures_with_their_own_captions(folder):
    images, captions = load(folder).batch(0)
    assert images.shape == (16, 3, SIZE, SIZE) and images.dtype == np.float32 and len({*captions}) == 16
    own = {caption_of(name): name for name in training_pictures.pictures()}
    for image, caption in zip(images, captions):
        assert np.array_equal(image, Preprocess(SIZE)(folder / own[caption]))


@pytest.mark.parametrize("augment", [None, data.Augment(flip=True)])
def test_a_resumed_training_sees_the_same_batches(folder, augment):
    whole = [*itertools.islice(load(folder, augment=augment).batches(), 9)]
    for start in (0, 1, 3, 8):  # an epoch has three steps
        for batch, again in zip(whole[start:], load(folder, augment=augment).batches(start)):
            assert same(batch, again)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batch_of_one(folder, world):
    one = load(folder, augment=data.Augment()).batches(2)
    several = [load(folder, augment=data.Augment()).batches(2, rank, world) for rank in range(world)]
    for _ in range(3):
        images, captions = next(one)
        parts = [next(part) for part in several]
        assert all(len(part[1]) == 16 // world for part in parts)
        assert same((images, captions), together(parts))


def test_every_picture_is_seen_once_in_an_epoch_in_a_new_order(folder):
    loaded = load(folder, batch=20)
    epochs = [[text for step in range(3) for text in loaded.batch(3 * epoch + step)[1]] for epoch in range(3)]
    assert len(loaded) == 60 and loaded.steps_per_epoch == 3
    assert all(len({*epoch}) == 60 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_what_is_left_over_in_an_epoch_is_another_part_in_the_next(folder):
    loaded = load(folder, batch=16)
    seen = [{text for step in range(3) for text in loaded.batch(3 * epoch + step)[1]} for epoch in range(6)]
    assert all(len(epoch) == 48 for epoch in seen)
    assert len(set.union(*seen)) == 60


def test_the_seed_decides(folder):
    first, again, other = (data.load(folder, SIZE, batch=16, seed=seed).batch(5) for seed in (1, 1, 2))
    assert same(first, again) and first[1] != other[1]


def test_one_of_several_captions_is_chosen_each_time(tmp_path):
    for name, image in training_pictures.pictures(4).items():
        image.save(tmp_path / name)
    rows = [f"{name},caption {i} of {name}" for name in training_pictures.pictures(4) for i in range(3)]
    (tmp_path / "captions.csv").write_text("\n".join(["file_name,text", *rows]))
    loaded = load(tmp_path, batch=4)
    assert len(loaded) == 4 and len(loaded.captions) == 12
    seen = [text for step in range(20) for text in loaded.batch(step)[1]]
    assert {*seen} == {*loaded.captions}
    assert same(loaded.batch(7), load(tmp_path, batch=4).batch(7))


def colours(pixels, align):
    return (pixels / 127.5 - 1 if align else normalize(pixels)).transpose(2, 0, 1)


@pytest.mark.parametrize(
    "preprocess",
    [
        SettingsPreprocess((12, 20), settings=own_settings((12, 20), "open_clip")),
        SettingsPreprocess(20, settings=dataclasses.replace(own_settings(20), size=30)),
        AlignPreprocess(20, resized=30),
    ],
)
def test_pictures_are_prepared_as_the_model_does(folder, preprocess):
    own = {caption_of(name): folder / name for name in training_pictures.pictures()}
    for image, text in zip(*data.load(folder, preprocess, batch=60).batch(0)):
        assert np.array_equal(image, preprocess(own[text]))

    def resize(image, size, rng=None):
        return image.resize(pair(size)[::-1], Image.Resampling.BICUBIC)

    # what augment returns has the model's size: it gets the model's colours, and is not resized again
    for image, text in zip(*data.load(folder, preprocess, batch=60, augment=resize).batch(0)):
        pixels = np.asarray(resize(Image.open(own[text]), preprocess.image_size))
        expected = colours(pixels, isinstance(preprocess, AlignPreprocess))
        assert np.abs(image - expected).max() < 1e-5


def test_unusual_pictures_are_used(tmp_path):
    image = training_pictures.pictures(1)["000.png"]
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("P").save(tmp_path / "palette.gif")
    image.convert("RGBA").save(tmp_path / "alpha.webp")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160).save(tmp_path / "sixteen.png")
    for path in [*tmp_path.iterdir()]:
        path.with_suffix(".txt").write_text(path.name)
    loaded = load(tmp_path, batch=4)
    for picture, name in zip(*loaded.batch(0)):
        assert np.array_equal(picture, Preprocess(SIZE)(tmp_path / name))
    assert loaded.skipped == {}


# ------------------------------------------------------------------------------------------- broken pictures


@pytest.fixture
def damaged(tmp_path):
    folder = write_folder(tmp_path)
    return folder, training_pictures.broken(folder, ["003.png", "017.png", "030.png", "042.png"])


def test_broken_pictures_are_named_counted_and_replaced(damaged, caplog):
    folder, expected = damaged
    loaded, steps = load(folder, batch=20), 6  # two epochs
    batches = [loaded.batch(step) for step in range(steps)]
    assert loaded.skipped.keys() == expected.keys()
    assert all(reason in loaded.skipped[name] for name, reason in expected.items())
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sorted(logged) == sorted(f"{name}: {why}; it is skipped" for name, why in loaded.skipped.items())
    for images, captions in batches:
        assert len(images) == len(captions) == len({*captions}) == 20
    assert not {caption_of(name[-7:]) for name in expected} & {text for _, texts in batches for text in texts}
    # the replacement, too, depends on (seed, step, place) alone
    assert same(batches[4], load(folder, batch=20).batch(4))
    halves = [load(folder, batch=20).batch(4, rank, 2) for rank in range(2)]
    assert same(batches[4], together(halves))


def test_a_replacement_is_not_in_the_batch_already(damaged):
    folder, _ = damaged
    loaded = load(folder, batch=40)  # for some places, no other step of the epoch has a picture
    assert all(len({*loaded.batch(step)[1]}) == 40 for step in range(6))


def test_a_picture_that_is_too_large_is_skipped(tmp_path, monkeypatch):
    write_folder(tmp_path)
    Image.new("RGB", (90, 90)).save(tmp_path / "005.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    loaded = load(tmp_path, batch=60 - 5)
    for step in range(4):
        loaded.batch(step)
    assert "has more than 8,000 pixels: make it smaller" in loaded.skipped[str(tmp_path / "005.png")]


def test_too_many_broken_pictures_are_one_error(damaged):
    folder, _ = damaged
    loaded = load(folder, batch=58)
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"[34] of 60 pictures cannot be used, so that no batch of 58 can be filled"
        ):
            loaded.batch(0)


def test_if_all_pictures_are_missing_the_first_are_named(tmp_path):
    rows = [f"{i}.png,a caption" for i in range(1000)]
    (tmp_path / "table.csv").write_text("\n".join(["file_name,text", *rows]))
    loaded = load(tmp_path / "table.csv", batch=4)
    with pytest.raises(
        InputError, match=r"100 pictures in a row cannot be used; the first: \S+\d\.png: no such file; "
    ):
        next(loaded.batches())
    assert len(loaded.skipped) < 500


def test_arguments_that_cannot_work_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="has 60 pictures with captions, too few for a batch of 61"):
        load(folder, batch=61)
    for batch in (0, None, 2.0):
        with pytest.raises(InputError, match="expected a positive number of pictures"):
            load(folder, batch=batch)
    with pytest.raises(InputError, match="seed is -1"):
        data.load(folder, SIZE, batch=4, seed=-1)
    with pytest.raises(InputError, match="a batch of 16 cannot be divided among 3 processes"):
        load(folder).batches(0, 0, 3)
    with pytest.raises(InputError, match="rank is 2, expected 0 to 1"):
        load(folder).batches(0, 2, 2)
    with pytest.raises(InputError, match="start is -1"):
        load(folder).batches(-1)
    with pytest.raises(InputError, match=r"expected what miniclip\.load returns"):
        data.load(folder, np.asarray, batch=4)
    with pytest.raises(InputError, match=r"augment is True, expected data\.Augment\(\) or None"):
        load(folder, augment=True)
    with pytest.raises(InputError, match="no fixed size"):
        data.load(folder, SettingsPreprocess(None, settings=own_settings(4)), batch=4)


def test_the_report_counts_what_may_surprise(tmp_path):
    texts = ["a cat", "a cat", "a dog", "a very " + "long " * 30 + "text"]
    for (name, image), text in zip(training_pictures.pictures(4).items(), texts):
        image.save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(text)
    tokenizer = Tokenizer.train(texts, vocab_size=600)
    first, shared, long = load(tmp_path, batch=2).report(tokenizer, context_length=16)
    assert first == f"{tmp_path}: 4 pictures, 4 captions, 0 skipped; 2 steps of 2 are an epoch"
    assert shared.startswith("2 pictures have a caption that another one has too")
    assert long.startswith("1 of 4 captions have more than 16 tokens")
    ids = len(tokenizer.encode(texts[-1])) + 2
    assert len(load(tmp_path, batch=2).report(tokenizer, context_length=ids)) == 2  # it just fits


# ------------------------------------------------------------------------------------------------ the loader


def test_values_are_prepared_ahead_and_never_more_than_there_is_room_for():
    begun, let = [], threading.Semaphore(0)

    def values():
        for i in range(100):
            begun.append(i)
            let.release()
            yield i

    ready = ahead(values(), depth=3)
    assert next(ready) == 0
    for _ in range(4):
        assert let.acquire(timeout=10)
    assert not let.acquire(timeout=0.1) and begun == [0, 1, 2, 3]  # the caller has the first
    assert [next(ready) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert [*ready] == [*range(6, 100)]


def data_threads():
    return [thread for thread in threading.enumerate() if thread.name == "miniclip-data"]


def test_the_thread_ends_with_the_iterator(folder):
    batches = load(folder).batches(background=True)
    next(batches)
    assert len(data_threads()) == 1
    assert same(next(batches), load(folder).batch(1))
    batches.close()
    assert data_threads() == []
    next(load(folder).batches(background=True))  # forgotten at once
    assert data_threads() == []


def test_an_error_reaches_the_caller_at_its_place():
    def values():
        yield 1
        yield 2
        raise KeyError("three")

    ready = ahead(values())
    assert [next(ready), next(ready)] == [1, 2]
    with pytest.raises(KeyError, match="three"):
        next(ready)
    assert data_threads() == []


def test_a_thread_that_no_longer_runs_is_not_waited_for(monkeypatch):
    go = threading.Event()

    def values():
        yield 1
        go.wait()
        yield 2

    ready = ahead(values())
    assert next(ready) == 1
    with monkeypatch.context() as patch:
        patch.setattr(sys, "is_finalizing", lambda: True)
        ready.close()
    (thread,) = data_threads()
    go.set()
    thread.join()


def test_python_ends_while_batches_are_prepared(folder):
    batches = f"data.load({str(folder)!r}, 16, batch=2).batches(background=True)"
    code = f"from miniclip.train import data\nbatches = {batches}\nprint(len(next(batches)[1]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


# ------------------------------------------------------------------------------------------ the drawn shapes


def test_the_drawn_shapes_are_data_too():
    loaded = data.load("shapes", SIZE, seed=5)
    assert same(next(loaded.batches(7)), shapes.batch(5, 7, SIZE))
    parts = [next(loaded.batches(7, rank, 4)) for rank in range(4)]
    assert same(shapes.batch(5, 7, SIZE), together(parts))
    assert [*loaded.captions] == [*shapes.captions(5)] and loaded.skipped == {}
    assert loaded.report() == ["drawn shapes: 76 new pictures in each step"]
    with pytest.raises(InputError, match="a batch of the built-in shapes has 76 pictures"):
        data.load("shapes", SIZE, batch=32)
    with pytest.raises(InputError, match="neither augment nor columns"):
        data.load("shapes", SIZE, augment=data.Augment())
