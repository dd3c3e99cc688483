# Needs Python 3.10 or newer, make and a package index; makes its own .venv.
#
#   make demo            a guided run on a private server
#   make test            the test suite; ARGS='-k pipeline' narrows it
#   make lint types      ruff; mypy --strict and pyright
#   make bench           measurements against plain redis-py
#   make clean           remove what make made

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=
# Test files that run at once; each process has servers of its own. ARGS='-n 0' for a debugger.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -gt 4 ] && echo 4 || echo "$$n")

.DELETE_ON_ERROR:
.PHONY: help demo test lint types bench clean

help:
	@sed -n 's/^#  *make/make/p' Makefile

demo: $(VENV)/installed
	$(BIN)/tenantkv demo $(ARGS)

test: $(VENV)/group-test
	$(BIN)/python -m pytest -q -x -n $(JOBS) --dist loadfile $(ARGS)

lint: $(VENV)/group-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/group-types
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/group-bench
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# A stamp is written last: an interrupted step is done again.
$(VENV)/made: tools/make_venv.py
	@test -n "$(PYTHON)" || { echo "tenantkv needs Python 3.10 or newer; try: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) tools/make_venv.py $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml
	@echo "installing tenantkv with a server into $(VENV)"
	@$(PIP) install --editable '.[embedded,hiredis]'
	@touch $@

# One at a time, also under make -j: they write to the same place.
$(VENV)/group-%: $(VENV)/installed pyproject.toml
	@echo "installing what 'make $*' needs into $(VENV)"
	@$(PIP) install --group $*
	@touch $@
.NOTPARALLEL:
