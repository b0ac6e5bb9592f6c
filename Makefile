# Everything is run from here; `make` alone lists the targets. The first use makes .venv.
SHELL := /bin/bash
PYTHON ?=
JOBS ?= 2
ARGS ?=
BIN := .venv/bin
# One thread for each of the JOBS test processes: torch would otherwise start as many as there are cores in each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help measure test fast soak interventions lint docs bench zoo art setup chromium clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

measure: setup ## measure the shipped models and write runs/default/report.html (ARGS="--models ...")
	$(BIN)/python -m clipbias.measure --engine workers:$(JOBS) $(ARGS)

test: setup chromium ## run the whole test suite
	$(PYTEST) $(ARGS)

fast: setup ## run the tests that take seconds
	$(PYTEST) -m "not slow and not soak and not browser" $(ARGS)

soak: setup ## run the whole chains that take many minutes
	$(PYTEST) -m soak $(ARGS)

interventions: setup ## prove every intervention on planted data (goes on where it stopped)
	OMP_NUM_THREADS=1 $(BIN)/python -m clipbias.tasks.interventions.proof $(ARGS)

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup ## build the documentation site into site/ (strict, without network)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)

bench: setup ## time the parts that must stay fast
	$(BIN)/python benchmarks/run.py $(ARGS)

zoo: setup ## train the shipped models again (hours; goes on where it stopped)
	$(BIN)/python -m clipbias.zoo train $(ARGS)

art: setup ## pack the emoji art again from its npm packages
	$(BIN)/python -m clipbias.probes.pack $(ARGS)

clean: ## remove what was built; keeps runs/ and .venv
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/artifacts *.egg-info
	find clipbias tests -name __pycache__ -type d -prune -exec rm -rf {} +

setup: .venv/.ready

# The stamp is written last, so that a set-up which was cut short is done again.
.venv/.ready: pyproject.toml constraints.txt
	@set -e; \
	for python in $(or $(PYTHON),python3.11 python3 python3.12 python3.13); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "clipbias needs Python 3.11 or newer; tried: $(or $(PYTHON),python3.11 python3 python3.12 python3.13)." >&2; \
	  echo "Install it, or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	  "$$found" -m venv .venv || { rm -rf .venv; \
	    echo "$$found could not make a virtual environment; on Debian install python3-venv." >&2; exit 1; }; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,lavis]"
	@# LAVIS pins a timm that open_clip cannot use; what it really needs is in the extra.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps lavis-gml
	@touch $@

# The report's tests open it in Chromium. Where it is absent and cannot be installed they are skipped (failed under CI=true).
chromium:
	@if command -v chromium chromium-browser google-chrome >/dev/null || [ -n "$$CLIPBIAS_CHROMIUM" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing Chromium for the browser tests"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	    >/dev/null || echo "Chromium could not be installed; the browser tests cannot run." >&2; \
	else echo "Chromium was not found; the browser tests cannot run." >&2; fi
