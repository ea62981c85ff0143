"""Weights files that are cut, have wrong headers or were changed at random: they load, or are refused by name."""

import functools
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from changed_files import load_changed

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import huggingface
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.families import flax_names, tensorflow_names
from miniclip.formats import flax_files, hdf5_files, safetensors, torch_files

VIT = (16, 8, 1, 64, 4, 5, 20, 8, 1, 1)
RESNET = (16, 32, (1, 1, 1, 1), 2, None, 5, 20, 8, 1, 1)
OURS = CLIPConfig(VisionConfig(8, 4, 8, 1, 1, 8), TextConfig(5, 20, 8, 1, 1, 8, eot_token_id=19), 4)


def zeros(config):
    return params.tree_map(lambda shape: np.zeros(shape, np.float16), config.shapes())


@pytest.fixture(scope="module")
def models(tmp_path_factory, official_model, save_torchscript):
    """A directory with a small model in each format that `load` reads."""
    directory = tmp_path_factory.mktemp("models")
    for name, sizes in [("vit.pt", VIT), ("resnet.pt", RESNET)]:
        save_torchscript(official_model(*sizes, half=True), directory / name)
    torch.save(official_model(*RESNET, half=True).state_dict(), directory / "state.pt")
    checkpoints.save(directory / "ours.safetensors", OURS, zeros(OURS))
    huggingface.save(directory / "hf", OURS, zeros(OURS))
    (directory / "flax").mkdir()
    (directory / "flax" / "config.json").write_bytes((directory / "hf" / "config.json").read_bytes())
    tensors = flax_names.to_flax(safetensors.read(directory / "hf" / "model.safetensors")[0])
    flax_files.write(directory / "flax" / "flax_model.msgpack", nested(tensors))
    (directory / "tf").mkdir()
    (directory / "tf" / "config.json").write_bytes((directory / "hf" / "config.json").read_bytes())
    arrays = {f"tfclip_model/{tensorflow_names.from_flax(name)}": np.atleast_1d(x) for name, x in tensors.items()}
    hdf5_files.write(directory / "tf" / "tf_model.h5", "clip", arrays)
    return directory


def nested(flat):
    tree = {}
    for name, x in flat.items():
        *path, last = name.split(".")
        functools.reduce(lambda branch, key: branch.setdefault(key, {}), path, tree)[last] = x
    return tree


# ------------------------------------------------------------------------------- wrong directories of an archive


@pytest.fixture
def archive(tmp_path):
    """A file by torch.save with the storages 0 and 1."""
    torch.save({"x": torch.ones(4), "y": torch.zeros(100)}, tmp_path / "x.pt")
    return tmp_path / "x.pt"


def refused(path, expected):
    with pytest.raises(miniclip.InputError, match=rf"^{path}: .*{expected}") as error:
        checkpoints.load(path)
    assert len(str(error.value)) < 3010


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("data/0", {"header_offset": 1}, "data/0 is not where"),
        ("data/0", {"header_offset": 1 << 40}, "refers to byte"),
        ("data.pkl", {"header_offset": 1 << 62}, "refers to byte"),
        ("data/0", {"file_size": 1 << 62}, "data/0 is compressed"),
        ("data/0", {"file_size": 1 << 62, "compress_size": 1 << 62}, "entries overlap"),
        ("data/1", {"file_size": 1500, "compress_size": 1500}, "entries overlap|data/1 is not where"),
        ("data/0", {"compress_type": zipfile.ZIP_DEFLATED}, "data/0 is compressed"),
        ("data/0", {"flag_bits": 1}, "data/0 is compressed"),
        ("data.pkl", {"compress_type": 99}, "data.pkl is compressed"),
        ("data/0", {"filename": "x/data/1"}, "several have the same name"),
        ("data/0", {"filename": "../data.pkl"}, "2 entries named"),
        ("data/0", {"filename": "y/data.pkl"}, "2 entries named"),
        ("data/0", {"filename": "x/../data/0"}, "no entry x/data/0"),
        ("data/0", {"filename": "x/" + "y" * 60_000}, "no entry x/data/0"),
        ("data.pkl", {"filename": "y" * 60_000 + "/data.pkl"}, "no entry y*"),
        ("data.pkl", {"filename": "x/y/data.pkl"}, "0 entries named"),
        ("data.pkl", {"file_size": 3, "compress_size": 3}, "ends before its STOP"),
        ("version", {"extra": b"\1\0\x20\0short"}, "xtra"),
        ("version", {"create_version": 255, "extract_version": 255}, "version"),
    ],
)
def test_wrong_directories_of_entries_are_refused(name, changes, expected, archive):
    with zipfile.ZipFile(archive, "a") as file:
        for field, value in changes.items():
            setattr(file.getinfo(f"x/{name}"), field, value)
        file.comment = b""  # the directory is written again
    refused(archive, expected)


