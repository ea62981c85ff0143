"""Flax's files: what the msgpack package writes is read, and what we write are the same bytes."""

import struct

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax_models import packed
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import miniclip
from miniclip import formats, params
from miniclip.formats import flax_files

TYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=40)
ARRAYS = st.sampled_from(TYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=5))
)
TREES = st.recursive(ARRAYS, lambda branches: st.dictionaries(KEYS, branches, min_size=1, max_size=20), max_leaves=25)
FILES = st.dictionaries(KEYS, TREES, min_size=1, max_size=4)
OTHERS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
OTHERS = OTHERS | st.binary(max_size=300) | st.just(1 + 2j) | st.lists(st.booleans(), max_size=20)


def same(found, tree):
    expected = params.flatten(tree)
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert found[name].dtype == x.dtype and found[name].shape == x.shape
        np.testing.assert_array_equal(found[name], x)


@given(tree=FILES, largest=st.sampled_from([8, 17, 2**30]))
def test_files_are_the_same_bytes_and_are_read(tree, largest, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "x.msgpack"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flax_files, "LARGEST", largest)
        flax_files.write(path, tree)
    assert path.read_bytes() == packed(tree, largest)
    same(formats.read(path)[0], tree)


@given(values=st.dictionaries(KEYS, OTHERS, max_size=6))
def test_what_is_no_array_is_dropped(values, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "x.msgpack"
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    path.write_bytes(packed({"params": {"w": x, "scalar": np.float32(3)}, "more of it": values}))
    same(formats.read(path)[0], {"params": {"w": x, "scalar": np.asarray(np.float32(3))}})


@pytest.mark.parametrize("size", [3, 70_000, 9_000_000])
def test_lengths_of_all_widths(size, tmp_path):
    tree = {"n" * 300: {str(i): np.zeros((), np.int8) for i in range(20)}, "x": np.arange(size, dtype=np.int16)}
    flax_files.write(tmp_path / "x.msgpack", tree)
    assert (tmp_path / "x.msgpack").read_bytes() == packed(tree)
    same(flax_files.read(tmp_path / "x.msgpack"), tree)


def test_many_parameters(tmp_path):
    tree = {"x": {str(i): np.asarray(i) for i in range(10_000)}}
    flax_files.write(tmp_path / "x.msgpack", tree)
    assert (tmp_path / "x.msgpack").read_bytes() == packed(tree)
    same(flax_files.read(tmp_path / "x.msgpack"), tree)


@pytest.mark.parametrize("largest", [7, 2**30])
def test_bfloat16_is_widened(largest, tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(ml_dtypes.bfloat16)
    (tmp_path / "x.msgpack").write_bytes(packed({"x": x}, largest))
    found = flax_files.read(tmp_path / "x.msgpack")["x"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x.astype(np.float32))


def test_arrays_are_converted_chosen_and_may_be_written_to(tmp_path):
    path, x = tmp_path / "x.msgpack", np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    path.write_bytes(packed({"a": {"b": x, "c": x.astype(np.complex64)}, "n": np.arange(3)}))
    found, _ = formats.read(path, "float16", lambda names, metadata: {"a.b": "B", "n": "n"}, mapped=True)
    np.testing.assert_array_equal(found["B"], x.astype(np.float16))
    assert found["n"].dtype == np.int64 and found["B"].flags.aligned
    found["B"][:] = 0
    with pytest.raises(miniclip.InputError, match=r"x\.msgpack: .*a\.c is of type complex64, which miniclip does not"):
        formats.read(path)


def extension(content, kind=1):
    return msgpack.packb({"x": msgpack.ExtType(kind, content)})


def array(*values):
    return extension(msgpack.packb(values))


ROW = msgpack.ExtType(1, msgpack.packb(((2,), "int8", b"ab")))
LARGE = "__msgpack_chunked_array__"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (packed({"x": np.zeros(3)})[:-1], "ends in the middle of a value"),
        (packed({"x": np.zeros(3)}) + b"\0", "has 1 bytes after its end"),
        (array((2,), "int8", b"abc"), r"is \(2,\) of int8, but has 3 bytes"),
        (array((2,), "int8", b"ab", 1), "not a shape, a type and numbers"),
        (array((2,), "int8"), "not a shape, a type and numbers"),
        (array((2,), "int8", "ab"), "not a shape, a type and numbers"),
        (array((2,), 8, b"ab"), "not a shape, a type and numbers"),
        (array((-2,), "int8", b"ab"), "natural numbers"),
        (array(2, "int8", b"ab"), "natural numbers"),
        (array((True, 2), "int8", b"ab"), "natural numbers"),
        (array((1,) * 9, "int8", b"a"), "natural numbers"),
        (array((1 << 63, 1 << 63), "int8", b"a"), "but has 1 bytes"),
        (extension(msgpack.packb(((2,), "int8", b"ab")) + b"more"), "not a shape, a type and numbers"),
        (b"\x81\xa1x\x92" * 40_000, "too many or too deep"),
        (b"\x81\xa1x\xdd\xff\xff\xff\xff" + b"\xc0" * 1_000_000, "too many or too deep"),
        (b"\x81\xa1x\xdf\xff\xff\xff\xff", "ends in the middle"),
        (b"\x81\xa1x\xc6\xff\xff\xff\xff", "ends in the middle"),
        (b"\x81\xa1x\xc9\xff\xff\xff\xff\x01", "ends in the middle"),
        (b"\x82\xa1x\xc0\xa1x\xc0", "has the key 'x'"),
        (b"\x82\xa1x\xc0\x01\xc0", "has the key 1"),
        (b"\x81\xa1\xff\xc0", "utf-8"),
        (b"\x81\xa1x\xc1", "193"),
        (msgpack.packb({"x": {"y" * 999: ROW}}), "longer than 1,000 characters"),
        (msgpack.packb({"x": {"y": ROW}, "x.y": ROW}), r"has x\.y twice"),
        (msgpack.packb({"x": {LARGE: True, "shape": {"0": 4}}}), "chunks"),
        (msgpack.packb({"x": {LARGE: True, "shape": {"0": 4}, "chunks": {"0": ROW}}}), "another number of numbers"),
        (msgpack.packb({"x": {LARGE: True, "shape": {"1": 2}, "chunks": {"0": ROW}}}), "'0'"),
        (msgpack.packb({"x": {LARGE: True, "shape": {"0": 2}, "chunks": {"0": b"ab"}}}), "not rows of numbers"),
        (msgpack.packb({"x": {LARGE: True, "shape": {"0": 2}, "chunks": {}}}), "not rows of numbers"),
        (msgpack.packb({"x": {LARGE: True, "shape": 3, "chunks": 4}}), ""),
    ],
    ids=range(30),
)
def test_damaged_files_are_refused_by_name(content, expected, tmp_path):
    (tmp_path / "x.msgpack").write_bytes(content)
    with pytest.raises(miniclip.InputError, match=rf"^{tmp_path}/x\.msgpack: not a Flax file.*({expected})") as error:
        formats.read(tmp_path / "x.msgpack")
    assert len(str(error.value)) < 3010


def test_a_type_that_flax_does_not_write_is_refused(tmp_path):
    with pytest.raises(miniclip.InputError, match=r"x\.msgpack: there is an array of complex64"):
        flax_files.write(tmp_path / "x.msgpack", {"x": np.zeros(3, np.complex64)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"\x80", b"\x91\xc0", b"\x85\x01", struct.pack("<Q", 0x93) + b"{}"])
def test_other_files_are_no_files_of_flax(content):
    assert not flax_files.begins(content)
