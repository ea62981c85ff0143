"""Pictures with 16 bits, very long ones, bad ones, which are named, and many at once."""

import base64
import io
import threading
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from official_pictures import noise, official, official_square
from PIL import Image

from miniclip import InputError
from miniclip.image import Preprocess, resize_and_crop
from miniclip.runtime import cpu, pictures

# --------------------------------------------------------------------------------------------------------- 16-bit greys


def sixteen_bits(picture, form, path):
    """An 8-bit grey picture in 16 bits: v becomes 257 v, since 257 v / 65535 = v / 255."""
    values = np.asarray(picture).astype(np.uint16) * 257
    if form == "I;16":
        return Image.fromarray(values)
    if form == "I":
        return Image.fromarray(values.astype(np.int32))
    path = path / f"grey.{form[:3]}"
    Image.fromarray(values).save(path)
    if form == "tiff, big-endian":  # Pillow writes little-endian: same tags, with swapped bytes
        big = Image.frombytes("I;16B", picture.size, values.astype(">u2").tobytes())
        big.save(path)
    return path


@pytest.mark.parametrize("form", ["I;16", "I", "png", "tiff", "tiff, big-endian"])
def test_a_16_bit_grey_picture_equals_the_picture_in_8_bits(tmp_path, form):
    picture = noise("L", 30, 20)
    deep = sixteen_bits(picture, form, tmp_path)
    if isinstance(deep, Image.Image):
        assert deep.mode == form
    assert np.array_equal(Preprocess(8)(deep), official(picture, 8))


def test_every_16_bit_grey_is_less_than_one_8_bit_grey_off():
    greys = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    ours = np.asarray(pictures.open_picture(Image.fromarray(greys)))
    assert ours.dtype == np.uint8
    assert np.abs(ours - greys / 257).max() < 1
    assert ours.min() == 0 and ours.max() == 255 and (np.diff(ours.ravel().astype(int)) >= 0).all()


def test_32_bit_greys_beyond_16_bits_are_clipped():
    ours = np.asarray(pictures.open_picture(Image.fromarray(np.array([[-5, 0, 65535, 1 << 20]], np.int32))))
    assert ours.tolist() == [[0, 0, 255, 255]]


# --------------------------------------------------------------------------------------------------- very long pictures


@pytest.mark.parametrize("mode", ["F", "L", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("wide", [True, False])
def test_a_very_long_picture_equals_its_middle(monkeypatch, mode, wide):
    # 3 x 300,000 resized to 224 would have 22.4 million columns. So only the middle is resized, cut so that the crop
    # begins at the same place between two pixels.
    resize, made = Image.Image.resize, []

    def small(self, size, *arguments, **options):
        made.append(size)
        assert size[0] * size[1] < 4e6, f"a picture of {size} was made for a crop of 224 x 224"
        return resize(self, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", small)
    long = noise(mode, 300_000, 3) if wide else noise(mode, 3, 300_000)
    start = (300_000 - 108) // 2
    middle = long.crop((start, 0, start + 108, 3) if wide else (0, start, 3, start + 108))
    ours, theirs = (np.asarray(resize_and_crop(picture, (224, 224))).astype(float) for picture in (long, middle))
    assert made and ours.shape == theirs.shape
    if mode == "F":  # Pillow does not round between its two passes
        assert np.abs(ours - theirs).max() < 1e-3
    else:  # Pillow rounds, and the order of passes depends on the size: one value in thousands differs
        assert np.abs(ours - theirs).mean() < 1e-2


@settings(max_examples=300)
@given(short=st.integers(1, 12), times=st.floats(1, 40), size=st.integers(1, 24), wide=st.booleans())
@example(short=9, times=27.0, size=10, wide=False)
@example(short=9, times=16 / 9, size=2, wide=True)  # one pixel longer than its crop
def test_the_middle_of_a_long_picture_equals_resizing_it_whole(short, times, size, wide):
    long = int(short * times)
    picture = noise("F", *((long, short) if wide else (short, long)))  # mode F: no rounding between the two passes
    resized = int(size * long / short)
    corner = round((resized - size) / 2)
    sides, (x, y) = ((resized, size), (corner, 0)) if wide else ((size, resized), (0, corner))
    ours = pictures.resize_part(picture, sides, (x, y, x + size, y + size))
    assert np.abs(np.asarray(ours) - np.asarray(official_square(picture, size))).max() < 1e-3  # of 255


# --------------------------------------------------------------------------------------------------------- bad pictures


def encoded(format):
    file = io.BytesIO()
    noise("RGB", 64, 64).save(file, format)
    return file.getvalue()


def with_a_short_chunk():
    """A PNG with a too short length of its pixels: the rest is no chunk, and Pillow raises SyntaxError."""
    content = encoded("PNG")
    start = content.index(b"IDAT")
    return content[: start - 4] + (1000).to_bytes(4, "big") + content[start:]


BAD_FILES = {
    "text.png": b"not a picture",
    "empty.jpg": b"",
    "cut.png": encoded("PNG")[:3000],
    "cut.jpg": encoded("JPEG")[:1500],
    "head.png": encoded("PNG")[:20],
    "damaged.png": encoded("PNG")[:60] + bytes(40) + encoded("PNG")[100:],
    "broken.png": with_a_short_chunk(),
    "cut.gif": encoded("GIF")[:900],
    "cut.tiff": encoded("TIFF")[:-100],
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("batch", [False, True])
def test_a_file_that_is_not_a_whole_picture_is_named(tmp_path, name, batch):
    path = tmp_path / name
    path.write_bytes(BAD_FILES[name])
    with pytest.raises(InputError, match="cannot be read as a picture") as error:
        Preprocess(8)([noise("L", 9, 9), path] if batch else path)
    assert str(path) in str(error.value)


def test_a_file_that_is_missing_or_a_directory_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file") as error:
        Preprocess(8)(tmp_path / "absent.png")
    assert str(tmp_path / "absent.png") in str(error.value)
    with pytest.raises(InputError) as error:
        Preprocess(8)(str(tmp_path))
    assert str(tmp_path) in str(error.value)


# The error that Pillow raises for a picture that it cannot decode depends on the format.
def test_whatever_pillow_raises_the_file_is_named(tmp_path):
    header = bytearray(encoded("DDS"))
    header[76 + 4 : 76 + 8] = bytes(4)  # unknown flags of the pixel format: NotImplementedError
    (tmp_path / "strange.dds").write_bytes(header)
    with pytest.raises(InputError, match=r"strange\.dds"):
        Preprocess(8)(tmp_path / "strange.dds")


BAD_PICTURES = {
    "float32": np.zeros((5, 5, 3), np.float32),
    "int64": np.zeros((5, 5, 3), int),
    "bool": np.zeros((5, 5), bool),
    r"\(5, 5, 5\)": np.zeros((5, 5, 5), np.uint8),
    r"\(5, 5, 2\)": np.zeros((5, 5, 2), np.uint8),
    r"\(3, 5, 5\)": np.zeros((3, 5, 5), np.uint8),  # channels first, as in torch
    r"\(5,\)": np.zeros(5, np.uint8),
    r"\(2, 5, 5, 3\)": np.zeros((2, 5, 5, 3), np.uint8),  # a batch, but not a list
    r"no pixels: \(0, 5, 3\)": np.zeros((0, 5, 3), np.uint8),
    r"no pixels: \(5, 0\)": np.zeros((5, 0), np.uint8),
    "an object of type NoneType, expected a path": None,
    "an object of type int": 3,
}


@pytest.mark.parametrize("message", BAD_PICTURES)
def test_what_is_not_a_picture_is_named_by_its_position(message):
    bad = BAD_PICTURES[message]
    for what, name in ((bad, "the picture"), ([noise("L", 9, 9), bad], "picture 1")):
        with pytest.raises(InputError, match=rf"^{name} .*{message}"):
            Preprocess(8)(what)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_pil_image_without_pixels_is_named_by_its_position(size):
    with pytest.raises(InputError, match="picture 1 has no pixels"):
        Preprocess(8)([noise("L", 9, 9), Image.new("RGB", size)])


def test_rows_of_different_lengths_are_named_by_their_position():
    with pytest.raises(InputError, match="picture 1"):
        Preprocess(8)([noise("L", 9, 9), [[1, 2], [3]]])


# ------------------------------------------------------------------------------------------------------ forms of a file


@pytest.mark.parametrize("form", ["bytes", "BytesIO", "open file", "base64", "data", "read to the end"])
def test_a_files_bytes_are_a_picture_too(tmp_path, form):
    picture = noise("RGB", 30, 20)
    picture.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    text = base64.b64encode(content).decode()
    with open(tmp_path / "a.png", "rb") as file:
        given = {
            "bytes": content,
            "BytesIO": io.BytesIO(content),
            "open file": file,
            "base64": text,
            "data": f"data:image/png;base64,{text}",
            "read to the end": file,
        }[form]
        if form == "read to the end":
            file.read()
        assert np.array_equal(Preprocess(8)([given, picture])[0], official(picture, 8))
        assert not file.closed


def test_long_texts_are_shortened_and_urls_are_not_fetched():
    text = base64.b64encode(bytes(3000)).decode()
    for bad in (text, f"data:image/png;base64,{text}"):
        with pytest.raises(InputError, match=r"… \(4,0\d\d characters\): no such file") as error:
            Preprocess(8)(bad)
        assert len(str(error.value)) < 120
    with pytest.raises(InputError, match=r"a\.png: no such file, and miniclip fetches no pictures: pass its bytes"):
        Preprocess(8)("https://example.com/a.png")
    for bad in (b"", b"no picture", io.StringIO("text"), io.BytesIO()):
        with pytest.raises(InputError, match="picture 1: cannot be read as a picture"):
            Preprocess(8)([noise("L", 9, 9), bad])


def test_white_is_where_a_picture_is_transparent():
    from transformers.image_transforms import convert_to_rgb

    for mode in ("RGBA", "LA", "PA", "L", "P"):
        picture = noise(mode, 30, 20)
        expected = convert_to_rgb(picture, return_numpy=True)
        assert np.array_equal(np.asarray(pictures.on_white(picture)), expected)
    clear = Image.new("RGBA", (3, 2))
    assert (np.asarray(pictures.on_white(clear)) == 255).all()
    assert (Preprocess(2)(clear) == official(clear, 2)).all() and (Preprocess(2)(clear) < -1.4).all()  # black


def test_large_pictures_are_resized_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "cores", lambda: 4)
    monkeypatch.setattr(pictures, "LARGE", 1000)
    resize, inside, most = Image.Image.resize, [], []

    def slowly(self, *arguments, **options):
        inside.append(self)
        most.append(len(inside))
        time.sleep(0.01)
        result = resize(self, *arguments, **options)
        inside.pop()
        return result

    monkeypatch.setattr(Image.Image, "resize", slowly)
    long, short = tmp_path / "long.png", tmp_path / "short.png"
    noise("RGB", 2, 400).save(long)
    noise("RGB", 40, 40).save(short)
    Preprocess(16)([long] * 8)
    assert max(most) == 1
    Preprocess(16)([short] * 8)
    assert max(most) > 1


def test_a_pil_image_whose_file_is_cut_off_is_named_by_its_position(tmp_path):
    (tmp_path / "cut.png").write_bytes(BAD_FILES["cut.png"])
    with Image.open(tmp_path / "cut.png") as lazy, pytest.raises(InputError, match=r"^picture 1: cannot be read"):
        Preprocess(8)([noise("L", 9, 9), lazy])


def test_a_decompression_bomb_is_named(tmp_path, monkeypatch):
    noise("L", 9, 9).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9 * 9)
    assert Preprocess(8)(tmp_path / "bomb.png").shape == (3, 8, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9 * 9 // 2)  # above it Pillow warns, above twice as many it raises
    with pytest.raises(
        InputError, match=r"bomb\.png: has more than 80 pixels: make it smaller, or in Python raise PIL\.Im"
    ):
        Preprocess(8)(tmp_path / "bomb.png")


# -------------------------------------------------------------------------------------------------- files, on all cores


@pytest.fixture
def files(tmp_path):
    """Paths of twelve pictures, all different."""
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)).save(path)
    return paths


def test_files_are_prepared_in_order_one_a_core_at_a_time(files, monkeypatch):
    monkeypatch.setattr(cpu, "cores", lambda: 3)
    inside, most, threads = [], [], set()
    opened = pictures.open_picture

    def slowly(picture, name, exif):
        inside.append(picture)
        most.append(len(inside))
        threads.add(threading.get_ident())
        time.sleep(0.01)
        inside.remove(picture)
        return opened(picture, name, exif)

    monkeypatch.setattr(pictures, "open_picture", slowly)
    batch = Preprocess(16)(files)
    assert max(most) == len(threads) == 3
    monkeypatch.undo()
    assert np.array_equal(batch, np.stack([Preprocess(16)(path) for path in files]))


def test_the_first_of_several_bad_files_is_named(files, monkeypatch):
    monkeypatch.setattr(cpu, "cores", lambda: 3)
    for i in (4, 7):
        files[i].write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"4\.png: cannot be read"):
        Preprocess(16)(files)


