"""Tests of kernels once more, in the emulator: what is compiled for Hopper and for Ampere computes what it should.

Among them are bfloat16, float32 by three products of tf32, TMA and wgmma, with results that arrive as late as they may.
The error may be at most twice torch's, as everywhere. Triton compiles unless it interprets, and that is decided when it
is imported: so each runs in a process of its own.
"""

import os
import subprocess
import sys

import pytest
from budget import COMPILED
from checkout import ROOT

pytestmark = pytest.mark.skipif(COMPILED, reason="it would start itself")
KERNELS, ATTENTION, MEMORY = (f"tests/kernels/test_{name}.py" for name in ("kernels", "attention", "memory"))
EXAMPLES = {
    90: [
        "tests/kernels/emulator/test_driver.py",
        f"{KERNELS}::test_every_version_of_every_kernel",
        f"{KERNELS}::test_linear_with_the_tiles_that_ship",
        f"{KERNELS}::test_patch_embed_normalises_bytes_as_preprocessing_does",
        f"{ATTENTION}::test_attention_at_the_lengths_of_large_pictures",
        f"{ATTENTION}::test_attention_of_one_query_after_many_keys",
        f"{MEMORY}::test_results_are_written_whole_and_nothing_beside_them",
    ],
    80: [
        f"{KERNELS}::test_every_version_of_every_kernel",
        f"{ATTENTION}::test_attention_at_the_lengths_of_large_pictures",
    ],
}
SLOW = [KERNELS, ATTENTION, MEMORY, "tests/kernels/test_first_steps.py"]


def emulate(capability, tests):
    """Run tests in the emulator; returns the last line that pytest prints."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["MINICLIP_EMULATE"] = str(capability)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("capability", [90, pytest.param(80, marks=pytest.mark.slow)])
def test_kernels_are_right_when_they_are_emulated(capability):
    passed = int(emulate(capability, EXAMPLES[capability]).split()[0])
    assert passed > 40


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_everything_about_kernels_is_right_when_it_is_emulated(capability):
    emulate(capability, SLOW)
