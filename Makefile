# Every target makes the environment first; `make setup` is quick when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup quickstart compare-smoke results test test-slow lint gym nano-base clean

setup: $(STAMP)

# torch comes first and by itself: its pin must be settled before anything else asks for it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "kintsugi needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt hatchling editables
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q --no-build-isolation -e '.[dev]'
	touch $@

# reasoning-gym needs a C compiler for one of its dependencies: where there is none, its tests are skipped.
gym: $(VENV)/.gym
$(VENV)/.gym: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt setuptools
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q --no-build-isolation reasoning-gym && touch $@ \
	  || echo "make: reasoning-gym could not be installed; its tests will be skipped"

quickstart: setup
	$(BIN)/kintsugi train recipes/quickstart.yaml --overwrite

# The whole comparison at toy size: tuning, runs, table and plot. The flow tests run the same file.
compare-smoke: setup
	rm -rf runs/compare-smoke
	$(BIN)/kintsugi compare benchmarks/comparisons/smoke.yaml
	test -s runs/compare-smoke/dag-smoke.md && test -s runs/compare-smoke/dag-smoke.svg

# docs/results.md and its plots, from the rows in benchmarks/results.
results: setup
	$(BIN)/python -m kintsugi.compare.report

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint gym
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow"

test-slow: setup gym
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests

# Rebuilds the shipped base model from nothing (about half an hour on two idle cores): short problems first.
nano-base: setup
	$(BIN)/kintsugi sft recipes/nano_base.yaml 'task.steps=[1,3]' steps=1200 optim.lr=3e-3 sft.batch=44 \
	  output_dir=runs/nano_base_short --overwrite
	$(BIN)/kintsugi sft recipes/nano_base.yaml model=runs/nano_base_short/checkpoints/step-001200 --overwrite
	$(BIN)/python -m kintsugi.models.ship runs/nano_base

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