def test_pillows_memory_is_kept_while_files_are_prepared_and_not_longer(files, monkeypatch):
    monkeypatch.setattr(cpu, "cores", lambda: 3)
    kept, opened = [], pictures.open_picture
    blocks = Image.core.get_blocks_max
    before = blocks()
    monkeypatch.setattr(pictures, "open_picture", lambda *picture: kept.append(blocks()) or opened(*picture))
    Preprocess(16)(files)
    assert kept == [pictures.BLOCKS * 3] * 12 and blocks() == before
    files[5].write_bytes(b"no picture")
    with pytest.raises(InputError):
        Preprocess(16)(files)
    assert blocks() == before
    first, second = pictures._kept_memory(3), pictures._kept_memory(2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blocks() > before
    second.__exit__(None, None, None)
    assert blocks() == before


def test_a_picture_may_be_in_a_batch_twice_before_it_is_loaded(files):
    with Image.open(files[0]) as picture:
        batch = Preprocess(16)([picture] * 20)
    assert (batch == batch[0]).all()


def test_any_error_of_a_decoder_names_the_file(tmp_path):
    Image.new("F", (30, 30)).save(tmp_path / "a.spider", "SPIDER")
    header = bytearray((tmp_path / "a.spider").read_bytes())
    header[104:108] = np.float32(1).tobytes()  # "an image of a stack", which is none: AttributeError
    (tmp_path / "a.spider").write_bytes(header)
    with pytest.raises(InputError, match=r"a\.spider"):
        pictures.open_picture(tmp_path / "a.spider")
