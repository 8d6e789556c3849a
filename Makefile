# Set-up and checks. Needs make and Python 3.11 to 3.14, and nothing else: everything goes into .venv.
#
#   make tune    tune a LightGBM model on a real table and register the best one
#   make test    lint, types, tests
#   make fuzz    property tests on new examples, ROUNDS (20) times over
#   make faults  kill drivers, trials and servers at random moments, thirty rounds of it
#   make versions    the lowest MLflow and Prefect that are allowed, instead of the pinned ones
#
# PYTHON=/path/to/python3.12 picks an interpreter; CPU wheels of torch may need TORCH_INDEX (see .ci/torch).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# pip would compile one file after the other; this takes every core, and leaves out what hardly anybody imports: half of
# all there is. What does not compile is not for this Python.
SELDOM := site-packages/(.*/tests?/|(torch|torchgen|sympy|networkx|databricks|mypy)/)
COMPILED := $(BIN)/python -m compileall -q -q -j 0 -x '$(SELDOM)' $(VENV)/lib || true
# The tests start hundreds of processes, each of which would compile anew what is left out, and our code.
unexport PYTHONDONTWRITEBYTECODE
ROUNDS ?= 20
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

# The one place that says what `make tune` runs.
TUNE := hpo tune lgbm --data sklearn:breast_cancer --target target --trials 30 \
	--workers $(WORKERS) --name breast-cancer --register breast-cancer

.PHONY: help tune test lint types tests fuzz faults versions format venv dev clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

tune: venv
	$(BIN)/$(TUNE)

test: lint types tests

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# On a busy machine a worker may not be up within the three seconds that mypy allows, which ends it with status 2.
types: dev
	$(BIN)/mypy --num-workers $(WORKERS) || { [ $$? -eq 2 ] && $(BIN)/mypy; }

# In the order of their names: files with few but long tests would come last, and one worker wait for the other.
tests: dev
	$(BIN)/python -m pytest -q -m "not faults" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 15

fuzz: dev
	for round in $$(seq $(ROUNDS)); do \
		env -u CI $(BIN)/python -m pytest -q -m "hypothesis and not faults" -n $(WORKERS) --dist loadfile; \
	done

faults: dev
	HPO_FAULTS=30 $(BIN)/python -m pytest -q -s tests/faults

versions: dev
	.ci/versions

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(VENV)/.core
dev: $(VENV)/.dev

$(VENV)/.python:
	@PYTHON="$(PYTHON)" bash .ci/venv $(VENV)
	@touch $@

# pip that a Python brings may be years old; it reads wheels' metadata more slowly or not at all.
$(VENV)/.pip: $(VENV)/.python
	$(PIP) install --quiet --upgrade "pip>=25"
	@touch $@

# Reinstalled only when the requirements change: the install is editable, so code is always live.
$(VENV)/.core: $(VENV)/.pip pyproject.toml constraints.txt
	$(PIP) install --quiet --no-compile --constraint constraints.txt --editable .
	@$(COMPILED)
	@touch $@

# Has all that .core stands for; to install that first would be to resolve most requirements twice.
$(VENV)/.dev: $(VENV)/.pip pyproject.toml constraints.txt .ci/torch
	$(PIP) install --quiet --no-compile --constraint constraints.txt --editable ".[dev,dask]"
	$(BIN)/python .ci/torch constraints.txt
	@$(COMPILED)
	@touch $(VENV)/.core $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
