# `make demo` and `make test` set up all they need on a fresh machine. Every target can be interrupted and repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# At most four processes, one per core. The tests of one file share fixtures, so they stay in one process.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# Settings that make an x86 processor with AVX-512, AMX or bfloat16 units compute as one with AVX2 only: for torch's own
# kernels, oneDNN (which also decides our use of bfloat16), MKL, OpenBLAS and numpy. onnxruntime has no such setting.
OLDER := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell \
	NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR"

# Tests whose results a processor can change. Left out of their folders: those that decode files, and those of how a run
# is interrupted, resumed and reported.
NUMERICAL := $(addprefix tests/,audio augment backends diarization encoder export features losses metrics \
	models system/importers training verification test_devices.py test_exercise.py) \
	$(addprefix --ignore=tests/,audio/decoding diarization/test_commands.py diarization/test_diarization_page.py \
	diarization/test_files.py diarization/test_transcripts.py $(addprefix system/importers/test_,checkpoint.py \
	import_command.py import_writes.py sources.py wespeaker_settings.py) $(addprefix training/test_,bad_input.py \
	distillation.py distributed.py failures.py fine_tuning.py hooks.py minutes.py packed_corpora.py results.py \
	resuming.py unlabeled.py))

.PHONY: help demo test test-older test-slow test-all coverage lint format docs build notebook starter-onnx clean

help:  ## list the targets (default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo-installed  ## train and evaluate a system on synthetic voices; report in demo/system/report
	$(BIN)/xvectors demo -o demo

test: lint  ## lint, types, import contracts and the fast tests
	$(PYTEST)

test-older: $(VENV)/.test-installed  ## fast tests of numbers, as on an x86 processor with AVX2 only
	$(OLDER) $(PYTEST) $(NUMERICAL)

test-slow: $(VENV)/.test-installed  ## tests of more than about 10 seconds each, and those beside other toolkits
	$(PYTEST) --no-loadscope-reorder -m "slow or peers"

test-all: lint  ## lint and all tests, the slow ones included
	$(PYTEST) -m "slow or peers or not slow"

coverage: $(VENV)/.test-installed  ## share of the source lines that the fast tests run; details in build/coverage
	$(PYTEST) --cov --cov-report=term --cov-report=html

lint: $(VENV)/.test-installed  ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test-installed  ## format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs-installed  ## build and check the documentation site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

build: $(VENV)/.test-installed  ## source distribution and wheel in dist
	$(BIN)/python -m build --outdir dist

notebook: $(VENV)/.test-installed  ## run examples/lab.ipynb and keep its outputs
	$(BIN)/python tools/run_notebook.py

starter-onnx: $(VENV)/.test-installed  ## export the starter system again, after a change of features or export
	$(BIN)/xvectors export src/xvectors/system/starter -o src/xvectors/system/starter/model.onnx

clean:  ## remove the environment, the demo and everything built
	rm -rf $(VENV) demo build dist src/*.egg-info

# A stamp file is written after its install has succeeded, so an interrupted install is repeated.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[synth]'
	touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[synth,dev]'
	touch $@ $(VENV)/.demo-installed

$(VENV)/.docs-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[docs]'
	touch $@
