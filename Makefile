# make demo: the whole road on made-up parts. make test: the tests. make check: format, lint, types, import rules.
# make tables: the benchmark tables of the READMEs, from the committed records.
# Each makes .venv first if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS ?= train,openvino,dev
OUT ?= demo

.PHONY: demo test check format tables clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(BIN)/segdec demo --out $(OUT)

test: $(READY)
	$(BIN)/pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml .ci/system .ci/stubs
	$(PYTHON) -m venv $(VENV) || { .ci/system && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	.ci/stubs $(BIN)/python $(VENV)/stubs
	$(BIN)/python -c 'import cv2' || .ci/system
	$(BIN)/python -c 'import cv2'
	touch $@

# Fills the blocks of README.md and benchmarks/README.md from the committed records.
tables: $(READY)
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf $(VENV) $(OUT) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
