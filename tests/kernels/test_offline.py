"""What the kernels that ship are compiled to, for GPUs that are not here: see `offline.TARGETS`.

Nothing may be in local memory (no stack, no spills), products must use the matrix units, and registers, which decide
how many programs run at once, must not grow unnoticed.
"""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from compiled_kernels import CEILINGS, MAIN, QUICK, SLOW, environment

from miniclip.errors import InputError
from miniclip.kernels import cycles, offline
from miniclip.kernels.cycles import __main__ as cycles_program
from miniclip.kernels.emulator import __main__ as emulator_program
from miniclip.kernels.table import KERNELS

# Each generation's own instruction of the matrix units, for 64 rows: fewer rows, and float32, use the first.
MATRIX = {
    **dict.fromkeys((80, 86, 89, 120), "mma.sync"),
    90: "wgmma.mma_async",
    **dict.fromkeys((100, 103), "tcgen05.mma"),
    **dict.fromkeys(("gfx942", "gfx950"), "v_mfma"),
    "gfx1201": "v_wmma",
}
# Six products of three parts of each float32 do not fit into the registers of an RX 9070, nor do gradients.
WIDE = ("K=80", "K=80 causal=True", "K=128")


def spills(triton, target, what, dtype):
    """Whether a kernel is known to spill."""
    gradients = what.startswith("attention_gradients")
    if (triton, target, dtype == "float32") == ("3.6", 90, False):  # 24 bytes; no CLIP has such heads
        return gradients and what.endswith("K=128 causal=True")
    return (target, dtype) == ("gfx1201", "float32") and (what.endswith(WIDE) or gradients)


def multiplies(what):
    """Whether a kernel computes a product itself: its work has FLOPs, and patches of 14 are the library's."""
    kernel = KERNELS[what.split()[0]]
    return kernel.work(**kernel.small[-1])[0] > 0 and "P=14" not in what


def wrong(triton, target, what, dtype, kernel, ceiling):
    """What is not as it must be with a compiled kernel: yields a line each."""
    if kernel["local"] and not spills(triton, target, what, dtype):
        yield f"spills {kernel['local']} bytes to local memory"
    if kernel["registers"] > ceiling:
        yield f"takes {kernel['registers']} registers, {ceiling} are recorded"
    if kernel["programs"] < 1:
        yield "fits no multiprocessor"
    yield from kernel["warnings"]


def multiplied(target, what, dtype, kernels):
    """Whether the matrix units multiply in one of a launch's kernels, if it multiplies: others quantise, or merge."""
    full = dtype != "float32" and not any(few in what for few in ("T=16 ", "T=32 ", "Tq=1"))
    names = [name for kernel in kernels for name in kernel["matrix"]]
    return not multiplies(what) or any(name.startswith(MATRIX[target]) or not full for name in names)


@pytest.mark.parametrize("job", [*QUICK, *(pytest.param(job, marks=pytest.mark.slow) for job in SLOW)], ids=str)
def test_compiled_kernels(compiled, job):
    ceilings = json.loads(CEILINGS.read_text())[job.triton]
    whats = dict.fromkeys(what for _, what, _ in compiled)
    missing = [what for target, what, _ in compiled if str(target) not in ceilings.get(what, {})]
    here = [what for what, entry in ceilings.items() if any(str(target) in entry for target in job.targets)]
    gone = [] if job.only else [what for what in here if what not in whats]
    assert not missing + gone, "run `python tests/compiled_kernels.py`: ceilings.json is not of these kernels"
    found = [
        f"{what} {dtype}: {complaint}"
        for (target, what, dtype), kernels in compiled.items()
        for kernel in kernels
        for complaint in wrong(job.triton, target, what, dtype, kernel, ceilings[what][str(target)][dtype == "float32"])
    ]
    idle = [case for case, kernels in compiled.items() if not multiplied(*case, kernels)]
    found += [f"{case}: no instruction of the matrix units" for case in idle]
    assert not found, "\n".join(found)


FIRST_STEPS = """
import torch
from miniclip.kernels import first_steps, offline

x, weight, bias, *qkv = (torch.empty(shape, device="meta") for shape in ((50, 768), (768,), (768,), *[(50, 64)] * 3))
for launch in (
    lambda: first_steps.add(weight, bias),
    lambda: first_steps.quick_gelu(weight),
    lambda: first_steps.softmax(x[:, :500]),
    lambda: first_steps.layer_norm(x, weight, bias, eps=1e-5),
    lambda: first_steps.flash_attention(*qkv),
):
    with offline.compiling({capability}) as kernels:
        out = launch()
    print(tuple(out.shape), *((kernel.name, kernel.capability, kernel.local) for kernel in kernels))
"""


