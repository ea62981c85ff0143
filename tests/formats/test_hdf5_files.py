"""Keras's files of weights: what h5py writes is read, what Keras never writes is refused."""

import sys

import h5py
import numpy as np
import pytest

import miniclip
from miniclip import formats
from miniclip.formats import hdf5_files


@pytest.fixture
def file(tmp_path):
    """A file that is open for writing; `path` is read."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        yield file


def read(file, **options):
    path = file.filename
    file.close()
    return formats.read(path, **options)[0]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "<i4", ">i8", "u1"])
@pytest.mark.parametrize("mapped", [True, False])
def test_arrays_in_groups_are_read(file, dtype, mapped):
    x = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(dtype)
    file["a/b/c:0"], file["d"], file["a/empty"] = x, x[0, 0], np.zeros((0, 3), dtype)
    file["text"], file["a/none"], file["number"] = "text", h5py.Empty("f4"), 3.0
    found = read(file, mapped=mapped)
    assert list(found) == ["a/b/c:0", "a/empty", "d"] and found["a/empty"].shape == (0, 3)
    assert found["d"].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found["a/b/c:0"], x)
    np.testing.assert_array_equal(found["d"], x[0, 0])


def test_arrays_are_converted_and_chosen(file):
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    file["a/x"], file["n"], file["other"] = x, np.arange(3), x
    found = read(file, dtype="float16", select=lambda names, metadata: {"a/x": "X", "n": "n"})
    np.testing.assert_array_equal(found["X"], x.astype(np.float16))
    assert list(found) == ["X", "n"] and found["n"].dtype == np.int64


def test_what_is_written_are_keras_s_groups_and_attributes(tmp_path, monkeypatch):
    arrays = {f"m/clip/{i}:0": np.full((2, 3), i, np.float32) for i in range(5)}
    hdf5_files.write(tmp_path / "x.h5", "clip", arrays)
    with h5py.File(tmp_path / "x.h5") as file:
        assert [*file.attrs["layer_names"]] == ["clip"] and [*file] == ["clip", "top_level_model_weights"]
        assert [*file["clip"].attrs["weight_names"]] == [*arrays]
    found = formats.read(tmp_path / "x.h5")[0]
    assert found.keys() == {f"clip/{name}" for name in arrays}
    np.testing.assert_array_equal(found["clip/m/clip/4:0"], arrays["m/clip/4:0"])
    monkeypatch.setattr(hdf5_files, "MOST_BYTES", 30)  # then the names are in several attributes, as Keras divides them
    hdf5_files.write(tmp_path / "x.h5", "clip", arrays)
    with h5py.File(tmp_path / "x.h5") as file:
        names = [file["clip"].attrs[f"weight_names{i}"].tolist() for i in range(2)]
        assert [*names[0], *names[1]] == [*arrays] and len(file["clip"].attrs) == 2


def chunked(file):
    file.create_dataset("x", data=np.zeros((100, 100)), chunks=(10, 10))


def compressed(file):
    file.create_dataset("x", data=np.zeros((100, 100)), compression="gzip")


def elsewhere(file):
    file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def linked(file):
    file["x"] = h5py.ExternalLink("/etc/passwd", "x")


def linked_inside(file):
    file["x"] = h5py.SoftLink("/x")


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("x", layout)


def endless(file):
    group = file.create_group("a")
    group["a"] = group


def unwritten(file):
    file.create_dataset("x", (4,), "f4")


REFUSED = {
    chunked: "x is compressed or in pieces",
    compressed: "x is compressed or in pieces",
    elsewhere: "x is compressed or in pieces",
    virtual: "x is compressed or in pieces",
    linked: "x is a link to something else",
    linked_inside: "x is a link to something else",
    endless: "too many or too deep",
    unwritten: r"x is \(4,\), for which the file has no numbers",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_keras_never_writes_is_refused(file, make):
    make(file)
    with pytest.raises(miniclip.InputError, match=rf"x\.h5: not a file of Keras, or a damaged one: .*{REFUSED[make]}"):
        read(file)


def test_without_h5py_the_message_says_what_to_install(file, monkeypatch):
    file["x"] = np.zeros(3)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(miniclip.InputError, match=r"x\.h5: is HDF5, which needs h5py: .*\[tensorflow\]"):
        read(file)
