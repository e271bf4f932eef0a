# Everything a checkout can do. Needs Python 3.11 or newer and make; the rest is installed into .venv
# from the locks in requirements/, by pip with the configuration it finds (index, cache, proxy).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
# --use-pep517: one distribution has no wheel, and the older way of building it is gone in newer pips.
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet --use-pep517
AUTOGEN_VENV := .venv-autogen

# The tools look at this code; a folder joins as soon as it exists.
SOURCES := $(wildcard hms_bus tests examples benchmarks scripts)

# Arguments for the tool behind a target: make test ARGS='-k topics', make demo ARGS='--help'.
ARGS =

.PHONY: help demo test soak lint types imports docs bench bench-short proto vectors conformance \
        format examples lock venv venv-dev venv-bench clean distclean

help: ## Show this list
	@echo 'usage: make TARGET [ARGS="..."]'
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | \
	  while IFS='|' read -r target text; do printf '  %-13s %s\n' "$$target" "$$text"; done

# --- The two commands of the README ---

demo: $(VENV)/.runtime ## Run a team of agents over the standard library's source
	@$(BIN)/hms-bus demo $(ARGS)

# Processes, because many tests wait for processes and disks of their own; worksteal, because those
# tests are few and long.
test: $(VENV)/.dev ## Run all tests
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

# How long `make soak` goes on.
SECONDS = 600

soak: $(VENV)/.dev ## Kill, stop and pester hubs and buses for SECONDS=600 seconds
	@$(BIN)/python -m scripts.soak --seconds $(SECONDS) $(ARGS)

# --- Checks ---

lint: $(VENV)/.dev ## Check style and format (ruff)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

format: $(VENV)/.dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

types: $(VENV)/.bench ## Check types, strictly (basedpyright)
	$(BIN)/basedpyright $(ARGS)

imports: $(VENV)/.dev ## Check that imports point one way only (import-linter)
	$(BIN)/lint-imports

docs: $(VENV)/.dev ## Build the documentation into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

examples: $(VENV)/.dev ## Run every example and every code block of the documentation
	@$(BIN)/python -m pytest tests/examples $(ARGS)

conformance: $(VENV)/.runtime ## Run the conformance suite on direct:// (URL=... for another)
	@$(BIN)/hms-bus conformance $(or $(URL),direct://) $(ARGS)

# --- Figures ---

bench: $(VENV)/.bench $(AUTOGEN_VENV)/.installed ## Measure us beside our peers (minutes)
	$(BIN)/python -m benchmarks $(ARGS)

bench-short: $(VENV)/.bench $(AUTOGEN_VENV)/.installed ## The same, short: does it run, are ratios sane
	$(BIN)/python -m benchmarks --short $(ARGS)

# --- Generated files ---

proto: $(VENV)/.dev ## Generate the protobuf modules from proto/
	$(BIN)/python scripts/generate_protobuf.py $(ARGS)

vectors: $(VENV)/.dev ## Write spec/vectors/ from the cases in scripts/ (ARGS=--check only compares)
	$(BIN)/python scripts/make_vectors.py $(ARGS)

# dev.txt is solved first; the others may only choose from what it chose.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate $(ARGS)

lock: $(VENV)/.dev ## Solve requirements/*.txt again (ARGS=--upgrade for the newest)
	$(COMPILE) --all-extras --group dev pyproject.toml --output-file requirements/dev.txt
	$(COMPILE) --group build --constraints requirements/dev.txt pyproject.toml \
	  --output-file requirements/runtime.txt
	$(COMPILE) --group bench --constraints requirements/dev.txt --output-file requirements/bench.txt
	$(COMPILE) --group autogen --output-file requirements/autogen.txt

# --- Environments: a stamp per lock, so that a second run installs nothing and a new lock does ---

venv: $(VENV)/.runtime ## Install what the library needs into .venv
venv-dev: $(VENV)/.dev ## ... and what the checks and tests need
venv-bench: $(VENV)/.bench $(AUTOGEN_VENV)/.installed ## ... and the peers of the benchmark

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml hms_bus/__about__.py | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) --require-hashes --requirement $<
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/.runtime
	$(BIN)/python $(PIP_INSTALL) --require-hashes --requirement $<
	@touch $@

$(VENV)/.bench: requirements/bench.txt | $(VENV)/.dev
	$(BIN)/python $(PIP_INSTALL) --require-hashes --requirement $<
	@touch $@

$(AUTOGEN_VENV)/.installed: requirements/autogen.txt | $(AUTOGEN_VENV)/bin/python
	$(AUTOGEN_VENV)/bin/python $(PIP_INSTALL) --require-hashes --requirement $<
	@touch $@

# PYTHON=... chooses the interpreter; otherwise the first of these that is new enough.
%/bin/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$python -m venv $*"; \
	    "$$python" -m venv $* && exit 0; \
	    rm -rf $*; \
	    echo "make: $$python cannot create an environment." >&2; \
	    echo "Next step: install its venv module (Debian, Ubuntu: apt install python3-venv)," >&2; \
	    echo "or name another Python: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "make: no Python 3.11 or newer found (looked for: $(or $(PYTHON),python3, python3.11 to 3.13))." >&2; \
	echo "Next step: install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	exit 1

clean: ## Remove what was built and cached
	rm -rf build dist site .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## ... and the environments
	rm -rf $(VENV) $(AUTOGEN_VENV)
