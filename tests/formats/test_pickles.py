"""Wrong, hostile and endless pickles, in archives that are otherwise valid: refused by name, and nothing runs.

One separate process reads them all; its audit hook sees everything that Python does besides reading a file.
"""

import json
import pickle
import pickletools
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from miniclip.formats import torch_files
from miniclip.formats.pickles import loads

# -------------------------------------------------------------------------------------------- pickles made by hand


def data(value):
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]  # without the protocol and the stop


def call(name, *arguments):
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def storage(kind="storage", dtype=b"ctorch\nFloatStorage\n", key="0", count=4):
    kind, key, count = (x if isinstance(x, bytes) else data(x) for x in (kind, key, count))
    return b"(" + kind + dtype + key + data("cpu") + count + b"tQ"


STORAGE = storage()


def tensor(storage=STORAGE, offset=0, size=(2, 2), stride=(2, 1), more=b""):
    """A tensor's instructions; `more` are those of further arguments."""
    arguments = (x if isinstance(x, bytes) else data(x) for x in (offset, size, stride, False))
    return call("torch._utils _rebuild_tensor_v2", storage, *arguments, call("collections OrderedDict"), more)


def state(value, key="x"):
    return b"}" + (key if isinstance(key, bytes) else data(key)) + value + b"s"


def text(characters):
    return b"X" + struct.pack("<I", len(characters)) + characters


