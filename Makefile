# Each target makes the virtual environment .venv first when there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help venv demo test test-engines lint bench

help:
	@echo "make demo   train a small OutfitGAN, export, build, serve with tritonserver, and draw one outfit (CPU)"
	@echo "make test   run the tests"
	@echo "make test-engines  build TensorRT engines of every preset's graphs, which takes half an hour"
	@echo "make lint   ruff and mypy"
	@echo "make bench  latency and parity of every hop at the default width"
	@echo "make venv   only make the virtual environment $(VENV)"

venv: $(VENV)/.made

$(VENV)/.made: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 11) <= v <= (3, 12) else "Python 3.11 or 3.12 is needed, not %d.%d: make venv PYTHON=python3.11" % v)'
	@echo "Making $(VENV) with everything in pyproject.toml's extra [dev] ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $@

demo: venv
	@echo "The whole chain once: train, export, build, assemble, serve, generate."
	$(BIN)/outfitgan demo

test: venv
	@echo "Running the tests."
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder --max-worker-restart 0

test-engines: venv
	@echo "Building TensorRT engines of every preset's graphs."
	$(BIN)/pytest -m presets tests/bench/test_rtx_plans.py

lint: venv
	@echo "Checking style and types."
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv
	@echo "Measuring latency and parity of every hop at the default width."
	$(BIN)/python bench/run.py
