"""Small pictures with captions for the tests of training data: as a folder, as tar shards, and broken ones."""

import csv
import io
import tarfile

import numpy as np
from PIL import Image

NUMBER = 60
COLOURS = {"red": (220, 20, 20), "green": (20, 180, 40), "blue": (30, 60, 220), "black": (0, 0, 0)}


def pictures(number=NUMBER):
    """{name: PIL image} of noise, of many sizes and shapes; each differs from all others."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(12, 40, (number, 2))
    return {f"{i:03}.png": Image.fromarray(rng.integers(0, 256, (*sizes[i], 3), np.uint8)) for i in range(number)}


def encoded(image, form="PNG"):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def caption_of(name):
    return f"this is picture {name[:3]}"


def write_folder(folder, number=NUMBER, table="captions.csv"):
    """A folder of pictures with a table of captions."""
    rows = ["file_name,text"]
    for name, image in pictures(number).items():
        image.save(folder / name)
        rows.append(f"{name},{caption_of(name)}")
    (folder / table).write_text("\n".join(rows))
    return folder


def broken(folder, names):
    """Break four pictures of a folder, one in each way; returns {path: what the reason says}."""
    cut, other, empty, missing = (folder / name for name in names)
    cut.write_bytes(cut.read_bytes()[:-200])
    other.write_bytes(b"this is not a picture")
    empty.write_bytes(b"")
    missing.unlink()
    return {
        str(cut): "truncated",
        str(other): "cannot be read as a picture",
        str(empty): "cannot be read as a picture",
        str(missing): "no such file",
    }


def write_tar(path, members):
    """A tar of (name, bytes); several members may have one name."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_shards(folder, shards=3, number=NUMBER):
    """Tar shards with the same pictures as `write_folder`, 0.tar and so on."""
    files = [
        member
        for name, image in pictures(number).items()
        for member in ((name, encoded(image)), (f"{name[:-4]}.txt", caption_of(name).encode()))
    ]
    each = len(files) // shards
    return [write_tar(folder / f"{i}.tar", files[i * each : (i + 1) * each]) for i in range(shards)]


def write_colours(folder):
    """Write 12 pictures of plain colours, captions.csv and a broken picture into a folder; returns it."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        name = [*COLOURS][i % 4]
        pixels = np.clip(np.array(COLOURS[name]) + rng.normal(0, 20, (40, 50, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append((f"{i}.png", f"a {name} picture"))
    (folder / "broken.png").write_bytes(b"no picture")
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file_name", "caption"), *rows, ("broken.png", "a broken picture")])
    return folder
