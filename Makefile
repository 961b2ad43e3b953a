# Every target sets up .venv/ by itself; all that is needed is Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint check bench clean

demo: .venv/ready
	$(BIN)/terrablend demo

test: .venv/ready
	$(BIN)/pytest

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: .venv/ready
	$(BIN)/python benchmarks/decisions.py
	$(BIN)/python benchmarks/ensemble_memory.py --megapixels 40
	$(BIN)/python benchmarks/pixel_table.py builder context scaling big
	$(BIN)/python benchmarks/tree_prediction.py
	$(BIN)/python benchmarks/cnn_prediction.py
	$(BIN)/python benchmarks/tree_rows.py
	$(BIN)/python benchmarks/tree_gpu.py

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, got $$($(PYTHON) --version). Run: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache
