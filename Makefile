# Every target sets up .venv/ by itself; all that is needed is Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A test file at a time on every core, at most four: each loads torch anew.
PARALLEL := --numprocesses=logical --maxprocesses=4 --dist=loadfile
QUICK := tests/data tests/ensemble/score/test_evaluation.py tests/ensemble/score/test_scores.py tests/ensemble/score/test_intervals.py \
	tests/ensemble/submit tests/trees/forest

.PHONY: demo test test-quick test-slow coverage lint check docs bench clean

demo: .venv/installed
	$(BIN)/terrablend demo

test: .venv/ready
	$(BIN)/pytest $(PARALLEL)

# Under a minute: the rooms that need no torch, before a commit.
test-quick: .venv/ready
	$(BIN)/pytest --quiet $(PARALLEL) -m "not slow and not real" $(QUICK)

# What is slow and rare, before a release.
test-slow: .venv/ready
	$(BIN)/pytest -m slow

coverage: .venv/ready
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered

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

# What the product needs and no more.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, got $$($(PYTHON) --version). Run: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/ready: .venv/installed
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv site build *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache
