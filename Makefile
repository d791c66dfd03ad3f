# Everything that one does with this project, from a fresh Debian machine on. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
# The interpreter for the virtual environment; by default deploy/find-python.sh chooses.
PYTHON ?=
PYTEST_ARGS ?=
# Tests run side by side, unless some of them are chosen: those are then in one process, as --pdb needs it.
LANES ?= $(if $(PYTEST_ARGS),0,3)
# Which changes `make mutants` draws, and how many; MUTANTS_ARGS='--place health' and others: --help tells.
SEED ?= 1
COUNT ?= 60
MUTANTS_ARGS ?=
# How long `make fuzz` goes on.
SECONDS ?= 60
FUZZ_ARGS ?=
# Programs that `make bench` measures beside ours.
MDLAYHER ?= $(WG_BENCH_MDLAYHER)
MINDFLAVOR ?= $(WG_BENCH_MINDFLAVOR)
# Each of these writes a page of the docs, or the dashboards, or with --check says whether it is still right.
GENERATORS := $(sort $(wildcard docs/generate_*.py)) dashboards/generate.py deploy/kubernetes/generate.py
# -E and -X utf8: no PYTHON* variable and no locale changes the tests. With PYTHONOPTIMIZE all assertions would pass.
PYTEST := $(BIN)/python -E -X utf8 -m pytest

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The environment is made anew unless it was finished, in this directory, and its interpreter still runs.
USABLE := $(shell test "$$(cat $(VENV)/.ready 2>/dev/null)" = "$(CURDIR)" && $(BIN)/python -c '' 2>/dev/null && echo yes)

# All times in what is built are those of the commit, so that it gives the same bytes wherever it is built.
EPOCH = SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)}
# Which libraries `make lock` takes anew: LOCK_ARGS= keeps all it can, LOCK_ARGS='--upgrade-package h11' takes one.
LOCK_ARGS ?= --upgrade

.PHONY: help setup demo test fuzz soak slow mutants lint bench docs lock dist deb release clean always

help: ## list the targets (default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## virtual environment with wg-exporter in .venv/bin, and Python from Debian where it is missing

$(VENV)/.ready: pyproject.toml $(if $(USABLE),,always)
	deploy/ensure-packages.sh python
	$(if $(USABLE),,"$$(deploy/find-python.sh)" -m venv --clear $(VENV))
	@echo "Installing Python packages into $(VENV); the first time they are downloaded, which takes a few minutes."
	$(BIN)/pip install --quiet --editable '.[dev]'
	@echo "$(CURDIR)" >$@

demo: setup ## a real WireGuard network to look at, on http://127.0.0.1:9586 (needs root)
	deploy/ensure-packages.sh demo
	@$(BIN)/wg-exporter demo

test: setup ## the whole test suite; PYTEST_ARGS='-k handshake' chooses
	deploy/ensure-packages.sh test
	$(if $(PYTEST_ARGS),$(PYTEST) -n $(LANES) $(PYTEST_ARGS),$(PYTEST) -n $(LANES) --ignore=tests/test_vm.py)
	$(if $(PYTEST_ARGS),,$(PYTEST) tests/test_vm.py)

fuzz: setup ## hostile input of every kind, made up anew until SECONDS=60 are over
	@end=$$(($$(date +%s) + $(SECONDS))); until [ $$(date +%s) -ge $$end ]; do \
	    $(PYTEST) -q -n 2 --fuzz $(FUZZ_ARGS) || exit 1; done

soak: setup ## an exporter around which everything changes and is killed, for SECONDS=1200; SEED=1 says in which order
	deploy/ensure-packages.sh test
	SOAK_SECONDS="$(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),1200)" SOAK_SEED="$(SEED)" \
	    $(PYTEST) -m slow tests/test_soak.py

slow: setup ## what takes an hour, before a release: slow tests, and on clean machines `make demo`, `make test` and `make deb`
	deploy/ensure-packages.sh slow
	$(PYTEST) -m slow
	.ci/clean-machine bookworm
	.ci/clean-machine trixie
	.ci/deb-machine bookworm
	.ci/deb-machine trixie

mutants: $(VENV)/.mutants ## do the tests notice changes? Draws COUNT=60 by SEED=1 and tries each, in copies (needs root)
	deploy/ensure-packages.sh test
	$(BIN)/python -m tests.mutants --seed $(SEED) --count $(COUNT) $(MUTANTS_ARGS)

$(VENV)/.mutants: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[mutants]'
	@touch $@

lint: setup ## ruff, mypy --strict, the layers of imports, and whether generated docs are fresh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	@set -e; for generator in $(GENERATORS); do echo $$generator --check; $(BIN)/python $$generator --check; done

bench: setup ## measure speed and memory against other exporters, into bench/*.md
	deploy/ensure-packages.sh bench
	PATH="$(CURDIR)/$(BIN):$$PATH" WG_BENCH_MDLAYHER="$(MDLAYHER)" WG_BENCH_MINDFLAVOR="$(MINDFLAVOR)" bench/run
	$(BIN)/python -m bench.paging

docs: setup ## write the generated pages of docs/ again
	@set -e; for generator in $(GENERATORS); do echo $$generator; $(BIN)/python $$generator; done

lock: $(VENV)/.lock ## versions and hashes of all libraries anew, in deploy/requirements.lock
	$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-emit-package win-inet-pton \
	    --custom-compile-command 'make lock' $(LOCK_ARGS) pyproject.toml --output-file deploy/requirements.lock
	@set -e; for python in 3.11 3.12 3.13; do for arch in x86_64 aarch64; do \
	    echo "wheels for Python $$python on $$arch"; \
	    $(BIN)/pip download --quiet --no-deps --require-hashes --only-binary :all: --python-version $$python \
	        $$(for libc in 2_17 2_24 2_26 2_27 2_28 2_31 2_34; do echo --platform manylinux_$${libc}_$$arch; done) --platform manylinux2014_$$arch \
	        --dest build/wheels --requirement deploy/requirements.lock; done; done

$(VENV)/.lock: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[lock]'
	@touch $@

dist: setup ## wheel and sdist, into dist/
	rm -f dist/wg_exporter-*
	$(EPOCH) $(BIN)/python -m build --no-isolation

deb: dist ## package for the Debian that this runs on, into dist/
	deploy/ensure-packages.sh deb
	rm -f dist/wg-exporter_*.deb
	$(EPOCH) deploy/debian/build dist/wg_exporter-*.whl dist

release: setup ## check all that a release needs, and build its files into dist/; WITHOUT_TESTS=1 leaves out the tests
	@$(BIN)/python deploy/release.py build

clean: ## remove what these targets made inside the checkout
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .cache
	find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +
