# Two commands do all set-up: `make demo` (the core package alone) and `make test` (everything the tests need).

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint format figures clean

demo: .venv/core
	$(BIN)/miniclip classify weights/example.png --labels "a red heart" "a red circle" "a blue heart" "a pink star"

test: .venv/test
	$(BIN)/python -m pytest

lint: .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

figures: .venv/figures
	$(BIN)/python tutorials/readme_picture.py

clean:
	rm -rf .venv build dist *.egg-info

# Each file says that what it is named after is installed; a changed pyproject.toml or constraints.txt installs again.
.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/test .venv/lint: .venv/%: .venv/core
	$(INSTALL) --editable ".[$*]"
	touch $@

.venv/figures: .venv/core
	$(INSTALL) --editable ".[tutorials]"
	touch $@
