# Two commands do all set-up: `make demo` (the core package alone) and `make test` (everything the tests need). Each takes
# minutes when it first runs, because it downloads packages.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The oldest Triton that the kernels are compiled with, beside the installed one.
INSTALL_OLDER_TRITON = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	--target .venv/older-triton triton==3.6.0

.PHONY: demo test test-all test-official test-tutorials lint format tutorials docs zoo figures cpu gpu gpu-rehearsal clean

demo: .venv/core
	$(BIN)/miniclip classify weights/example.png --labels "a red heart" "a red circle" "a blue heart" "a pink star"

# Takes about 35 minutes on two cores, and less than 10 GB of memory. A dot is a test; the end says which were skipped, and why.
test: .venv/test
	$(BIN)/python -m pytest -rs -m "not slow"

# Also compiles every kernel with every Triton and for every GPU: 10 to 20 minutes more.
test-all: .venv/test
	$(BIN)/python -m pytest -rs

# Downloads the official weights and pictures, 7 GB, into the cache; then compares outputs with the published ones.
test-official: .venv/test
	$(BIN)/miniclip download all openai/clip-vit-base-patch32 CLIP.png 000000039769.jpg cifar-100-python.tar.gz
	$(BIN)/python -m pytest tests/test_official.py -rs

lint: .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Runs every tutorial as plain Python; then shows how long each took, beside the time that its header states.
test-tutorials: .venv/test
	$(BIN)/python -m pytest tutorials

# Runs every tutorial and writes its page, its pictures, its notebook and the index: commit what changes.
tutorials: .venv/tutorials
	$(BIN)/python tutorials/render.py

# Builds the site of docs/ and the other pages in build/site: open index.html, or for the search run
# python -m http.server -d build/site. Needs neither torch nor a network.
docs: export NO_MKDOCS_2_WARNING := 1
docs: export PATH := $(CURDIR)/$(BIN):$(PATH)
docs: .venv/docs
	$(BIN)/mkdocs build --strict

# Compares every model of OpenCLIP and every dual encoder of transformers with these libraries, on random weights; writes
# docs/zoo.md and weights/open_clip.json.
zoo: .venv/test
	$(BIN)/python tests/zoo.py
	$(BIN)/python tests/zoo_transformers.py

figures: .venv/tutorials
	$(BIN)/python tutorials/readme_picture.py

# Measures CLIP and its peers on this processor, and writes to miniclip/bench/results, docs/cpu.md and README.md. Takes
# half an hour and 12 GB of memory: run nothing else meanwhile.
cpu: .venv/bench
	$(BIN)/miniclip bench cpu
	$(BIN)/miniclip bench report --cpu --write

# Tests and measures the kernels on a machine with a GPU and PyTorch, Triton, transformers, pytest and hypothesis, in 8
# minutes; writes to kernels/bench/results and kernels/README.md. Needs no network, and makes no virtual environment. A
# failed step does not stop the others. With OUT=DIR, each step's results are copied there at once.
gpu:
	@PYTHONPATH=.$(if $(PYTHONPATH),:$(PYTHONPATH)) $(PYTHON) -m miniclip.kernels.bench.steps

# The same steps without a GPU: kernels are compiled for an H100 and not launched, the clock is a fake, records are thrown
# away. Shows how long each step took, beside its limit on a GPU.
gpu-rehearsal: .venv/test
	$(BIN)/python tests/rehearsal.py

clean:
	rm -rf .venv build dist *.egg-info

# Each of these files records that its packages are installed; a change in pyproject.toml or constraints.txt reinstalls.
.venv/core: pyproject.toml constraints.txt
	@echo "Installing miniclip and the packages it needs"
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

# OpenCLIP and timm require torchvision, which would install another torch. The parts that tests and benchmarks use do not need it.
.venv/test: .venv/core
	@echo "Installing what the tests need: torch, transformers, JAX, ... (minutes)"
	$(INSTALL) --editable ".[test]"
	$(INSTALL) --no-deps open_clip_torch timm
	$(INSTALL_OLDER_TRITON)
	touch $@

.venv/lint: .venv/core
	$(INSTALL) --editable ".[lint]"
	touch $@

.venv/docs: .venv/core
	$(INSTALL) --editable ".[docs]"
	touch $@

.venv/bench: .venv/core
	$(INSTALL) --editable ".[bench]"
	$(INSTALL) --no-deps open_clip_torch
	touch $@

.venv/tutorials: .venv/core
	$(INSTALL) --editable ".[tutorials,gpu]"
	touch $@
