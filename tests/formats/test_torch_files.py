"""PyTorch's files without PyTorch: we read what torch writes, torch reads what we write, and arrays are mapped."""

import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from miniclip.errors import InputError
from miniclip.formats import safetensors, torch_files
from miniclip.formats.arrays import BFLOAT16, PIECE, FileOfNumbers

STORED = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]
WANTED = [None, "float16", "float32", "float64"]
NAMES = st.text(st.characters(codec="utf-8"))


def as_torch_has_it(x, dtype=None):
    """A tensor as `read` should return it. torch converts float64 to float16 by way of float32: it rounds twice."""
    if (x.dtype, dtype) == (torch.float64, "float16"):
        with np.errstate(over="ignore", invalid="ignore"):
            return x.detach().numpy().astype(dtype)
    if dtype is not None and x.is_floating_point():
        x = x.to(getattr(torch, dtype))
    return (x.float() if x.dtype == torch.bfloat16 else x).detach().numpy()


def assert_same(ours, theirs, dtype=None):
    """Names, types, shapes and every bit are equal, except the bits of a NaN that was converted."""
    assert ours.keys() == theirs.keys()
    for name, x in theirs.items():
        expected = as_torch_has_it(x, dtype)
        assert (ours[name].dtype, ours[name].shape) == (expected.dtype, expected.shape)
        converted = dtype is not None and x.dtype != getattr(torch, dtype)
        ours_, theirs_ = (np.where(x == x, x, 0) if converted else x for x in (ours[name], expected))
        assert ours_.tobytes() == theirs_.tobytes()


@st.composite
def views(draw):
    """A tensor of any bits: whole, transposed, in steps, from the middle, or repeated."""
    dtype = draw(st.sampled_from(STORED))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    base = [n + draw(st.integers(0, 2)) for n in shape]
    x = torch.randint(0, 256, (*base, dtype.itemsize), dtype=torch.uint8, generator=generator)
    x = (x % 2 == 1)[..., 0] if dtype == torch.bool else x.view(dtype)[..., 0]
    for axis, n in enumerate(shape):
        x = x.narrow(axis, draw(st.integers(0, x.shape[axis] - n)), n)
    x = x.permute(draw(st.permutations(range(x.ndim))))
    if x.ndim and draw(st.booleans()):
        x = x[:: draw(st.integers(1, 3))]
    if draw(st.booleans()):
        x = x[None].expand(2, *x.shape)
    return torch.nn.Parameter(x) if x.is_floating_point() and draw(st.booleans()) else x