def test_an_entry_begins_with_its_own_header(archive):
    with zipfile.ZipFile(archive, "a") as file:
        file.getinfo("x/data/0").header_offset = archive.read_bytes().index(bytes(100))
        file.comment = b""
    refused(archive, "data/0 is not where")


def test_entries_over_one_another_cannot_fill_the_memory(archive):
    """A thousand storages in the same bytes would each be converted separately."""
    with zipfile.ZipFile(archive, "a") as file:
        for i in range(1000):
            entry = zipfile.ZipInfo(f"x/data/{i + 2}")
            entry.CRC, entry.header_offset, entry.file_size, entry.compress_size = 0, 0, 1000, 1000
            file.filelist.append(entry)
        file.comment = b""
    refused(archive, "entries overlap")


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_compressed_entries_are_refused_without_unpacking_them(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        content = pickle.dumps({}, 2)
        if name == "data/0":
            reference = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuM\0\1tQ"
            content = b"\x80\2" + reference + b"."
            file.writestr(zipfile.ZipInfo("x/data.pkl"), content)
        file.writestr(f"x/{name}", content.ljust(1 << 26, b"."))
    refused(tmp_path / "bomb.pt", f"{name} is compressed")


def test_a_file_of_another_byte_order_is_refused(archive):
    content = archive.read_bytes()
    assert content.count(b"little") == 1
    archive.write_bytes(content.replace(b"little", b"big   "))
    refused(archive, "big-endian")


# ------------------------------------------------------------------------------------------- other kinds of file


class Anything:
    """An object of a class, which torch.save stores by its name."""


OTHERS = {
    "legacy": (lambda x: torch.save({"x": torch.ones(2)}, x, _use_new_zipfile_serialization=False), "before 1.6"),
    "module": (lambda x: torch.save(torch.nn.Linear(2, 2), x), r"torch\.nn\.modules\.linear\.Linear.* state_dict\(\)"),
    "array": (lambda x: torch.save({"x": np.ones(2)}, x), "numpy.*state_dict"),
    "complex": (lambda x: torch.save({"logit_scale": torch.ones(2) + 1j}, x), "ComplexFloatStorage"),
    "sparse": (lambda x: torch.save({"x": torch.eye(2).to_sparse()}, x), "sparse"),
    "numbers": (lambda x: torch.save([1, 2], x), "holds a list"),
    "nothing": (lambda x: torch.save({}, x), "not the weights of a CLIP: it has no tensors"),
    "empty": (lambda x: x.write_bytes(b""), "it is empty"),
    "text": (lambda x: x.write_text("hello, these are no weights"), "is neither a safetensors"),
    "pickle": (lambda x: x.write_bytes(pickle.dumps({"x": 1})), "is neither a safetensors"),
    "tar": (lambda x: tarfile.open(x, "w").close(), "is neither a safetensors"),
    "zip": (lambda x: zipfile.ZipFile(x, "w").close(), "is neither a safetensors"),
    "other zip": (lambda x: write_zip(x, "a.txt"), "0 entries named"),
    "pipe": (os.mkfifo, "not a file"),
    "link": (lambda x: x.symlink_to("/dev/zero"), "not a file"),
    "loop": (lambda x: x.symlink_to(x), "Too many levels"),
    "missing": (lambda x: None, "No such file"),
}


def write_zip(path, name):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, b"")


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_file_are_refused_by_kind(kind, tmp_path):
    make, expected = OTHERS[kind]
    make(tmp_path / "x.pt")
    refused(tmp_path / "x.pt", expected)


