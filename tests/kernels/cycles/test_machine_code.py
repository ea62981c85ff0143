"""Reading and following machine code that Triton compiles: in a process of its own, since here it interprets."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from miniclip.errors import InputError
from miniclip.kernels.cycles import sass, threads
from miniclip.kernels.cycles.__main__ import BEGIN, END, HEADER, README

NUMBERED = re.compile(r"\bU?[RP]\d+")
FACTS = """
import json, subprocess, torch
from collections import Counter
from miniclip.kernels import activation, attention, cycles, layer_norm, linear, offline
from miniclip.kernels.cycles import grid, sass, threads

def new(*shape):
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")

def attend(T, causal=False):
    attention.attention(*new(3, 2, T, 3, 64).unbind(0), causal=causal, version=4)

launches = {
    "attention 50": lambda: attend(50),
    "attention 77": lambda: attend(77, causal=True),
    "attention 197": lambda: attend(197),
    "attention 257": lambda: attend(257),
    "layer norm": lambda: layer_norm.layer_norm(new(7, 768), new(768), new(768), eps=1e-5, version=2),
    "quick gelu": lambda: activation.bias_activation(new(6, 1024), new(1024), "quick_gelu"),
    "linear": lambda: linear.linear(new(1100, 128), new(512, 128), new(512), "quick_gelu"),
}
for name, launch in launches.items():
    with offline.compiling(90) as kernels:
        launch()
    (kernel,) = kernels
    x, y, z = kernel.grid
    constants = threads.constants(open(kernel.files[".ptx"]).read(), kernel.arguments, kernel.grid)
    ways = threads.follow(kernel.code, kernel.warps, constants, [(n, 0, 0) for n in range(x)])
    sizes = Counter()
    for way in ways:
        for step in way:
            opcode = kernel.code.instructions[step.n].name
            sizes["loaded" if opcode.startswith("LDG") else "stored"] += step.size
    command = [sass.NVDISASM, "--print-code", "--emit-json", kernel.files[".cubin"]]
    listing = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    code = kernel.code
    estimate = cycles.estimate(kernel)
    print(json.dumps({
        "name": name,
        "instructions": kernel.instructions,
        "ours": [[i.opcode, ",".join(i.operands)] for i in code.instructions],
        "theirs": [[i["opcode"], i["operands"] if "operands" in i else ""] for i in listing[1][0]["sass-instructions"]],
        "loops": code.loops,
        "spins": code.spins,
        "blocks": len(code.blocks),
        "trips": [[sum(step.n == loop.branch for step in way) for loop in code.loops] for way in ways],
        "sizes": sizes,
        "issued": estimate.issued,
        "cycles": estimate.cycles,
        "traffic": estimate.traffic,
        "steps": [len(way) for way in ways],
        "warps": kernel.warps,
        "times": sum(i.wait != () or i.write is not None for i in code.instructions),
        "stalls": [i.stall for i in code.instructions],
    }))
"""


@pytest.fixture(scope="module")
def facts():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", FACTS], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return {fact["name"]: fact for fact in map(json.loads, done.stdout.splitlines())}


def test_instructions_are_those_of_nvdisasm(facts):
    """Its JSON has opcodes and operands, too, without the encodings, and in another order."""
    for name, fact in facts.items():
        theirs = fact["theirs"][: fact["instructions"]]
        assert len(fact["ours"]) == fact["instructions"] > 100, name
        for ours, other in zip(fact["ours"], theirs):
            assert ours[0] == other[0], name
            assert sorted(NUMBERED.findall(ours[1])) == sorted(NUMBERED.findall(other[1])), name
        assert all(opcode in ("BRA", "NOP") for opcode, _ in fact["theirs"][fact["instructions"] :]), name


def test_stalls_and_scoreboards_are_read(facts):
    for name, fact in facts.items():
        assert min(fact["stalls"]) >= 0 and max(fact["stalls"]) <= 15, name
        assert fact["times"] > 0.1 * fact["instructions"], name
        assert fact["blocks"] >= 1 + len(fact["loops"]), name


def attention_bytes(T, tiles):
    """What 2 x 3 heads of 64 numbers load and store; k and v are loaded by each tile of queries."""
    return 6 * 128 * (T + 2 * T * tiles), 6 * 128 * T


@pytest.mark.parametrize(
    "name, loaded, stored",
    (
        ("attention 50", *attention_bytes(50, 1)),
        ("attention 197", *attention_bytes(197, 2)),
        ("layer norm", 7 * 3 * 1536, 7 * 1536),
        ("quick gelu", 6 * 2048 + 16 * 2 * 128, 6 * 2048),  # the bias by two warps of 16 programs
    ),
)
def test_programs_load_and_store_the_bytes_of_their_tensors(facts, name, loaded, stored):
    """Every thread's masks and addresses are right: what is masked is not counted."""
    sizes = facts[name]["sizes"]
    assert (sizes["loaded"], sizes["stored"]) == (loaded, stored)


