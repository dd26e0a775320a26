# Two commands do everything on a fresh machine: `make demo` and `make test`. Both can be repeated and interrupted.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all lint clean

demo: $(VENV)/.demo-installed
	$(BIN)/xvectors demo demo

test: lint
	$(BIN)/python -m pytest

# Everything, the slow tests included.
test-all: lint
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A stamp file is written only after its install succeeded, so an interrupted install is simply run again.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[synth]'
	touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[synth,dev]'
	touch $@ $(VENV)/.demo-installed

clean:
	rm -rf $(VENV) demo build dist src/*.egg-info
