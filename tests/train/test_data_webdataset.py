"""WebDataset's tar shards: the samples that the package finds, read by their place; broken shards, survived."""

import gc
import gzip
import json
import os

import numpy as np
import pytest
import webdataset
from training_pictures import caption_of, encoded, pictures, write_shards, write_tar

from miniclip import InputError
from miniclip.image import Preprocess
from miniclip.train import data
from miniclip.train.data import read

PNG = encoded(pictures(1)["000.png"])


def member(i):
    """Sample number i, as two members of a tar."""
    return [(f"{i:03}.png", PNG), (f"{i:03}.txt", f"text {i}".encode())]


def samples(*numbers):
    return [file for i in numbers for file in member(i)]


def skipped_of(pairs, folder):
    return {name.removeprefix(f"{folder}/"): reason for name, reason in pairs.skipped.items()}


# ---------------------------------------------------------------------------------------------------- samples


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset does not close a shard that it has read
def test_shards_have_the_samples_that_webdataset_finds(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "%02d.tar"), maxcount=25, verbose=0) as writer:
        for name, image in pictures().items():
            writer.write({"__key__": f"sub/{name[:-4]}", "png": image, "txt": caption_of(name), "cls": 3})
    shards = str(tmp_path / "{00..02}.tar")
    theirs = [*webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)]
    gc.collect()
    ours = read(shards)
    assert len(theirs) == len(ours) == 60 and ours.skipped == {}
    assert ours.names == [f"{sample['__url__']}: {sample['__key__']}" for sample in theirs]
    assert [ours.picture(i) for i in range(60)] == [sample["png"] for sample in theirs]
    assert ours.captions == [(sample["txt"].decode(),) for sample in theirs]


def test_batches_of_shards_are_those_of_one_process(tmp_path):
    paths = write_shards(tmp_path)
    own = {caption_of(name): image for name, image in pictures().items()}
    one = data.load([*map(str, paths)], 16, batch=20)
    epoch = [one.batch(step) for step in range(3)]
    assert len({text for _, texts in epoch for text in texts}) == 60
    for images, texts in epoch:
        assert all(np.array_equal(image, Preprocess(16)(own[text])) for image, text in zip(images, texts))
    # more processes than shards; each reads only its own rows
    parts = [next(data.load(f"{tmp_path}/{{0..2}}.tar", 16, batch=20).batches(2, rank, 5)) for rank in range(5)]
    assert np.array_equal(np.concatenate([images for images, _ in parts]), epoch[2][0])
    assert [text for _, texts in parts for text in texts] == epoch[2][1]


def test_the_caption_is_the_txt_or_in_the_json(tmp_path):
    path = write_tar(
        tmp_path / "0.tar",
        [
            ("a.png", PNG),
            ("a.json", json.dumps({"caption": "not used", "width": 3}).encode()),
            ("a.txt", "from the txt\n".encode("utf-8-sig")),
            ("B.JPG", PNG),
            ("B.JSON", json.dumps({"caption": "from the json", "width": 3}).encode()),
            ("c.webp", PNG),
            ("c.json", json.dumps({"captions": ["first", "second"]}).encode()),
        ],
    )
    assert read(path).captions == [("from the txt",), ("from the json",), ("first", "second")]


def test_other_fields_are_chosen_by_columns(tmp_path):
    files = [("a.png", PNG), ("a.left.bmp", b"left"), ("a.alt", b"alternative"), ("a.json", b'{"title": "a title"}')]
    path = write_tar(tmp_path / "0.tar", files)
    pairs = read(path, ("left.bmp", "alt"))
    assert pairs.captions == [("alternative",)] and pairs.picture(0) == b"left"
    assert read(path, ("png", "title")).captions == [("a title",)]
    with pytest.raises(InputError, match=r"its \.json has no caption: it has title"):
        read(path, ("png", "label"))


def test_samples_that_lack_something_are_named(tmp_path):
    path = write_tar(
        tmp_path / "0.tar",
        [
            *samples(0),
            ("1.png", PNG),
            ("2.txt", b"text"),
            ("zoom 1.5x.png", PNG),
            ("zoom 1.5x.txt", b"text"),
            ("4.png", PNG),
            ("4.txt", b" \n"),
            ("5.png", PNG),
            ("5.txt", b"\xff"),
            ("6.png", PNG),
            ("6.json", b"{"),
            ("7.png", PNG),
            ("7.json", b'{"caption": "a", "text": "b"}'),
            ("README", b"about"),
            ("__notes__/x.png", PNG),
            *samples(8, 8),
            ("9.png", PNG),
            ("10.png", PNG),
            ("9.txt", b"too late"),
            *samples(0),
        ],
    )
    pairs = read(path)
    assert pairs.captions == [("text 0",), ("text 8",), ("text 0",)]
    dots = " (a name's ending begins at its first dot)"
    skipped = skipped_of(pairs, tmp_path)
    assert skipped.pop("0.tar: 6").startswith("its .json cannot be read: Expecting property name")
    assert skipped == {
        "0.tar: 1": f"has no caption, .txt or .json, but only .png{dots}",
        "0.tar: 2": f"has no picture, .jpg or .png or .jpeg or .webp, but only .txt{dots}",
        "0.tar: zoom 1": f"has no picture, .jpg or .png or .jpeg or .webp, but only .5x.png, .5x.txt{dots}",
        "0.tar: 4": "has no caption",
        "0.tar: 5": "its .txt cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        "0.tar: 7": "its .json has several captions: it has caption, text",
        "0.tar: README": "has no name of the form KEY.ENDING",
        "0.tar: 008.png": "another file of this sample has this name",
        "0.tar: 008.txt": "another file of this sample has this name",
        "0.tar: 9": f"has no caption, .txt or .json, but only .png{dots}",
        "0.tar: 10": f"has no caption, .txt or .json, but only .png{dots}",
    }