@pytest.mark.parametrize("capability", MAIN)
def test_first_steps_compile(capability):
    """They compile in float32, the only dtype that they take."""
    program = FIRST_STEPS.format(capability=capability)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    shapes = {
        "add": (768,), "quick_gelu": (768,), "softmax": (50, 500), "layer_norm": (50, 768), "flash_attention": (50, 64),
    }  # fmt: skip
    assert done.stdout.splitlines() == [
        f"{shape} {(f'{name}_kernel', capability, 0)}" for name, shape in shapes.items()
    ], done.stderr


WHOLE_MODEL = """
import dataclasses, torch
from miniclip.families.clip.presets import PRESETS
from miniclip.kernels import offline, triton_ops as ops
from miniclip.params import tree_map
from miniclip.towers import text

for name in {names}:
    config = PRESETS[name]
    layers = 2 if name.startswith("ViT") else (1, 2, 1, 1)
    visual, words = dataclasses.replace(config.visual, layers=layers), dataclasses.replace(config.text, layers=2)
    config = dataclasses.replace(config, visual=visual, text=words)
    params = tree_map(lambda x: torch.empty(x, dtype=torch.bfloat16, device="meta"), config.shapes())
    images = torch.empty(3, 3, visual.image_size, visual.image_size, dtype=torch.bfloat16, device="meta")
    tokens, end = (torch.empty(shape, dtype=torch.int64, device="meta") for shape in ((3, 77), (3,)))
    with offline.compiling(90) as kernels:
        features = visual.tower.encode_image(ops, images, **params["visual"], config=visual)
        words = text.encode_text(ops, tokens, end, **params["text"], config=words)
        ops.similarity(features, words, params["logit_scale"])
    print(tuple(features.shape), tuple(words.shape), sum(kernel.local for kernel in kernels))
"""
WHOLE_ALIGN = """
import torch
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.kernels import offline, triton_ops as ops
from miniclip.params import tree_map
from miniclip.towers import bert, efficientnet

visual = EfficientNetConfig(289, 346, width_coefficient=2.0, depth_coefficient=1.0)
config = ALIGNConfig(visual, BertConfig(512, 30522, width=768, layers=2, heads=12, mlp_width=3072), embed_dim=640)
params = tree_map(lambda x: torch.empty(x, dtype=torch.bfloat16, device="meta"), config.shapes())
images = torch.empty(3, 3, 289, 289, dtype=torch.bfloat16, device="meta")
tokens, end = (torch.empty(shape, dtype=torch.int64, device="meta") for shape in ((3, 64), (3,)))
with offline.compiling(90) as kernels:
    features = efficientnet.encode_image(ops, images, **params["visual"], config=visual)
    words = bert.encode_text(ops, tokens, end, **params["text"], config=config.text)
print(tuple(features.shape), tuple(words.shape), sum(kernel.local for kernel in kernels))
"""


@pytest.mark.parametrize(
    ("program", "widths"),
    [
        (WHOLE_MODEL.format(names=["ViT-B/32", "ViT-L/14@336px", "RN50x4"]), (512, 768, 640)),
        (WHOLE_ALIGN, (640,)),
    ],
    ids=["CLIP", "ALIGN"],
)
def test_whole_models_compile_for_a_gpu_that_is_not_here(program, widths):
    """Everything that runs on a GPU runs here, except the arithmetic."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert done.stdout.splitlines() == [f"(3, {E}) (3, {E}) 0" for E in widths], done.stderr


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (cycles_program, ["nothing"], "nothing that ships is nothing; there is attention, layer_norm, "),
        (cycles_program, ["layer_norm", "D=3"], "is layer_norm D=3; there is layer_norm rows=50000 D=768; "),
        (offline, ["90", "--only", "attention"], "--only: nothing that ships is attention; there is attention B=256 "),
        (emulator_program, ["77"], "the emulator has compute capabilities 80, 86, 89, 90, not 77"),
        (emulator_program, ["90", "--only", "nothing"], "no kernel's name contains nothing; there are attention, "),
    ],
)
def test_programs_say_what_they_do_not_have(program, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(program, "INTERPRETING", False)
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(SystemExit) as stopped:
        program.main()
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_what_the_model_of_cycles_cannot_follow_is_a_line_too(monkeypatch):
    def estimate(*arguments):
        raise InputError("the branch at 0x10 depends on what is loaded")

    monkeypatch.setattr(cycles, "estimate", estimate)
    launch = SimpleNamespace(instructions=1234, registers=30, programs_per_processor=2)
    line = cycles_program.row("top_k B=1", "version 3", launch, 0)
    assert line == (
        "| top_k B=1 | 3 | 1,234 | 30 | 2 |  |  |  |  | "
        "the model cannot follow it: the branch at 0x10 depends on what is loaded |"
    )
    assert line.count("|") == cycles_program.HEADER.partition("\n")[0].count("|")