def write(path, content):
    """Write an archive as torch.save does; its storage 0 has four float32 numbers."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("x/byteorder", b"little")
        archive.writestr("x/data/0", np.arange(4, dtype=np.float32).tobytes())


MODULE = b"c__torch__\nX\n)R"
LAUGHS = b")" + 64 * b"2\x86"  # each tuple has the one before twice: to visit all of it takes forever


def test_valid_pickles_are_read(tmp_path):
    for content in [
        state(tensor()),
        state(tensor(), key="x") + b"r\xff\xff\xff\xff",  # a high memo number takes no memory
        state(tensor()) + state(LAUGHS) + b"b",  # sets a dict's attributes
        b"c__torch__\nX\n)\x81" + state(tensor()) + b"b",
        b"(" + data("x") + tensor() + b"d",
        state(tensor(storage(count=3), size=(1, 2))),  # a storage may be longer than the pickle says
    ]:
        write(tmp_path / "x.pt", content)
        (x,) = torch_files.read(tmp_path / "x.pt").values()
        assert x.flat[:2].tolist() == [0, 1]


VALUES = [
    *({"a": [1, -2, 1 << 31, -(1 << 63), (1 << 64) - 1], 5: (), "b": (1,)}, [0.5, None, True, False, "ü", "x" * 300]),
    *((1, 2), (1, 2, 3), (1, 2, 3, 4), [[]], [[1]], {}, {"a": {}}, {"x" * 70_000: 1}, list(range(3000))),
]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_data_are_read_as_they_were_pickled(value, protocol):
    assert loads(pickle.dumps(value, protocol), None, None) == value
    shared = {"a": value, "b": value}
    read = loads(pickle.dumps(shared, protocol), None, None)
    assert read == shared and (read["a"] is read["b"] or value == ())


# -------------------------------------------------------------------------------------------------- refused pickles

CALLED = [
    *("os system", "posix system", "nt system", "os popen", "subprocess Popen", "subprocess check_output"),
    *("builtins eval", "builtins exec", "builtins getattr", "builtins __import__", "builtins open", "__builtin__ eval"),
    *("builtins setattr", "builtins print", "webbrowser open", "runpy run_path", "functools partial", "shutil rmtree"),
    *("operator attrgetter", "operator methodcaller", "types FunctionType", "types CodeType", "codecs encode"),
    *("torch load", "torch.jit load", "torch.serialization _load", "torch.hub load", "torch Tensor", "torch"),
    *("numpy.core.multiarray _reconstruct", "numpy fromfile", "numpy.testing rundocs", "pickle loads", "copyreg _x"),
    *("collections OrderedDict.update", "collections.OrderedDict fromkeys", "torch._utils _rebuild_qtensor"),
    *("torch FloatStorage.from_file", "torch QInt8Storage", "torch._utils", "_codecs encode", "miniclip load"),
]
COMMAND = data("touch canary")
BY_NAME = {f"global {name}": call(name, COMMAND) for name in CALLED if " " in name} | {
    f"built {name}": b"".join(map(data, name.partition(" ")[::2])) + b"\x93" + COMMAND + b"\x85R" for name in CALLED
}

INSTRUCTIONS = {
    "INST": b"(" + COMMAND + b"ios\nsystem\n",
    "OBJ": b"(" + COMMAND + b"o",
    "EXT1": b"\x82\1",
    "EXT2": b"\x83\1\0",
    "EXT4": b"\x84\1\0\0\0",
    "NEWOBJ_EX": b"c__torch__\nX\n)}\x92",
    "PERSID": b"Pos.system\n",
    "INT": b"I7\n",
    "LONG": b"L7L\n",
    "LONG4": b"\x8b" + struct.pack("<I", 1 << 20) + bytes(1 << 20),
    "FLOAT": b"F1.5\n",
    "STRING": b"S'\\q'\n",  # in Python source this would be an invalid escape
    "BINSTRING": b"T\1\0\0\0x",
    "SHORT_BINSTRING": b"U\1x",
    "UNICODE": b"Vx\n",
    "PUT": b"Np0\n",
    "GET": b"g0\n",
    "BINBYTES": b"B\1\0\0\0x",
    "SHORT_BINBYTES": b"C\1x",
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", 1) + b"x",
    "NEXT_BUFFER": b"\x97",
    "READONLY_BUFFER": b"N\x98",
    "EMPTY_SET": b"\x8f",
    "ADDITEMS": b"](K\1\x90",
    "FROZENSET": b"(\x91",
}
LYING = {
    # calls, items and attributes
    "call of a type": (b"ctorch\nFloatStorage\n)R", "calls a .*DType"),
    "call of a string": (data("os.system") + b")R", "calls a str"),
    "call of a dict": (b"})R", "calls a dict"),
    "call of a storage": (STORAGE + b")R", "calls a _Storage"),
    "call of a module": (MODULE + b")R", "calls a Module"),
    "call with a list": (b"ccollections\nOrderedDict\n]R", "calls a Maker"),
    "items for a dict": (call("collections OrderedDict", b"]"), "positional argument"),
    "attributes for a module": (call("__torch__ X", state(b"N")), "positional argument"),
    "a parameter of too much": (call("torch._utils _rebuild_parameter", tensor(), 4 * b"N"), "positional argument"),
    "a tensor of too much": (tensor(more=3 * b"N"), "positional argument"),
    "attributes of a type": (b"ctorch\nFloatStorage\n}b", "attributes of a .*DType"),
    "attributes of a maker": (b"ccollections\nOrderedDict\n" + state(b"N", "make") + b"b", "attributes of a Maker"),
    "attributes of a storage": (STORAGE + state(b"N", "count") + b"b", "attributes of a _Storage"),
    "attributes of a tensor": (tensor() + state(b"N", "offset") + b"b", "attributes of a _Tensor"),
    "attributes of a list": (b"]}b", "attributes of a list"),
    "slots of a module": (MODULE + b"N" + state(b"N", "__class__") + b"\x86b", "attributes of a Module"),
    "a list as a module's attributes": (MODULE + b"]b", "attributes of a Module"),
    "items of a module": (MODULE + data("x") + b"Ns", "items of a Module"),
    "items of a list": (b"]K\0Ns", "items of a list"),
    "items of a storage": (STORAGE + b"K\0Ns", "items of a _Storage"),
    "an odd number of items": (b"}(K\0NK\1u", "items of a dict"),
    "appended to a tuple": (b")Na", "appends to a tuple"),
    "appended to a storage": (STORAGE + b"(NNe", "appends to a _Storage"),
    "a call with a tensor": (b"ccollections\nOrderedDict\n" + tensor() + b"R", "calls a Maker"),
    "appended to a module": (MODULE + b"Na", "appends to a Module"),
    **{
        f"{name} for a key": (state(b"N", key), "items of a dict")
        for name, key in {
            "a tuple": b")",
            "a list": b"]",
            "True": b"\x88",
            "a float": data(1.5),
            "None": b"N",
            "laughter": LAUGHS,
            "a type": b"ctorch\nFloatStorage\n",
        }.items()
    },
    # globals and references to storages
    "a global of laughter": (LAUGHS + data("x") + b"\x93", "its name is not a string"),
    "a global in laughter": (data("torch") + LAUGHS + b"\x93", "its name is not a string"),
    "a global of three words": (b"cos\nsystem more\n", ": holds os.system more, but miniclip reads only"),
    "a global with escapes": (b"cos\n\\q\\x65val\n", r": holds os\.\\q\\x65val, but miniclip reads only"),
    "a global without its end": (b"cos\nsystem", ": holds os.system., but miniclip reads only"),
    "a long global": (b"c" + 1_000_000 * b"x" + b"\ny\n", ": holds x{1000}x* … x*.y, but miniclip reads only"),
    "a reference of text": (data("os.system") + b"Q", "unpack|is not a storage"),
    "a reference of five letters": (data("store") + b"Q", "is not a storage"),
    "a reference of laughter": (storage(kind=LAUGHS), "is not a storage"),
    "a reference to a module": (storage(kind="module"), "is not a storage"),
    "a storage of a maker": (storage(dtype=b"ccollections\nOrderedDict\n"), "is not a storage"),
    "a storage of a name": (storage(dtype=data("<f4")), "is not a storage"),
    "a storage at a number": (storage(key=0), "is not a storage"),
    "a storage at a list": (storage(key=b"]"), "is not a storage"),
    "a storage of True": (storage(count=True), "is not a storage"),
    "a storage of 1.0": (storage(count=1.0), "is not a storage"),
    "a storage elsewhere": (storage(key="1"), r"no entry x/data/1"),
    "a storage outside": (storage(key="../../etc/passwd"), "no entry"),
    "a storage of a long name": (storage(key="0" * 1_000_000), "no entry"),
    "a storage too long": (storage(count=5), "should have 5 numbers, but has 16 bytes"),
    "a storage of a longer type": (
        storage(dtype=b"ctorch\nDoubleStorage\n"),
        "should have 4 numbers, but has 16 bytes",
    ),
    "a storage of 2^62": (storage(count=1 << 62), "but has 16 bytes"),
    "a storage of -4": (storage(count=-4), "-4 numbers, but has 16 bytes"),
    # tensors
    "a tensor of no storage": (tensor(b"]"), "has no storage"),
    "a tensor of a tensor's dict": (tensor(b"}"), "has no storage"),
    "strides for other axes": (tensor(stride=(1,)), "no shape"),
    "a shape of a number": (tensor(size=4), "no shape"),
    "a shape of a list": (tensor(size=[2, 2], stride=[2, 1]), "no shape"),
    "a shape of a dict": (tensor(size=b"}K\0" + LAUGHS + b"s", stride=b"}K\7Ns"), "no shape"),
    "a shape of laughter": (tensor(size=LAUGHS), "natural"),
    "a shape of letters": (tensor(size=("a", "b")), "natural"),
    "a shape of a truth": (tensor(size=(True, 2)), "natural"),
    "a negative size": (tensor(size=(2, -2)), "natural"),
    "a negative stride": (tensor(offset=3, stride=(-2, -1)), "natural"),
    "a negative offset": (tensor(offset=-1), "natural"),
    "an offset of a truth": (tensor(offset=True), "natural"),
    "an offset of nothing": (tensor(offset=b"N"), "natural"),
    "an offset too far": (tensor(offset=1), "reads number 4 of a storage that has 4"),
    "a stride too long": (tensor(stride=(3, 1)), "reads number 4 of a storage that has 4"),
    "a size too long": (tensor(size=(2, 3)), "reads number 4 of a storage that has 4"),
    "a size of 2^62": (tensor(size=(1 << 62, 2)), "of a storage that has 4"),
    "an overflow": (tensor(size=(1 << 63, 2), stride=(2, 1)), "of a storage that has 4"),
    "2^62 of one number": (state(tensor(size=(1 << 62, 1), stride=(0, 0))), "many times as large"),
    "a terabyte of one number": (state(tensor(size=(1 << 38, 1), stride=(0, 0))), "many times as large"),
    "an empty tensor, else too large": (
        state(tensor(size=(0, 1 << 62, 1 << 62), stride=(0, 0, 0)), key="logit_scale"),
        "too big|too large",
    ),
    "strides of 2^64 that go nowhere": (
        state(tensor(size=(1, 1), stride=((1 << 64) - 1, 0)), key="logit_scale"),
        "too large",
    ),
    "nine axes": (tensor(size=9 * (1,), stride=9 * (1,)), "a tensor of 9 dimensions, expected at most 8"),
    # instructions without their operands
    "nothing on the stack": (b"0", "pop from empty"),
    "no mark": (b"t", "pop from empty"),
    "no function": (b")R", "required positional|calls a"),
    "no list": (b"Na", "index out of range"),
    "no dict": (b"Nb", "index out of range"),
    "no persistent id": (b"Q", "pop from empty"),
    "nothing to put": (b"q\0", "index out of range"),
    "a get before its put": (b"h\0", "0"),
    "an unknown instruction": (b"\xff", "unknown"),
    "a list": (b"]", "it holds a list, expected a dict of tensors"),
    "a tensor alone": (tensor(), "it holds a tensor, expected a dict of tensors"),
    # texts and numbers
    "bytes that are no UTF-8": (state(b"N", text(b"\xff\xfe")), "utf-8"),
    "a text of 2^60": (b"\x8d" + struct.pack("<Q", 1 << 60) + b"x", "expected|ends before its STOP"),
    "bytes of 2^60": (b"\x8e" + struct.pack("<Q", 1 << 60) + b"x", "expected|ends before its STOP"),
    "an array of 2^60": (b"\x96" + struct.pack("<Q", 1 << 60) + b"x", "expected|ends before its STOP"),
    "an array of 2^64": (b"\x96" + 8 * b"\xff" + b"x", "sys.maxsize"),
    "a frame of 2^60": (b"\x95" + struct.pack("<Q", 1 << 60) + b"]", "it holds a list"),
    "more instructions than of any model": (2_200_000 * b"N" + state(b"N"), "2,200,012 bytes, more than any"),
    "a number of 2000 bits": (state(data(1 << 2000)), "more than 64 bits"),
    **{
        f"400,000 tensors of {axes} axes": (
            b"ctorch._utils\n_rebuild_tensor_v2\nq\0("
            + STORAGE
            + b"".join(map(data, (0, axes * (1,), axes * (1,), False)))
            + b"Ntq\1]("
            + 400_000 * b"h\0h\1R"
            + b"e",
            "makes more than 50,000 calls" if axes <= 8 else "a tensor of 64 dimensions",
        )
        for axes in (0, 8, 64)
    },
}


def numbered(make, count):
    return b"".join(make(struct.pack("<I", i)) for i in range(count))


# Each would take hours or terabytes if anything in it were visited or copied more than once.
ENDLESS = {
    "a million instructions": 1_000_000 * b"N0" + state(b"N"),
    "two million lists": 2_000_000 * b"]" + state(b"N"),
    "tuples in tuples": state(b")" + 500_000 * b"\x85"),
    "lists in lists": state(500_000 * b"]" + 499_999 * b"a"),
    "dicts in dicts": 100_000 * (b"}" + data("model")) + b"N" + 100_000 * b"s",
    "modules in modules": 50_000 * (MODULE + b"}" + data("a")) + b"N" + 50_000 * b"sb",
    "a dict in itself": b"}q\0" + data("model") + b"h\0s",
    "a list in itself": state(b"]q\0h\0a"),
    "a module in itself": MODULE + b"q\0}" + data("a") + b"h\0sb",
    "lists of one list": state(b"]" + 64 * b"q\x000(h\0h\0l"),
    "modules of one module": MODULE + 64 * (b"q\0" + MODULE + b"}(" + data("a") + b"h\0" + data("b") + b"h\0ub"),
    "modules of many": MODULE
    + b"}("
    + numbered(lambda i: b"J" + i + b"N", 20_000)
    + b"ubq\0"
    + 4 * (MODULE + b"}(" + numbered(lambda i: b"J" + i + b"h\0", 1000) + b"ubq\0"),
    "one name in many modules": text(500_000 * b"x")
    + b"q\0"
    + tensor()
    + b"q\1"
    + MODULE
    + b"}("
    + numbered(lambda i: b"J" + i + MODULE + b"}h\0h\1sb", 20_000)
    + b"ub",
    "attributes of many modules": b"}("
    + numbered(lambda i: b"J" + i + b"N", 100_000)
    + b"uq\0c__torch__\nX\nq\1]("
    + 100_000 * b"h\1)Rh\0b"
    + b"e0"
    + state(b"N"),
    "attributes of one module, again and again": b"}("
    + numbered(lambda i: b"J" + i + b"N", 100_000)
    + b"uq\0"
    + MODULE
    + 300_000 * b"h\0b"
    + b"0"
    + state(b"N"),
    "a global of a long name": text(b"__torch__" + 500_000 * b"x") + b"q\0" + 200_000 * b"h\0h\0\x930" + state(b"N"),
    "arguments without end": b"ctorch._utils\n_rebuild_parameter\nq\1("
    + 500_000 * b"N"
    + b"tq\0"
    + 200_000 * b"h\1h\0R0"
    + state(b"N"),
    "keys of one hash": b"}("
    + b"".join(b"\x8a\x0a" + (i * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for i in range(1, 60_000))
    + b"u",
    "keys that are long to hash": b"\x8b"
    + struct.pack("<I", 1_000_000)
    + 1_000_000 * b"\x7f"
    + b"q\0}"
    + 200_000 * b"h\0Ns",
    "sizes that are long to multiply": b"\x8b"
    + struct.pack("<I", 1_500_000)
    + 1_500_000 * b"\x7f"
    + b"q\0"
    + state(tensor(size=b"(" + 32 * b"h\0" + b"t", stride=b"(" + 32 * b"h\0" + b"t")),
    "text that repeats": b"(" + 1_000 * text(1_000 * b"x") + b"l0" + state(b"N"),
}

CASES = {
    **{name: (state(content), ": holds .*, but miniclip reads only tensors") for name, content in BY_NAME.items()},
    **{
        name: (content, f"instruction {name}, which does more than build data")
        for name, content in INSTRUCTIONS.items()
    },
    **LYING,
    **{name: (content, "") for name, content in ENDLESS.items()},
}

PROGRAM = """
import json, resource, signal, sys, time
from pathlib import Path
import encodings.cp437, encodings.raw_unicode_escape  # which Python imports when it first reads such texts
from miniclip import InputError
from miniclip.checkpoints import load, others  # `others` with all that it imports, before it is watched
from miniclip.formats import torch_files

