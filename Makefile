# Needs make and a Python >= 3.11, nothing else: everything lives in .venv, pinned by hash in requirements/.
# `make PYTHON=python3.13 test` picks the interpreter of a new .venv; `make clean` first to change it.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock"
export UV_SYSTEM_CERTS ?= 1# trust whom the machine trusts, as pip may have been told to
TYPED := $(wildcard src adapters tests examples benchmarks)

.PHONY: help demo test check autobahn bench docs lock format clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.run ## start the demo (ARGS="--port 8000")
	@$(BIN)/wsadapter demo $(ARGS)

test: .venv/.dev ## run the tests, and measure what they cover (ARGS="-k close")
	$(BIN)/coverage erase && $(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report $(if $(ARGS),--fail-under=0)

check: .venv/.dev ## formatting, lint and types
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/pyright

autobahn: .venv/.dev ## the Autobahn test suite (needs a Python 2.7; ARGS="--full-deflate")
	$(BIN)/python -m tests.autobahn $(ARGS)

bench: .venv/.bench ## measure beside the peers (ARGS="--quick")
	$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/.dev ## build the documentation in docs/_build/html
	$(BIN)/sphinx-build -n -W --keep-going -q -b html docs docs/_build/html

format: .venv/.dev ## rewrite the code as `check` wants it
	$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

lock: .venv/.uv ## resolve every dependency again and write requirements/
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) pyproject.toml -o requirements/oldest.txt --resolution lowest-direct
	$(COMPILE) pyproject.toml -o requirements/dev.txt --group dev -c requirements/run.txt
	$(COMPILE) pyproject.toml -o requirements/bench.txt --group bench -c requirements/dev.txt
	$(COMPILE) --group build -o requirements/build.txt
	$(COMPILE) --group uv -o requirements/uv.txt

clean: ## remove the environment and everything built
	rm -rf .venv .cache build dist docs/_build .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# --- The environment: each stamp says what has been installed -------------------------------------------------------------

.venv/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'wsadapter needs Python 3.11 or newer and `$(PYTHON)` is not: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.run: .venv/.uv requirements/run.txt requirements/build.txt pyproject.toml
	$(INSTALL) --require-hashes -r requirements/run.txt
	$(INSTALL) --no-deps --build-constraints requirements/build.txt --editable .
	@touch $@

.venv/.dev: .venv/.run requirements/dev.txt
	$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

.venv/.bench: .venv/.dev requirements/bench.txt
	$(INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@
