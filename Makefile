# Everything is installed into .venv; nothing else is changed. To use another Python as well:
# make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
UPGRADE ?= --upgrade

.PHONY: run test extras lint bench setup lock clean help
.DEFAULT_GOAL := help

help: ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(VENV)/.run ## install what the server needs into .venv, if anything changed

run: setup ## serve on port 8000 (ARGS="--port 9000" adds options)
	@exec $(BIN)/posewire serve --log-format text $(ARGS)

# Without compiled modules, each of the servers that tests start would compile them all: a fifth of its start.
unexport PYTHONDONTWRITEBYTECODE

# Tests wait more than they compute: two at a time use less than half of two cores. A file's tests share servers, so they
# run in one process. The files start in the order of their names: those with few but long tests are the first ones.
test: $(VENV)/.dev ## run the tests, three at a time (ARGS="-k batching" adds options)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

extras: $(VENV)/.extras ## install PyTorch, TensorRT-RTX and Ray, for `posewire build`, `batch --ray` and their tests

lint: $(VENV)/.dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev ## run the benchmarks that README quotes (ARGS="serving" runs one)
	$(BIN)/python -m tests.benchmarks $(ARGS)

# One lock file for every Python from 3.11 on
lock: $(VENV)/.dev ## choose versions again, after a change of pyproject.toml (UPGRADE= keeps versions that still fit)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		$(UPGRADE) --extra eval pyproject.toml -o .lock/run.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		$(UPGRADE) -c .lock/run.txt --group dev --extra eval pyproject.toml -o .lock/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
		-c .lock/dev.txt --extra torch --extra cuda --extra rtx --extra ray pyproject.toml -o .lock/extras.txt

clean: ## remove all virtual environments and caches
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Posewire needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "python3-venv is missing; install it with: apt-get install python3-venv" >&2; exit 1; }

# Old environments have python-multipart, whose package `multipart` hides the module of the distribution multipart
$(VENV)/.run: .lock/run.txt pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -m pip uninstall -q -y --disable-pip-version-check python-multipart 2>/dev/null
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r .lock/run.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: .lock/dev.txt $(VENV)/.run | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r .lock/dev.txt
	@touch $@

# Only constraints, without hashes: PyTorch has many builds of a version, and an index may have a smaller one than PyPI
$(VENV)/.extras: .lock/extras.txt $(VENV)/.dev | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c .lock/extras.txt -e '.[torch,rtx,ray]'
	@touch $@