@pytest.mark.parametrize("read", [torch_files.read, safetensors.read, flax_files.read, hdf5_files.read])
def test_directories_are_refused(read, tmp_path):
    with pytest.raises(miniclip.InputError, match=f"{tmp_path}: cannot be read: not a file"):
        read(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is readable here")
def test_a_file_that_may_not_be_read_is_named(archive):
    archive.chmod(0)
    refused(archive, "cannot be read: Permission denied")


# -------------------------------------------------------------------------------- wrong headers of a safetensors file


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({f"x{i}": entry(0, 8, [2]) for i in range(1000)}, "overlap"),
        ({"x": entry(0, 8, [2]), "y": entry(4, 12, [2])}, "overlap"),
        ({"x": entry(0, 0, [0, 1 << 70])}, "has shape"),
        ({"x": entry(0, 0, [0, 1 << 62, 1 << 62])}, ""),
        ({"x": entry(0, 8, 100 * [1] + [2])}, "has shape"),
        ({"x": entry(0, 8, 300_000 * [7])}, "has shape"),
        ({"x": entry(0, 8, [2], "F" * 1_000_000)}, "is of type F+"),
        ({"x" * 1_000_000: entry(0, 8, [2])}, "longer than 1,000 characters"),
        ({"x": entry(0, 8, [True, 2])}, "has shape"),
        ({"x": entry(0, 8, [2.0])}, "has shape"),
        ({"x": entry(0, 8, {"2": 1})}, "has shape"),
        ({"x": {**entry(0, 8, [2]), "data_offsets": {}}}, ""),
        ({"x": {"dtype": "F32", "shape": [2]}}, "data_offsets"),
        ({"x": {**entry(0, 8, [2]), "file": 1}}, "file"),
        ({"x": entry(100, 108, [2])}, r"x \[2\] needs 8 bytes, but has bytes 100 to 108 of 100"),
        (b"[" * 100_000, "recursion"),
    ],
    ids=range(16),
)
def test_wrong_safetensors_headers_are_refused(header, expected, tmp_path):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + bytes(100))
    with pytest.raises(miniclip.InputError, match=rf"^{tmp_path}/x\.safetensors: .*{expected}") as error:
        safetensors.read(tmp_path / "x.safetensors", "float64")
    assert len(str(error.value)) < 3010


# ------------------------------------------------------------------------------------------------- truncated files


@pytest.mark.parametrize(
    "name", ["vit.pt", "state.pt", "ours.safetensors", "flax/flax_model.msgpack", "tf/tf_model.h5"]
)
def test_a_truncated_file_is_never_mistaken_for_a_whole_one(name, models, tmp_path):
    content = (models / name).read_bytes()
    lengths = {*range(0, 100), *range(0, len(content), len(content) // 300), *range(len(content) - 100, len(content))}
    path = tmp_path / Path(name).name
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        refused(path, "")


# -------------------------------------------------------------------------------------------------- random changes

CHANGES = 12_000  # in total
KINDS = {
    "vit.pt": "vit.pt",
    "resnet.pt": "resnet.pt",
    "state.pt": "state.pt",
    "ours.safetensors": "ours.safetensors",
    "hf/model.safetensors": "hf",
    "hf/config.json": "hf",
    "flax/flax_model.msgpack": "flax",
    "tf/tf_model.h5": "tf",
}


def test_ten_thousand_changed_files_load_or_are_refused_by_name(models):
    outcomes, slowest, ran = load_changed(models, CHANGES // len(KINDS), KINDS)
    expected = {f"{file} {outcome}" for file in KINDS for outcome in ("loaded", "refused")}
    assert outcomes.keys() == expected, "\n".join(outcomes.keys() ^ expected)
    assert ran == []
    assert slowest < 2
