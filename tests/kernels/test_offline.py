"""What the kernels that ship are compiled to, for GPUs that are not here: A100 (80), H100 and H200 (90), B200 (100).

Nothing may be in local memory (no stack, no spills), products must use the matrix units, and registers, which decide
how many programs run at once, must not grow unnoticed.
"""

import collections
import json
import os
import subprocess
import sys

import pytest

from miniclip.kernels.table import KERNELS

CAPABILITIES = (80, 90, 100)
DTYPES = ("float32", "float16", "bfloat16")
# The registers that a thread of each kernel may take, rounded up to 8: in 16 bit types, and in float32.
CEILINGS = {
    "attention B=256 T=50 H=12 K=64": ((120, 80, 96), (248, 240, 248)),
    "attention B=256 T=77 H=8 K=64 causal=True": ((216, 128, 128), (256, 248, 240)),
    "attention B=256 T=197 H=12 K=64": ((184, 112, 200), (248, 248, 248)),
    "attention B=256 T=257 H=16 K=64": ((184, 112, 200), (248, 248, 248)),
    "attention B=256 T=577 H=16 K=64": ((184, 112, 200), (248, 248, 248)),
    "attention B=256 T=257 H=12 K=64": ((184, 112, 200), (248, 248, 248)),
    "attention B=256 T=577 H=12 K=64": ((184, 112, 200), (248, 248, 248)),
    "attention B=256 T=16 H=8 K=64 causal=True": ((104, 80, 96), (128, 128, 128)),
    "attention B=256 T=32 H=8 K=64 causal=True": ((104, 80, 96), (248, 248, 248)),
    "attention B=256 T=48 H=8 K=64 causal=True": ((112, 80, 96), (256, 248, 240)),
    "attention B=256 T=64 H=8 K=64 causal=True": ((224, 128, 128), (248, 248, 248)),
    "attention B=256 T=50 H=12 K=64 Tq=1": ((64, 56, 56), (160, 160, 160)),
    "attention B=256 T=197 H=12 K=64 Tq=1": ((80, 64, 96), (160, 160, 152)),
    "attention B=256 T=257 H=12 K=64 Tq=1": ((80, 64, 96), (160, 160, 152)),
    "attention B=256 T=577 H=12 K=64 Tq=1": ((80, 64, 96), (160, 160, 152)),
    "attention B=256 T=16 H=8 K=64 Tq=1 lengths=True": ((56, 56, 64), (96, 88, 88)),
    "attention B=256 T=77 H=8 K=64 Tq=1 lengths=True": ((96, 120, 120), (160, 160, 160)),
    "attention B=256 T=37 H=8 K=32": ((80, 64, 72), (168, 176, 168)),
    "attention B=256 T=257 H=8 K=80": ((232, 176, 176), (248, 248, 248)),
    "attention B=256 T=50 H=8 K=128": ((112, 128, 120), (248, 248, 248)),
    "attention B=256 T=32 H=8 K=32 causal=True": ((80, 72, 80), (168, 216, 200)),
    "attention B=256 T=77 H=8 K=80 causal=True": ((240, 224, 224), (256, 248, 248)),
    "layer_norm rows=50000 D=768": ((72, 64, 72), (80, 80, 80)),
    "layer_norm rows=50000 D=512": ((64, 64, 72), (72, 64, 64)),
    "layer_norm rows=50000 D=1024": ((72, 64, 72), (80, 80, 80)),
    "add_layer_norm rows=50000 D=768": ((72, 72, 72), (96, 88, 80)),
    "add_layer_norm rows=50000 D=512": ((72, 72, 64), (72, 72, 72)),
    "add_layer_norm rows=50000 D=1024": ((72, 72, 72), (96, 88, 80)),
    "quick_gelu rows=12800 N=3072": ((32, 32, 32), (32, 32, 32)),
    "quick_gelu rows=65792 N=4096": ((32, 32, 32), (32, 32, 32)),
    "quick_gelu rows=12800 N=3072 bias=False": ((32, 32, 32), (32, 32, 32)),
    "gelu rows=12800 N=3072": ((40, 48, 40), (40, 48, 48)),
    "gelu rows=65792 N=4096": ((40, 48, 40), (40, 48, 48)),
    "gelu rows=12800 N=3072 bias=False": ((40, 40, 40), (40, 40, 40)),
    "relu rows=12800 N=3072 bias=False": ((32, 32, 32), (32, 32, 32)),
    "sigmoid rows=12800 N=3072 bias=False": ((32, 32, 32), (32, 32, 32)),
    "silu rows=12800 N=3072 bias=False": ((32, 32, 40), (32, 32, 32)),
    "residual_relu rows=802816 N=256": ((32, 40, 48), (48, 48, 40)),
    "linear M=12800 N=3072 K=768": ((128, 256, 144), (104, 96, 56)),
    "linear M=50432 N=3072 K=768": ((128, 256, 144), (104, 96, 56)),
    "linear M=65792 N=4096 K=1024": ((128, 256, 144), (104, 96, 56)),
    "linear M=19712 N=2048 K=512": ((128, 256, 144), (104, 96, 56)),
    "linear M=50 N=3072 K=768": ((64, 48, 40), (104, 96, 56)),
    "linear M=50 N=3072 K=768 activation=quick_gelu": ((64, 48, 40), (104, 96, 56)),
    "linear M=50 N=3072 K=768 activation=gelu": ((64, 48, 40), (96, 88, 64)),
    "linear M=50 N=3072 K=768 activation=relu": ((64, 48, 40), (96, 96, 56)),
    "linear M=50 N=3072 K=768 activation=sigmoid": ((64, 48, 40), (96, 96, 56)),
    "linear M=50 N=3072 K=768 activation=silu": ((64, 48, 40), (104, 96, 64)),
    "linear M=800 N=3072 K=768 activation=quick_gelu": ((96, 72, 64), (104, 96, 56)),
    "linear M=800 N=3072 K=768 activation=gelu": ((96, 80, 72), (96, 88, 64)),
    "linear M=800 N=3072 K=768 activation=relu": ((96, 72, 64), (96, 96, 56)),
    "linear M=800 N=3072 K=768 activation=sigmoid": ((96, 72, 64), (96, 96, 56)),
    "linear M=800 N=3072 K=768 activation=silu": ((96, 72, 64), (104, 96, 64)),
    "linear M=12800 N=3072 K=768 activation=quick_gelu": ((128, 256, 144), (104, 96, 56)),
    "linear M=12800 N=3072 K=768 activation=gelu": ((168, 216, 224), (96, 88, 64)),
    "linear M=12800 N=3072 K=768 activation=relu": ((128, 176, 144), (96, 96, 56)),
    "linear M=12800 N=3072 K=768 activation=sigmoid": ((128, 192, 144), (96, 96, 56)),
    "linear M=12800 N=3072 K=768 activation=silu": ((128, 208, 144), (104, 96, 64)),
    "patch_embed B=256 P=32 D=768 size=224": ((168, 160, 176), (96, 88, 64)),
    "patch_embed B=256 P=16 D=768 size=224": ((168, 160, 176), (96, 88, 64)),
    "patch_embed B=256 P=14 D=1024 size=224": ((32, 32, 32), (32, 32, 32)),
    "patch_embed B=256 P=8 D=128 size=48": ((168, 152, 176), (96, 88, 64)),
    "patch_embed B=256 P=14 D=1024 size=336": ((32, 32, 32), (32, 32, 32)),
    "similarity B=256 N=1000 E=512": ((144, 112, 120), (144, 152, 152)),
    "similarity B=4096 N=4096 E=768": ((128, 104, 104), (152, 152, 152)),
    "packed_attention B=1024 T=13 H=8 K=64": ((144, 96, 96), (256, 256, 256)),
}
# Each generation's own instruction of the matrix units, for 64 rows: fewer rows, and float32, use the first.
MATRIX = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}


