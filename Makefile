# make            this list
# Needs: make, a C++17 compiler, Python >= 3.11 with its headers and venv. Everything else goes into .venv.

PYTHON ?= python3
VENV   ?= .venv
# torch (extra gpu) is only for `test` and what follows it; PyPI's build for x86-64 Linux is several GB.
RUN_EXTRAS  ?= zarr,wsi,tiff,viewer,mount,bench
TEST_EXTRAS ?= zarr,wsi,tiff,viewer,mount,bench,gpu,dev
ARGS   ?=

BIN     := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt README.md LICENSE constraints.txt \
           $(shell find codecs/dlpr dlpr_wsi -type f -not -name '*.pyc' -not -name '*.so')

NATIVE  := $(shell find codecs/dlpr/native -name '*.hpp' -o -name '*.cpp' -o -name '*.inl')

.PHONY: help demo test lint format types pytest check-full asan check-zarr2 check-paper paper-env bench results venv clean
help:
	@echo "make demo        convert examples/CMU-1-Small-Region.svs at tau 0, 1, 3; verify; compare with JPEG XL"
	@echo "make test        lint, mypy, pytest: what CI runs"
	@echo "make lint|types  ruff, clang-format | mypy alone"
	@echo "make format      what lint asks for, done"
	@echo "make check-full  test, and the slow checks; DLPR_CASES=N: that many generated inputs (default 5000)"
	@echo "make check-zarr2 the wheel in a fresh environment with zarr 2.18"
	@echo "make check-paper the paper's architecture on CompressAI, in an environment of its own (5.5 GB: make paper-env)"
	@echo "make asan        the native code under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make bench       ratio and speed beside other codecs (ARGS=--json)"
	@echo "make results     docs/results: every codec on the sets below DATA, tables and plots (an hour)"
	@echo "make venv        .venv with everything for development"

demo: $(VENV)/.run
	$(BIN)/python examples/demo.py $(ARGS)

bench: $(VENV)/.run
	$(BIN)/python -m dlpr.bench $(ARGS)

# DATA holds dev/ (one sub-folder for each source) and kodak/. The sources named have no relative in training.
DATA ?= ../shared/data
results: $(VENV)/.test
	$(BIN)/dlpr-eval --set histology=$(DATA)/dev --set kodak=$(DATA)/kodak --out docs/results \
	  --unseen deepliif kather5000 mitkovetta mopadi skimage_ihc $(ARGS)

test: lint types pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run --Werror $(NATIVE)
	@awk 'length > 120 { print FILENAME ":" FNR ": line above 120 columns"; bad = 1 } END { exit bad }' $(NATIVE)

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

types: $(VENV)/.test
	$(BIN)/mypy

# Bare pytest: `python -m pytest` would mix this tree with the installed wheel.
pytest: $(VENV)/.test
	$(BIN)/pytest -m "not full" $(ARGS)

# DLPR_CASES in the environment: how many generated inputs, see docs/contributing.md.
export DLPR_CASES ?= 5000
check-full: test asan check-zarr2 check-paper
	$(BIN)/pytest -m full $(ARGS)

# The wheel beside zarr 2.18, in an environment of its own.
check-zarr2: $(VENV)/.test
	rm -rf build/zarr2 && $(PYTHON) -m venv build/zarr2/venv
	$(BIN)/pip wheel -q --no-deps --no-build-isolation -w build/zarr2 .
	build/zarr2/venv/bin/pip install -q "zarr==2.18.7" "numcodecs<0.16" pytest build/zarr2/*.whl
	cd build/zarr2 && for example in zarr_format2 numcodecs_only; do venv/bin/python ../../examples/$$example.py || exit 1; done
	build/zarr2/venv/bin/pytest tests/plugins/test_numcodecs.py

# CompressAI wants numpy < 2, and torchvision that fits its torch: an environment of its own (5.5 GB).
PAPER := build/paper/venv
paper-env: $(PAPER)/.done
$(PAPER)/.done: $(VENV)/.test
	rm -rf build/paper && $(PYTHON) -m venv $(PAPER)
	$(PAPER)/bin/pip install -q "torch==2.14.1" "torchvision==0.29.1" "compressai==1.2.8" "numpy<2" pytest
	$(BIN)/pip wheel -q --no-deps --no-build-isolation -w build/paper .
	$(PAPER)/bin/pip install -q build/paper/*.whl
	@touch $@

check-paper: $(PAPER)/.done
	$(PAPER)/bin/python -m pytest tests/dlpr/paper $(ARGS)

asan: $(VENV)/.test
	$(BIN)/cmake -S . -B build/asan -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -DDLPR_SANITIZE=ON -DCMAKE_CXX_FLAGS=-D_GLIBCXX_ASSERTIONS
	$(BIN)/cmake --build build/asan
	$(BIN)/python tests/asan/fuzz.py build/asan

venv: $(VENV)/.test

# The package is installed as users install it, and again when a source changed.
$(VENV)/.run: $(SOURCES) | $(VENV)/.tools
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation ".[$(RUN_EXTRAS)]"
	@touch $@

$(VENV)/.test: $(SOURCES) | $(VENV)/.tools
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation ".[$(TEST_EXTRAS)]"
	@touch $@ $(VENV)/.run

$(VENV)/.tools: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: Python 3.11 or later is needed (PYTHON=python3.12 make ...)" >&2; exit 1; }
	@$(PYTHON) -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || \
	  { echo "make: the headers of $(PYTHON) are missing (Debian, Ubuntu: apt install python3-dev)" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo "make: no C++ compiler found (Debian, Ubuntu: apt install g++)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "make: $(PYTHON) -m venv failed (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(BIN)/pip install -q -c constraints.txt scikit-build-core nanobind cmake ninja
	@touch $@

clean:
	rm -rf $(VENV) build dist demo-out
