# make on its own lists the targets. Everything runs from .venv, which `make setup` makes and keeps up to date.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
UNFINISHED := .venv/.unfinished

# An environment holds absolute paths: one that came along with a moved or copied checkout, or whose Python is gone, is
# made anew; so is one whose making was interrupted.
USABLE := $(shell . $(BIN)/activate 2>/dev/null && [ "$$VIRTUAL_ENV" = "$(CURDIR)/.venv" ] && [ ! -e $(UNFINISHED) ] \
            && $(BIN)/python -m pip --version >/dev/null 2>&1 && echo yes)
ifneq ($(USABLE),yes)
.PHONY: $(READY)
endif

.PHONY: help setup demo test test-fast test-long mutants fuzz check test-browser test-cluster results-quick bench clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

# flow_matching and torchcfm, which tests compare with, come without their dependencies: those would bring a torchvision
# that does not fit every build of torch, and nothing that is compared needs them.
setup: $(READY) ## make .venv with flowscope and all that tests and checks need (quick when nothing changed)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "flowscope needs Python 3.11 or later as $(PYTHON); or name one: make setup PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@if [ "$(USABLE)" != yes ]; then \
	    echo "making .venv"; \
	    rm -rf .venv && mkdir .venv && touch $(UNFINISHED) && $(PYTHON) -m venv .venv; \
	fi
	@touch $(UNFINISHED)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[all]'
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --no-deps flow_matching torchcfm POT
	@rm $(UNFINISHED) && touch $(READY)

demo: setup ## the main job on an embedded real data set, with a small model of it: the page goes to runs/digits
	$(BIN)/flowscope train digits --width 16 --steps 800 --lr 0.002 --schedule cosine --resume --out runs/digits/model
	$(BIN)/flowscope stages digits --model runs/digits/model --out runs/digits
	@echo "Open $(CURDIR)/runs/digits/index.html in a browser."

# One thread a worker: two workers with two threads each would share two cores. Each worker begins with a part of its own,
# so that what the tests of a file share is mostly made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test: setup ## run the tests but those marked long
	$(PYTEST) -m "not long and not browser"

test-long: setup ## run what is long by nature: processes killed, ranks lost, kernels interpreted, coverage simulated
	$(PYTEST) -m "long and not browser"

test-fast: setup ## run the tests but those marked slow, in under a minute on two cores
	$(PYTEST) -m "not slow and not browser"

check: setup ## lint, format, types, import order, duplicate code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pylint src tests benchmarks

mutants: setup ## make the equations wrong, one at a time, in a copy: the tests must notice (half an hour at most)
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py

MINUTES ?= 10

fuzz: setup ## change files at random and read them, for MINUTES=10: nothing may end in a traceback, hang or fill memory
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

test-browser: setup ## open the pages that flowscope writes in headless Chromium
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	    || { echo "no Chromium found; on Debian: apt-get install chromium" >&2; exit 2; }
	$(BIN)/python -m pytest -m browser

test-cluster: setup ## run one job on two hosts, which are network namespaces (needs root and iproute2)
	tests/cluster/run.sh

# The two variables make OpenBLAS pick other kernels than it would, and so slow numpy down.
results-quick: setup ## run the quick form of what makes docs/results, into runs
	$(BIN)/python docs/make_memorise.py digits --quick
	$(BIN)/python docs/make_explain.py digits plain-unet --quick

bench: setup ## run the benchmarks, one after the other
	@set -e; for file in benchmarks/[!_]*.py; do \
	    echo "== $$file"; env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python "$$file"; \
	done

clean: ## remove what builds and tools left behind; keep .venv and runs
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
