# Every target sets up .venv/ by itself; all that is needed is Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A test file at a time on every core, at most four: each loads torch anew. In the order of folders, which ends with many
# short files: xdist's own ends with the files of few tests, which are the longest ones.
PARALLEL := --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
# Each of them on one core: threads that wait for each other on a busy core take the time of many.
ALONE := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 POLARS_MAX_THREADS=1
QUICK := tests/data tests/ensemble/score/test_evaluation.py tests/ensemble/score/test_scores.py tests/ensemble/score/test_intervals.py \
	tests/ensemble/submit tests/trees/forest

.PHONY: demo test test-quick test-slow coverage lint check docs bench clean

demo: .venv/installed
	$(BIN)/terrablend demo

test: .venv/ready
	$(ALONE) $(BIN)/pytest $(PARALLEL)

# Under a minute: the rooms that need no torch, before a commit.
test-quick: .venv/ready
	$(ALONE) $(BIN)/pytest --quiet $(PARALLEL) -m "not slow and not real" $(QUICK)

# What is slow and rare, before a release.
test-slow: .venv/ready
	$(BIN)/pytest -m slow

coverage: .venv/ready
	$(ALONE) $(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# The pages of docs/ as a site, in site/; a link that leads nowhere is an error.
docs: .venv/installed
	$(INSTALL) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: .venv/ready
	$(BIN)/python benchmarks/decisions.py
	$(BIN)/python benchmarks/ensemble_memory.py --megapixels 40
	$(BIN)/python benchmarks/pixel_table.py builder context scaling big
	$(BIN)/python benchmarks/tree_prediction.py
	$(BIN)/python benchmarks/cnn_prediction.py
	$(BIN)/python benchmarks/tree_rows.py
	$(BIN)/python benchmarks/tree_gpu.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, got $$($(PYTHON) --version). Run: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

# What the product needs and no more.
.venv/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable .
	touch $@

.venv/ready: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[dev]'
	touch .venv/installed $@

clean:
	rm -rf .venv site build *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache
