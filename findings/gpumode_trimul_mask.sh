#!/bin/sh
# The tests of GPU MODE's TriMul problem that ask for a mask have none: False arrives as text.
#
# Sources:  github.com/gpu-mode/reference-kernels at f83cb92, problems/bioml/trimul.
# Packages: torch 2.13.0 (CPU), numpy 2.4.6, PyYAML 6.0.4.
# Expect:   7 of the 18 tests in task.yml have "nomask": False, so that their mask has zeros.
# Found:    kernelbot writes each test as a line, "nomask: False", and eval.py reads from it numbers and
#           words. So generate_input gets the text "False", which is true: all masks are ones, in all
#           tests and benchmarks.
# Seen:     tests that ask for a mask: 7, benchmarks: 2; of their masks with a zero: 0
#           nomask is 'False'; with False itself, 47% of the mask is zeros
# Matters:  A submission that ignores the mask passes, and is faster.
# Avoid:    1 and 0 in task.yml.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
git init --quiet "$dir/code"
git -C "$dir/code" fetch --quiet --depth 1 https://github.com/gpu-mode/reference-kernels \
    f83cb92a534cc67fa98d7e9813e7f8238abdb4e0
git -C "$dir/code" checkout --quiet FETCH_HEAD
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 numpy==2.4.6 PyYAML==6.0.4
cd "$dir/code/problems/bioml/trimul"
sed -i "s/device=.cuda./device='cpu'/" reference.py # its inputs are made on a GPU
sed -i 's/device="cuda"/device="cpu"/' reference.py
"$dir/env/bin/python" - <<'PYTHON'
import sys
from pathlib import Path

import yaml

sys.path.insert(0, ".")
import eval as runner
from reference import generate_input

task = yaml.safe_load(Path("task.yml").read_text())
SMALL = {"seqlen": 16, "bs": 1, "dim": 8, "hiddendim": 8}  # the mask does not depend on sizes


def as_run(tests):
    """The arguments that generate_input gets: kernelbot writes lines (build_test_string), eval.py reads them."""
    lines = ["; ".join(f"{name}: {value}" for name, value in test.items()) for test in tests]
    Path("lines.txt").write_text("\n".join(lines) + "\n")
    return [test.args for test in runner.get_test_cases("lines.txt", None)]


asked = {kind: [test for test in task[kind] if not test["nomask"]] for kind in ("tests", "benchmarks")}
given = [arguments for tests in asked.values() for arguments in as_run(tests)]
zeros = sum(bool((generate_input(**{**arguments, **SMALL})[1] == 0).any()) for arguments in given)
print(
    f"tests that ask for a mask: {len(asked['tests'])}, benchmarks: {len(asked['benchmarks'])}; "
    f"of their masks with a zero: {zeros}"
)
assert len(given) == 9 and zeros == 0

mask = generate_input(**{**given[0], **SMALL, "nomask": False})[1]
share = (mask == 0).float().mean().item()
print(f"nomask is {given[0]['nomask']!r}; with False itself, {share:.0%} of the mask is zeros")
assert given[0]["nomask"] == "False" and 0.4 < share < 0.6
PYTHON
