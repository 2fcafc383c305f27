# Two commands: `make run` does the main job on embedded data, `make test` passes the tests. Both make .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup run test lint slow
help:  ## Show this help.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.installed  ## Make .venv with llmnas (editable) in it.

run: setup  ## The main job on embedded data: two minutes, no key, no GPU.
	$(BIN)/llmnas run --budget 2min --target gpu

test: setup  ## The default test suite.
	$(BIN)/python -m pytest -q

slow: setup  ## The slow tests too: a real language model, many kills.
	$(BIN)/python -m pytest -q -m "slow or not slow"

lint: setup  ## ruff, mypy --strict, import contracts.
	$(BIN)/ruff check llmnas tests
	$(BIN)/mypy
	$(BIN)/lint-imports
