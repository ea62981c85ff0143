"""The safetensors format: read as the official package reads it, mapped, and refused by name if damaged."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

import miniclip
from miniclip.formats import safetensors as files

ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "__metadata__"),
    st.sampled_from(["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
    ),
    min_size=1,  # the official package cannot read its own file without tensors
    max_size=4,
)


@given(tensors=ARRAYS, metadata=st.dictionaries(st.text(), st.text(), max_size=2))
def test_safetensors_are_read_as_the_official_package_reads_them(tensors, metadata, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    files.write(path, tensors, metadata)
    ours, found = files.read(path)
    theirs = safetensors.numpy.load_file(path)
    assert found == metadata
    assert ours.keys() == theirs.keys() == tensors.keys()
    for name, array in tensors.items():
        assert ours[name].dtype == theirs[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array)
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_arrays_are_written_by_their_values_and_not_by_their_layout(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    files.write(tmp_path / "x.safetensors", {"turned": x.T, "part": x[:, 1:3], "back": x[::-1]})
    found = files.read(tmp_path / "x.safetensors")[0]
    np.testing.assert_array_equal(found["turned"], x.T)
    np.testing.assert_array_equal(found["part"], x[:, 1:3])
    np.testing.assert_array_equal(found["back"], x[::-1])


def test_a_written_file_has_the_usual_permissions(tmp_path):
    files.write(tmp_path / "x.safetensors", {"x": np.zeros(1)})
    (tmp_path / "other").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_bfloat16_is_widened(tmp_path):
    x = torch.randn(5, 7).bfloat16()
    save_file({"x": x}, tmp_path / "x.safetensors")
    ours = files.read(tmp_path / "x.safetensors")[0]["x"]
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, x.float().numpy())


def test_a_bfloat16_scalar_is_widened(tmp_path):
    save_file({"x": torch.tensor(1.5).bfloat16()}, tmp_path / "x.safetensors")
    assert files.read(tmp_path / "x.safetensors")[0]["x"] == 1.5


@pytest.mark.parametrize("mapped", [False, True])
def test_writing_to_arrays_leaves_the_file_alone(mapped, tmp_path):
    path = tmp_path / "x.safetensors"
    files.write(path, {"x": np.arange(6, dtype=np.float32)})
    before = path.read_bytes()
    x = files.read(path, mapped=mapped)[0]["x"]
    x[:] = 7
    assert path.read_bytes() == before


def test_arrays_that_were_read_do_not_change_with_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    files.write(path, {"x": np.arange(6, dtype=np.float32)})
    x = files.read(path)[0]["x"]
    path.write_bytes(bytes(path.stat().st_size))  # in place, as `cp` and torch.save write
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    with open(path, "r+b") as file:
        file.truncate(0)  # the next access to a map would end this process
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_only_chosen_tensors_need_a_type_that_we_read(tmp_path):
    save_file({"a": torch.ones(2).to(torch.float8_e4m3fn), "b": torch.ones(3)}, tmp_path / "x.safetensors")
    read, _ = files.read(tmp_path / "x.safetensors", select=lambda names, metadata: {x: "c" for x in names if x == "b"})
    assert read.keys() == {"c"} and read["c"].tolist() == [1, 1, 1]
    with pytest.raises(
        miniclip.InputError, match=r"x\.safetensors: .*a is of type F8_E4M3, which miniclip does not read"
    ):
        files.read(tmp_path / "x.safetensors")


GOOD = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"hello, this is a text and no tensor file",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 10_000) + json.dumps(GOOD).encode(),
        *(
            struct.pack("<Q", len(text)) + text + bytes(8)
            for text in [
                b"[1, 2]",
                b'{"__metadata__": null}',
                b'{"__metadata__": 5}',
                b'{"__metadata__": "text"}',
                b'{"__metadata__": {"config": {}}}',
                b"{" * 5000,
                b"\xff\xfe{}",
                *(
                    json.dumps({"x": {**GOOD["x"], **change}}).encode()
                    for change in [
                        {"shape": [3]},
                        {"shape": [-2]},
                        {"shape": [1 << 62, 4]},
                        {"shape": "2"},
                        {"shape": None},
                        {"data_offsets": [8, 16]},
                        {"data_offsets": [-8, 0]},
                        {"data_offsets": [0]},
                        {"data_offsets": [0, 4]},
                        {"dtype": "F4"},
                        {"dtype": []},
                        {"more": 1},
                    ]
                ),
                json.dumps({"x": {"dtype": "F32"}}).encode(),
                json.dumps({"x": 3}).encode(),
            ]
        ),
    ],
)
def test_damaged_files_are_refused_by_name(content, tmp_path):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(miniclip.InputError, match=r"damaged\.safetensors"):
        files.read(path)