seen = []
def hook(event, arguments):
    reading = event == "open" and arguments[1] in ("r", "rb") or event == "mmap.__new__"
    if watching and not reading:
        seen.append(f"{event} {arguments}"[:200])
watching = False
sys.addaudithook(hook)

resource.setrlimit(resource.RLIMIT_AS, 2 * (1 << 30,))
for path in sorted(Path(sys.argv[1]).glob("*.pt"), key=lambda path: int(path.stem)):
    print(path.stem, flush=True, file=sys.stderr)
    signal.alarm(20)
    watching, start = True, time.process_time()
    try:
        load(path, dtype="float32")
        outcome = "loaded"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    watching, seconds = False, time.process_time() - start
    print(json.dumps([outcome, seconds, seen]))
    seen.clear()
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """{case: [the error, seconds, what Python did besides reading]}, all from one process of limited memory."""
    directory = tmp_path_factory.mktemp("pickles")
    for i, (content, _) in enumerate(CASES.values()):
        write(directory / f"{i}.pt", content)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, directory],
        capture_output=True,
        text=True,
        cwd=directory,
        check=False,
    )
    assert done.returncode == 0, f"{list(CASES)[int(done.stderr.split()[-1])]}: {done.stderr[-2000:]}"
    assert not (directory / "canary").exists()
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_hostile_pickles_are_refused_at_once_and_nothing_runs(name, outcomes):
    outcome, seconds, ran = outcomes[name]
    assert ran == []
    assert outcome.startswith("InputError") and f"/{list(CASES).index(name)}.pt: " in outcome
    assert re.search(CASES[name][1], outcome), outcome
    assert len(outcome) < 3_020
    assert seconds < 3


def test_python_itself_would_have_run_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(b"\x80\x02" + BY_NAME["global os system"] + b".")
    assert (tmp_path / "canary").exists()
