# Two commands do everything on a fresh machine: `make demo` and `make test`. Both can be repeated and interrupted.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# One process a core, four at most; the tests of one file stay together, since they share fixtures.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# What makes an x86 processor with AVX-512, AMX or units for bfloat16 compute as one with AVX2 alone: torch's own kernels,
# oneDNN, MKL, OpenBLAS (SciPy's and numpy's products) and numpy's loops; onnxruntime cannot be told. Our choice of bfloat16
# goes by the second of them.
OLDER := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell \
	NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR"

.PHONY: demo test test-older test-slow test-all lint notebook starter-onnx clean

demo: $(VENV)/.demo-installed
	$(BIN)/xvectors demo demo

test: lint
	$(PYTEST)

# The same tests as on an older x86 processor.
test-older: $(VENV)/.test-installed
	$(OLDER) $(PYTEST)

test-slow: $(VENV)/.test-installed
	$(PYTEST) -m slow

# Everything, the slow tests included.
test-all: lint
	$(PYTEST) -m "slow or not slow"

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Runs examples/lab.ipynb again and keeps its outputs.
notebook: $(VENV)/.test-installed
	$(BIN)/python tools/run_notebook.py

# Writes the starter's model.onnx anew, where the features or the export changed and the weights did not.
starter-onnx: $(VENV)/.test-installed
	$(BIN)/xvectors export src/xvectors/starter src/xvectors/starter/model.onnx

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
