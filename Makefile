# Each target sets up all it needs in .venv by itself; a second run finds it there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# tests of C++ kernels, which run with clang too
KERNELS := $(addprefix tests/test_, battery.py cpp.py cache.py compilers.py hoist.py language.py launch.py operands.py \
	ops.py precision.py reductions.py skeletons.py special_values.py)

.PHONY: help demo test thorough tiny lint format bench clean
help:
	@echo "make demo    filter photographs, learn digits; pictures and a table (two minutes)"
	@echo "make test    the tests; what CI runs, under a quarter of an hour"
	@echo "make thorough  those and the slowest; nox runs them on three versions of torch"
	@echo "make tiny    the ten-second test"
	@echo "make lint    format, lint and types, as the hooks and CI check them"
	@echo "make format  apply what can be applied"
	@echo "make bench   training memory as C_out grows; six layers timed"
	@echo "make clean   remove .venv and what was drawn"

# torch first and by its pin, so that nothing else picks its build: see constraints.txt
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" -c constraints.txt
	@touch $@

demo: $(READY)
	$(BIN)/python -m examples.demo

test: $(READY)
	$(BIN)/python -m pytest -n 2

thorough: $(READY)
	$(BIN)/python -m pytest -n 2 -m ""
	ANYCONV_CXX=ziglang $(BIN)/python -m pytest -n 2 -m "" $(KERNELS)

tiny: $(READY)
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
