# The project's commands. `make help` lists them; `make run` is the first to try.
#
# One virtual environment, .venv, serves all but test-oldest and test-flyte: flyte pins
# flyteidl2 and brings 180 MB, which the other tests shall not depend on. The files
# .venv/.base, .test and .dev say how much of it is installed, so that a second run
# installs nothing.

PYTHON ?= python3
OLDEST_PYTHON ?= $(PYTHON)
ARGS ?=
# A process for each core; a file's tests stay together, with what they share.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile

VENV := .venv
OLDEST := .venv-oldest
FLYTE := .venv-flyte
BIN := $(VENV)/bin
# Twice quiet: errors only. Pip also warns of what a machine's own settings name.
PIP_INSTALL := -m pip install -qq --disable-pip-version-check
# Changes of dependencies, entry points or the package's place need a new install.
INSTALLED_FROM := pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

define make_venv
@$(2) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
@echo "==> Making $(1) with $$($(2) --version)"
@$(2) -m venv --clear $(1)
@touch $@
endef

.PHONY: run
run: $(VENV)/.base ## Run the first example (installs the library on first use)
	@$(BIN)/python examples/01_batch_job.py $(ARGS)

.PHONY: test
test: $(VENV)/.test ## Run the tests; ARGS="-k claim -x" goes to pytest
	@echo "==> Tests"
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style, spelling and the import contract
	@echo "==> Lint"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || \
	  { $(BIN)/ruff format --check .; echo "Run: make format"; exit 1; }
	@$(BIN)/codespell
	@$(BIN)/lint-imports --no-cache >.venv/lint-imports.log 2>&1 || \
	  { cat .venv/lint-imports.log; exit 1; }
	@echo "Lint: clean"

# Node comes from PyPI with pyright[nodejs], and pyright's own code is in its wheel: the
# variable keeps it from asking for a newer one, so that nothing is fetched here.
.PHONY: types
types: $(VENV)/.dev ## Check types with mypy (everything) and pyright (public API)
	@echo "==> Types"
	@$(BIN)/mypy
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: check
check: lint types test ## Everything: lint, types, tests

.PHONY: format
format: $(VENV)/.dev ## Format the code and apply the safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: coverage
coverage: $(VENV)/.test ## Run the tests and say which branches they missed
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

.PHONY: bench
bench: $(VENV)/.base ## Measure the engine beside its floor; ARGS="--n 2000"
	@$(BIN)/python -m benchmarks.throughput $(ARGS)

.PHONY: test-oldest
test-oldest: $(OLDEST)/.test ## Run the tests with the oldest dependencies allowed
	@echo "==> Tests with the oldest dependencies"
	@$(OLDEST)/bin/python -m pytest $(PARALLEL) $(ARGS)

.PHONY: test-flyte
test-flyte: $(FLYTE)/.test ## Run the tests that need the real flyte package
	@echo "==> Tests with the flyte package and its plugins"
	@$(FLYTE)/bin/python -m pytest tests/flyte/install $(ARGS)

.PHONY: clean
clean: ## Remove the environments, caches and build results
	@rm -rf $(VENV) $(OLDEST) $(FLYTE) build dist htmlcov .coverage .coverage.* .hypothesis \
	  .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

$(VENV)/.made:
	$(call make_venv,$(VENV),$(PYTHON))

$(VENV)/.base: $(INSTALLED_FROM) | $(VENV)/.made
	@echo "==> Installing the library (about a minute, only this once)"
	@$(BIN)/python $(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	@echo "==> Installing what the tests need"
	@$(BIN)/python $(PIP_INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@echo "==> Installing linters and type checkers"
	@$(BIN)/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@

$(OLDEST)/.made:
	$(call make_venv,$(OLDEST),$(OLDEST_PYTHON))

$(OLDEST)/.test: $(INSTALLED_FROM) tests/constraints-oldest.txt | $(OLDEST)/.made
	@echo "==> Installing the oldest dependencies"
	@$(OLDEST)/bin/python $(PIP_INSTALL) --constraint tests/constraints-oldest.txt \
	  --editable '.[test]'
	@touch $@

$(FLYTE)/.made:
	$(call make_venv,$(FLYTE),$(PYTHON))

# The plugins' own requirements are not followed: one wants pyspark (400 MB, and Java),
# of which nothing is called. What they do import stands in the file.
$(FLYTE)/.test: $(INSTALLED_FROM) tests/flyte/requirements.txt \
  tests/flyte/plugins.txt | $(FLYTE)/.made
	@echo "==> Installing flyte, its plugins and their vendors' clients"
	@$(FLYTE)/bin/python $(PIP_INSTALL) --editable '.[flyte,test]' \
	  --requirement tests/flyte/requirements.txt
	@$(FLYTE)/bin/python $(PIP_INSTALL) --no-deps --requirement tests/flyte/plugins.txt
	@touch $@