@given(
    tensors=st.dictionaries(NAMES, views(), max_size=4),
    protocol=st.integers(2, 5),
    dtype=st.sampled_from(WANTED),
)
def test_files_by_torch_are_read_as_torch_reads_them(tensors, protocol, dtype, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "x.pt"
    torch.save(tensors, path, pickle_protocol=protocol)
    assert_same(torch_files.read(path, dtype), torch.load(path, weights_only=False), dtype)


@pytest.mark.parametrize("stored", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", WANTED)
def test_long_storages_are_converted_in_pieces_as_torch_converts_them(stored, dtype, tmp_path):
    x = 10 ** torch.linspace(-45, 39, 2 * PIECE + 1, dtype=torch.float64)  # overflows and subnormals too
    strange = torch.tensor([np.inf, -np.inf, np.nan, -0.0, 1e-45]).to(stored)
    signalling = strange.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[stored.itemsize]) + 1
    x = {"x": x.to(stored), "strange": strange, "signalling": signalling.view(stored)}
    torch.save(x, tmp_path / "x.pt")
    assert_same(torch_files.read(tmp_path / "x.pt", dtype), x, dtype)


@pytest.mark.parametrize("shape", [(), (0,), (1,) * 8, (2, 0, 3), (1, 2) * 4])
@pytest.mark.parametrize("stored", STORED, ids=str)
def test_every_type_and_shape_is_read_and_written(stored, shape, tmp_path):
    x = {"x": torch.ones(shape, dtype=stored)}
    torch.save(x, tmp_path / "theirs.pt")
    assert_same(torch_files.read(tmp_path / "theirs.pt"), x)
    if stored != torch.bfloat16:
        torch_files.write(tmp_path / "ours.pt", {"x": x["x"].numpy()})
        assert_same(torch_files.read(tmp_path / "ours.pt"), x)
        for weights_only in (True, False):
            read = torch.load(tmp_path / "ours.pt", weights_only=weights_only)["x"]
            assert read.dtype == stored and torch.equal(read, x["x"])


@pytest.mark.parametrize("dtype", [None, "float64"])
def test_views_share_memory_as_in_torch(dtype, tmp_path):
    x = torch.arange(12.0).reshape(3, 4)
    torch.save({"x": x, "row": x[1], "turned": x.T, "tied": x, "other": x.clone()}, tmp_path / "x.pt")
    ours = torch_files.read(tmp_path / "x.pt", dtype)
    ours["x"][1, 2] = 99
    assert ours["row"][2] == ours["turned"][2, 1] == ours["tied"][1, 2] == 99
    assert ours["other"][1, 2] == 6


@pytest.mark.parametrize("write", ["torch", "ours"])
def test_mapped_arrays_are_views_of_the_map_and_writing_to_them_leaves_the_file_alone(write, tmp_path):
    path = tmp_path / "x.pt"
    if write == "torch":
        torch.save({"x": torch.arange(6.0)}, path)
    else:
        torch_files.write(path, {"x": np.arange(6, dtype=np.float32)})
    before = path.read_bytes()
    x = torch_files.read(path, "float32", mapped=True)["x"]
    x[:] = 7
    assert path.read_bytes() == before
    assert torch_files.read(path)["x"][3] == 3
    x = torch_files.read(path, mapped=True)["x"]
    with open(path, "r+b") as file:
        file.write(bytes(len(before)))
    assert not x.any()  # it is the file, not a copy


@pytest.mark.parametrize(("begin", "count"), [(-1, 1), (0, -1), (0, 5), (13, 1), (1 << 70, 0)])
@pytest.mark.parametrize("dtype", [None, "float64"])
def test_numbers_outside_of_a_file_are_refused(begin, count, dtype, tmp_path):
    (tmp_path / "x").write_bytes(bytes(16))
    with pytest.raises(ValueError, match="numbers from byte"), FileOfNumbers(tmp_path / "x") as file:
        file.array(begin, count, np.dtype("<f4"), dtype)


class Net(torch.nn.Module):
    """A module with tied weights, submodules and buffers, to which a test can add anything."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        self.twin = self.model[0]
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.register_buffer("mask", torch.tensor([True, False, True]))

    def forward(self, x):
        return self.twin(self.model(x)) * self.scale * self.mask


def test_tensors_in_dicts_in_dicts_have_names_with_dots(tmp_path):
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": x for name, x in net.state_dict().items()}
    beside = {"epoch": 3, "optimizer": optimizer.state_dict(), "loss": [1.5, (2, None)], "name": "ünï", "ema": True}
    torch.save({**beside, "a": {"b": state}, "tensor": torch.ones(2)}, tmp_path / "x.pt")
    read = torch_files.read(tmp_path / "x.pt")
    moments = {
        f"optimizer.state.{i}.{key}": x for i, s in optimizer.state_dict()["state"].items() for key, x in s.items()
    }
    assert_same(read, {"tensor": torch.ones(2), **{f"a.b.{name}": x for name, x in state.items()}, **moments})


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64", "complex64"])
def test_a_type_that_we_do_not_read_matters_only_if_the_tensor_is_chosen(dtype, tmp_path):
    moments = {"exp_avg": torch.ones(2).to(getattr(torch, dtype))}
    torch.save({"a": torch.ones(3), "optimizer": {0: moments}}, tmp_path / "x.pt")
    read = torch_files.read(tmp_path / "x.pt", select=lambda names, metadata: {"a": "b"} if "a" in names else {})
    assert_same(read, {"b": torch.ones(3)})
    with pytest.raises(InputError, match=r"x\.pt: optimizer.0.exp_avg is of type \w+, which miniclip does not read"):
        torch_files.read(tmp_path / "x.pt")


def test_a_state_dict_with_metadata_of_its_modules_is_read(tmp_path):
    state = Net().state_dict()
    assert state._metadata  # an attribute of this OrderedDict
    torch.save(state, tmp_path / "x.pt")
    ours = torch_files.read(tmp_path / "x.pt")
    assert list(ours) == list(state)
    assert_same(ours, state)


class Attributes(Net):
    number: int
    numbers: list[float]
    table: dict[str, int]
    nothing: int | None

    def __init__(self):
        super().__init__()
        self.number, self.real, self.flag, self.name, self.nothing = 7, 0.5, True, "a name", None
        self.numbers, self.counts, self.flags, self.table = [1.5, 2.5], [1, 2], [True], {"a": 1}
        self.pair, self.tensors = (1, "b"), [torch.ones(2), torch.zeros(3)]
        self.large = 1 << 40

    def forward(self, x):
        return self.twin(self.model(x)) * (self.number + self.large + len(self.tensors) + self.numbers[0])


@pytest.mark.parametrize("dtype", WANTED)
@pytest.mark.parametrize("compile", ["trace", "script"])
@pytest.mark.parametrize("module", [Net, Attributes])
def test_torchscript_archives_are_read_as_torch_reads_them(module, compile, dtype, tmp_path):
    net = module().eval()
    net.model[0].half()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        net = torch.jit.script(net) if compile == "script" else torch.jit.trace(net.float(), torch.ones(2, 3))
        net.save(tmp_path / "x.pt")
        state = torch.jit.load(tmp_path / "x.pt").state_dict()
    assert len(state) == 11
    assert_same(torch_files.read(tmp_path / "x.pt", dtype), state, dtype)


@pytest.mark.parametrize("name", ["a.b.pt", "ünï ✓.pt", "data.pkl", "x"])
def test_archives_have_a_folder_of_any_name(name, tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / name)
    assert torch_files.begins((tmp_path / name).read_bytes())
    assert_same(torch_files.read(tmp_path / name), {"x": torch.ones(2)})


def test_archives_of_older_versions_have_fewer_entries(tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for name in ("data.pkl", "data/0", "version"):
            old.writestr(f"archive/{name}", new.read(f"new/{name}"))
    assert_same(torch_files.read(tmp_path / "old.pt"), {"x": torch.ones(2)})


# ------------------------------------------------------------------------------------------------------ writing


@given(tensors=st.dictionaries(NAMES, views(), max_size=4))
def test_our_files_are_read_by_torch_and_by_us(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "x.pt"
    arrays = {name: as_torch_has_it(x) for name, x in tensors.items()}
    torch_files.write(path, arrays)
    expected = {name: torch.from_numpy(x.copy()) for name, x in arrays.items()}
    assert_same({name: x.numpy() for name, x in torch.load(path).items()}, expected)
    assert_same(torch_files.read(path), expected)
    written = path.read_bytes()
    torch_files.write(path, torch_files.read(path))
    assert path.read_bytes() == written


@pytest.mark.parametrize("write", [torch.save, lambda tensors, path: torch_files.write(path, tensors)])
def test_mapped_arrays_are_aligned(write, tmp_path):
    write({f"x{i}": torch.ones(i) for i in range(1, 13)}, tmp_path / "x.pt")
    assert not any(x.ctypes.data % 64 for x in torch_files.read(tmp_path / "x.pt", mapped=True).values())


def test_bfloat16_is_written_as_it_was_read(tmp_path):
    x = torch.arange(6).bfloat16().reshape(2, 3)
    torch_files.write(tmp_path / "x.pt", {"x": x.view(torch.int16).numpy().view(BFLOAT16)})
    assert torch.equal(torch.load(tmp_path / "x.pt")["x"], x)


def test_a_type_that_torchs_files_cannot_store_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"x\.pt: b is complex64"):
        torch_files.write(tmp_path / "x.pt", {"a": np.ones(2), "b": np.ones(2, np.complex64)})
    assert not list(tmp_path.iterdir())


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    torch_files.write(path, {"x": np.ones(3)})
    before = path.read_bytes()
    write = zipfile.ZipFile.writestr

    def interrupted(archive, entry, data):
        if entry.filename.endswith("data/1"):
            raise KeyboardInterrupt
        write(archive, entry, data)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        torch_files.write(path, {"x": np.zeros(3), "y": np.zeros(3)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------------------------- memory

# In its own process, so that the peak memory, which includes pages of the file, is that of reading.
PROGRAM = """
import sys
from miniclip import formats
def most(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10
before = most()
all = "model" not in sys.argv
def select(names, metadata): return {name: name for name in names if all or name.startswith("state_dict.")}
arrays = formats.read(sys.argv[1], "float32", select, mapped="mapped" in sys.argv)[0]
print(most() - before, sum(x.nbytes for x in arrays.values()))
"""


class Holding(torch.nn.Module):
    def __init__(self, x):
        super().__init__()
        self.x = torch.nn.Parameter(x)

    def forward(self, x):
        return self.x + x


def memory_to_read(path, *how):
    """(peak memory of reading a file as float32, size of the arrays), both in bytes."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, *how], capture_output=True, text=True, check=True)
    return map(int, done.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_converting_takes_hardly_more_memory_than_the_result(tmp_path):
    module = torch.nn.Sequential(*(Holding(torch.ones(5, 1 << 20).half()) for _ in range(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(tmp_path / "x.pt")
    most, size = memory_to_read(tmp_path / "x.pt")
    assert size == 4 * 8 * 5 << 20
    assert size < most < 1.15 * size + (8 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_only_the_model_of_a_training_checkpoint_is_converted(tmp_path):
    state = {f"module.x{i}": torch.ones(5, 1 << 20).bfloat16() for i in range(4)}
    moments = {i: {"exp_avg": torch.zeros_like(x), "exp_avg_sq": x + 1} for i, x in enumerate(state.values())}
    torch.save(
        {"optimizer": {"state": moments}, "ema": dict(state, x=state["module.x0"] * 2), "state_dict": state},
        tmp_path / "x.pt",
    )
    most, size = memory_to_read(tmp_path / "x.pt", "model")
    assert size == 4 * 4 * 5 << 20
    assert size < most < 1.15 * size + (8 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("write", [safetensors.write, torch_files.write])
def test_mapped_arrays_take_no_memory_until_they_are_touched(write, tmp_path):
    write(tmp_path / "x", {f"x{i}": np.ones((5, 1 << 20), np.float32) for i in range(8)})
    most, size = memory_to_read(tmp_path / "x", "mapped")
    assert size == 4 * 8 * 5 << 20
    assert most < 8 << 20