def test_programs_take_the_way_that_their_numbers_lead_to(facts):
    """At T = 197 three full tiles of keys; causal at T = 77 none for the first queries."""
    assert set(map(tuple, facts["attention 197"]["trips"])) == {(3,)}
    assert facts["attention 50"]["loops"] == []
    causal = facts["attention 77"]["steps"]
    assert causal[0::2] == causal[:1] * 6 and causal[1::2] == causal[1:2] * 6 and causal[0] != causal[1]


def test_a_loop_that_asks_a_barrier_is_no_loop(facts):
    assert len(facts["linear"]["spins"]) == 1
    trips = [way[-1] for way in facts["linear"]["trips"]]
    assert sum(trips) == 20 * 2  # tiles of 256 x 128, and two steps of 64 for each


def test_estimates_issue_what_programs_execute(facts):
    for name in ("attention 50", "layer norm", "linear"):
        fact = facts[name]
        assert fact["issued"] == pytest.approx(max(fact["steps"]) * fact["warps"], rel=0.01), name
        assert fact["cycles"] > 0


def test_a_branch_that_depends_on_memory_cannot_be_followed():
    row = "        /*{0:04x}*/ {1} ; /* 0x{2:016x} */\n /* 0x{3:016x} */\n"
    text = '\t.section\t.text.f,"ax"\n' + "".join(
        row.format(16 * n, line, 0, 0x000FC00000000000)
        for n, line in enumerate(
            (
                "LDG.E R2, desc[UR4][R4.64]",
                "ISETP.GT.AND P0, PT, R2, 0x1, PT",
                "@P0 BRA `(.L_x_0)",
                "MOV R1, RZ",
            )
        )
    )
    text += ".L_x_0:\n" + row.format(64, "EXIT", 0, 0x000FC00000000000)
    code = sass.parse(text)
    assert [instruction.target for instruction in code.instructions] == [None, None, 4, None, None]
    with pytest.raises(InputError, match="the branch at 0x20 depends on what is loaded"):
        threads.follow(code, 4, {}, [(0, 0, 0)])


def test_two_kernels_in_one_file_are_refused():
    with pytest.raises(InputError, match="the machine code has 2 kernels, expected one"):
        sass.parse('\t.section\t.text.f,"ax"\n\t.section\t.text.g,"ax"\n')


def test_arguments_are_where_the_machine_code_looks_for_them():
    """A description of the copy engine is aligned to 64 bytes in memory, not within the arguments."""
    ptx = """
    .visible .entry f(
        .param .align 64 .b8 f_param_0[128],
        .param .u32 f_param_1,
        .param .u64 .ptr .global .align 1 f_param_2
    )
    .reqntid 128
    {
    """
    words = threads.constants(ptx, (None, 7, 1 << 40), (5, 1, 1))
    assert words == {0xC: 5, 0x10: 1, 0x14: 1, 0x2C0: 7, 0x2C8: 0, 0x2CC: 256}


def test_the_readme_has_the_table():
    """Its form only: the figures are written by `python -m miniclip.kernels.cycles --write`."""
    text = Path(README).read_text(encoding="utf-8")
    table = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert "\n".join(table[:2]) == HEADER.strip()
    columns = HEADER.splitlines()[0].count("|")
    assert len(table) > 20
    assert all(line.count("|") == columns for line in table)
    assert "nobody has measured them" in text.partition(BEGIN)[0]
