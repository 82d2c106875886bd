# Each target sets up all it needs in .venv by itself; a second run finds it there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# what is installed, one upon the other: torch; what the tests and the demo need; what formats, lints and checks types
TORCH := $(VENV)/.torch
TESTS := $(VENV)/.tests
READY := $(VENV)/.ready
# tests of C++ kernels, which run with clang too
KERNELS := $(addprefix tests/test_, battery.py cpp.py cache.py compilers.py hoist.py language.py launch.py operands.py \
	ops.py precision.py reductions.py skeletons.py special_values.py)

.PHONY: help demo test thorough tiny lint format bench clean
help:
	@echo "make demo    filter photographs, learn digits; pictures and a table (two minutes)"
	@echo "make test    the tests; what CI runs, in five minutes"
	@echo "make thorough  those and the slowest, all kernels optimized; nox runs them on three versions of torch"
	@echo "make tiny    the ten-second test"
	@echo "make lint    format, lint and types, as the hooks and CI check them"
	@echo "make format  apply what can be applied"
	@echo "make bench   training memory as C_out grows; six layers timed"
	@echo "make clean   remove .venv and what was drawn"

# torch first and by its pin, so that nothing else picks its build: see constraints.txt. Modules are compiled when they are
# first imported: of what is installed, most never is.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
$(TORCH): constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	@touch $@

$(TESTS): $(TORCH) pyproject.toml
	$(INSTALL) --editable ".[tests]"
	@touch $@

$(READY): $(TESTS)
	$(INSTALL) --editable ".[dev]"
	@touch $@

demo: $(TESTS)
	$(BIN)/python -m examples.demo

test: $(TESTS)
	$(BIN)/python -m pytest -n 2

thorough: $(READY)
	ANYCONV_TEST_OPTIMIZATION=-O2 $(BIN)/python -m pytest -n 2 -m ""
	ANYCONV_TEST_OPTIMIZATION=-O2 ANYCONV_CXX=ziglang $(BIN)/python -m pytest -n 2 -m "" $(KERNELS)

tiny: $(TESTS)
	$(BIN)/python -m pytest -m tiny

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.cpu --short

clean:
	rm -rf $(VENV) output .pytest_cache .mypy_cache .ruff_cache .hypothesis
