# Everything runs in .venv, which the first target that needs it makes. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
BY_TWO := -n 2 --dist loadfile
NPM := $(shell command -v npm 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-containers compiled test-compiled bench-compiled lint types imports coverage \
  package check bench docs clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Ahead of what .venv has, by PYTHONPATH: what is compiled is another build, and stale only until it is made again.
COMPILED := build/compiled
SOURCES := $(shell find bus router services sdk -name '*.py' -not -path '*/.*')

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"dspex needs Python 3.11 to 3.13; {sys.executable} is {v.major}.{v.minor}. Name another: make PYTHON=python3.12 ...")'
	@echo "setting up .venv (a minute or two, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[all]' --group dev
	@touch $@

examples/javascript/node_modules/ready: examples/javascript/package.json
	@cd examples/javascript && npm install --silent --no-package-lock --no-audit --no-fund
	@touch $@

setup: .venv/ready $(if $(NPM),examples/javascript/node_modules/ready) ## set up .venv (and the JavaScript client's packages, where npm is)

demo: .venv/ready ## run the research assistant on an embedded server
	@$(BIN)/dspex demo

test: setup ## the default tests, two files at a time: under five minutes on two cores
	$(BIN)/python -m pytest $(BY_TWO)

test-slow: setup ## the longer ones
	$(BIN)/python -m pytest -m "slow and not containers"

test-containers: setup ## the tests that need a container engine
	$(BIN)/python -m pytest -m containers

$(COMPILED)/ready: .venv/ready hatch_build.py $(SOURCES)
	@echo "compiling (a minute or two)"
	@rm -rf $(COMPILED) build/compiled-wheel
	@mkdir -p build
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m build --wheel --outdir build/compiled-wheel . >build/compiled.log 2>&1 || { cat build/compiled.log; exit 1; }
	@$(BIN)/python -m zipfile -e build/compiled-wheel/*.whl $(COMPILED)
	@touch $@

compiled: $(COMPILED)/ready ## a build whose hot modules are compiled, in build/compiled (needs a C compiler)
	@PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python -c 'import sys; from dspex_bus.compiled import compiled; sys.exit(not compiled())'

test-compiled: setup compiled ## the default tests on that build
	PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python -m pytest $(BY_TWO)

bench-compiled: compiled ## the steps' benchmark on that build, quickly
	PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python benchmarks/steps.py --quick

lint: .venv/ready ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready ## mypy, strict
	$(BIN)/mypy

imports: .venv/ready ## the import rules
	$(BIN)/lint-imports

coverage: .venv/ready ## every branch of the router's pure parts is tested by tests/core
	$(BIN)/python -m pytest -q tests/core/plan tests/core/router --cov --cov-report=term

package: .venv/ready ## build the sdist, from it the wheel, and compare the wheel's files with git's
	$(BIN)/python .ci/package.py

check: test lint types imports coverage package ## all of the above that need no engine

bench: setup ## the benchmarks, quickly
	$(BIN)/python benchmarks/steps.py --quick
	$(BIN)/python benchmarks/native_vs_dspy.py --quick

docs: .venv/ready ## write again what is generated from the code
	$(BIN)/python docs/generate.py

clean: ## remove what was made, .venv included
	rm -rf .venv dist build examples/javascript/node_modules .pytest_cache .mypy_cache .ruff_cache