def test_broken_pictures_in_shards_are_named(tmp_path):
    files = [*samples(0, 1, 2), ("3.png", PNG[:-30]), ("3.txt", b"cut"), ("4.jpg", b""), ("4.txt", b"empty")]
    loaded = data.load([write_tar(tmp_path / "0.tar", files)], 16, batch=3)
    assert {text for step in range(9) for text in loaded.batch(step)[1]} == {"text 0", "text 1", "text 2"}
    assert skipped_of(loaded.pairs, tmp_path) == {
        "0.tar: 3": "cannot be read as a picture: image file is truncated",
        "0.tar: 4": "cannot be read as a picture: cannot identify image file",
    }


# ------------------------------------------------------------------------------------------------- broken tars


@pytest.fixture
def shard(tmp_path):
    """The bytes of a shard of ten samples with keys that the next shard uses, too, and where each header is."""
    path = write_tar(tmp_path / "whole.tar", samples(*range(10)))
    content = path.read_bytes()
    step = 1024 + -(-len(PNG) // 512) * 512 + 512  # two headers, a picture, a text
    return content, [i * step for i in range(10)]


BREAKS = {
    "cut off in a picture": (lambda x, at: x[: at[4] + 600], 4, "is cut off inside 004.png: what would come after"),
    "cut off in a text": (lambda x, at: x[: at[5] - 512 + 3], 4, "is cut off inside 004.txt: what would come after"),
    "cut off in a header": (lambda x, at: x[: at[4] + 100], 4, "is damaged at byte {at:,}: what would come after"),
    "cut off between files": (lambda x, at: x[: at[4]], 4, "has no end mark, so it may be cut off: what would"),
    "a flipped bit in a header": (
        lambda x, at: x[: at[4]] + bytes([x[at[4]] ^ 1]) + x[at[4] + 1 :],
        4,
        "is damaged at byte {at:,}: what would come after it is lost",
    ),
    "a block of zeros": (
        lambda x, at: x[: at[4]] + bytes(512) + x[at[4] + 512 :],
        4,
        "has more after an end mark at byte {at:,}, as if tars were joined: it is lost",
    ),
    "no tar at all": (lambda x, at: b"no tar" * 500, 0, "cannot be read as a tar (unpack it if it is compressed)"),
    "nothing": (lambda x, at: b"", 0, "cannot be read as a tar"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_shard_is_named_and_used_as_far_as_it_can_be(name, shard, tmp_path, caplog):
    content, starts = shard
    breaks, whole, reason = BREAKS[name]
    (tmp_path / "0.tar").write_bytes(breaks(content, starts))
    write_tar(tmp_path / "1.tar", [(name, b"next" if name.endswith("txt") else PNG) for name, _ in samples(*range(10))])
    pairs = read(str(tmp_path / "{0..1}.tar"))
    # no picture gets a caption of the next shard
    assert pairs.captions == [(f"text {i}",) for i in range(whole)] + [("next",)] * 10
    assert pairs.skipped[str(tmp_path / "0.tar")].startswith(reason.format(at=starts[4]))
    assert f"{tmp_path / '0.tar'}: {reason.format(at=starts[4])}" in caplog.text
    assert [pairs.picture(i) for i in range(len(pairs))] == [PNG] * len(pairs)


def test_an_empty_tar_and_a_missing_one_are_survived(tmp_path):
    write_tar(tmp_path / "0.tar", [])
    write_tar(tmp_path / "1.tar", samples(1))
    pairs = read(str(tmp_path / "{0..2}.tar"))
    assert pairs.captions == [("text 1",)]
    assert skipped_of(pairs, tmp_path) == {"0.tar": "is empty", "2.tar": "cannot be read: No such file or directory"}


def test_a_compressed_shard_is_named(tmp_path):
    (tmp_path / "0.tar").write_bytes(gzip.compress(write_tar(tmp_path / "1.tar", samples(1)).read_bytes()))
    with pytest.raises(
        InputError, match=r"no picture with a caption is there; \S+0\.tar: cannot be read as a tar \(unpa"
    ):
        read(tmp_path / "0.tar")


def test_a_shard_that_shrinks_while_it_is_used_is_survived(tmp_path):
    path = write_tar(tmp_path / "0.tar", samples(0, 1, 2, 3))
    loaded = data.load(path, 16, batch=2)
    os.truncate(path, path.read_bytes().index(b"003.png") + 512 + len(PNG) // 2)
    for step in range(6):
        loaded.batch(step)
    assert "cannot be read as a picture" in loaded.skipped[f"{path}: 003"]


def test_sources_that_are_no_shards_are_refused(tmp_path):
    with pytest.raises(InputError, match="the list of tar shards is empty"):
        read([])
    with pytest.raises(InputError, match=r"a list is of \(picture, caption\), or of the paths of tar shards, not of {"):
        data.read([{"image": "0.png", "text": "a cat"}])
    with pytest.raises(InputError, match="cannot be read as a list of shards"):
        read("data/{0..3.tar")
    for url in ("https://example.org/{0..3}.tar", "pipe:cat 0.tar"):
        with pytest.raises(InputError, match="shards are read from this machine's disk: copy them there first"):
            read([url])