@pytest.fixture(scope="module")
def compiled():
    """{(capability, what, dtype): [what its kernels compiled to]}, by a process for each capability.

    Triton compiles unless it interprets, and that is decided when it is imported.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "miniclip.kernels.offline", str(capability)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for capability in CAPABILITIES
    ]  # fmt: skip
    kernels = collections.defaultdict(list)
    for process in running:
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        for kernel in map(json.loads, out.splitlines()):
            kernels[kernel["capability"], kernel["what"], kernel["dtype"]].append(kernel)
    return kernels


def test_the_table_has_every_kernel_that_ships(compiled):
    """It fails with the lines that CEILINGS has too many, or to add."""
    whats = dict.fromkeys(what for _, what, _ in compiled)
    assert not [what for what in CEILINGS if what not in whats]
    missing = [f'"{what}": {needed(compiled, what)},' for what in whats if what not in CEILINGS]
    assert not missing, "\n".join(["add to CEILINGS:", *missing])
    assert set(compiled) == {(c, what, dtype) for c in CAPABILITIES for what in CEILINGS for dtype in DTYPES}


def needed(compiled, what):
    """The registers that a kernel takes, as CEILINGS has them."""

    def most(capability, dtypes):
        return max(-(-k["registers"] // 8) * 8 for dtype in dtypes for k in compiled[capability, what, dtype])

    return tuple(tuple(most(c, dtypes) for c in CAPABILITIES) for dtypes in (DTYPES[1:], DTYPES[:1]))


def multiplies(what):
    """Whether a kernel computes a product itself: its work has FLOPs, and patches of 14 are the library's."""
    kernel = KERNELS[what.split()[0]]
    return kernel.work(**kernel.small[-1])[0] > 0 and "P=14" not in what


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("what", CEILINGS)
def test_compiled_kernels(compiled, what, capability):
    half, single = (ceilings[CAPABILITIES.index(capability)] for ceilings in CEILINGS[what])
    for dtype, ceiling in {"bfloat16": half, "float16": half, "float32": single}.items():
        for kernel in compiled[capability, what, dtype]:
            assert kernel["local"] == 0, f"{dtype} spills to local memory: {kernel}"
            assert kernel["registers"] <= ceiling, f"{dtype} takes {kernel['registers']} registers: {kernel}"
            assert kernel["programs"] >= 1, f"{dtype} fits no multiprocessor: {kernel}"
            if multiplies(what):
                full = dtype != "float32" and not any(few in what for few in ("T=16 ", "T=32 ", "Tq=1"))
                assert kernel["matrix"].get(MATRIX[capability]) if full else kernel["matrix"], f"{dtype}: {kernel}"


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


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_first_steps_compile(capability):
    """They compile in float32, the only dtype that they take."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = FIRST_STEPS.format(capability=capability)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
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
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines() == [f"(3, {E}) (3, {E}) 0" for E in widths], done.stderr
