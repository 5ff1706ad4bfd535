# make demo    from pairs to a robust, certified, exported classifier: runs/demo/
# make tutorials  the notebooks, executed anew: an hour or two; runs/laptop/
#              (NOTEBOOKS=tutorials/07_lighting.ipynb for one of them)
# make saved_models  the models of saved_models/, from runs/laptop/ where they are there
# make test    the tests of every module and of the main job, the lint among them: minutes
# make test-all  the rest of them, the notebooks among them: 45 minutes
# make lint    the lint and the types alone; make format mends what it can
# make docs    the documentation site, offline and strictly: runs/site/index.html
#              (on Python 3.11 or newer, which Sphinx needs)
# make package  the wheel and the sdist, checked, and the wheel used where nothing else
#              is installed: dist/
# make bench   speed as ratios to PyTorch and to plain code: runs/speed/, what is not yet
#              there (BENCH='--output docs/results/speed' for docs/speed.md)
# make clean   removes .venv and the results of runs
# Each target makes .venv first, with the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv/bin
# TensorFlow speaks of missing GPUs at length; errors still show.
export TF_CPP_MIN_LOG_LEVEL ?= 3
.DEFAULT_GOAL := help
.PHONY: help demo tutorials saved_models test test-all lint format docs package bench clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 13); sys.exit(0 if ok else "lps_tf needs Python 3.10 to 3.13; choose one: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(VENV)/python -m lps_tf demo

NOTEBOOKS ?= tutorials/*.ipynb

# What the kernel writes to its standard error is no result.
tutorials: .venv/installed
	$(VENV)/jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.timeout=-1 \
		--ExecutePreprocessor.extra_arguments=--IPKernelApp.capture_fd_output=False \
		$(NOTEBOOKS)

saved_models: .venv/installed
	$(VENV)/python -m lps_tf publish

# .ci/run measures what the fast tests cover; without, they are a tenth faster.
COVERAGE ?=
PYTEST := $(VENV)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What XLA has compiled stays in a process for good. In parts, one after the other, none
# of them comes to hold 4 GB.
PAPER := tests/experiments/test_at_paper_scale.py
EXPERIMENTS := $(filter-out $(PAPER),$(wildcard tests/experiments/test_*.py))
RUNS := $(EXPERIMENTS) tests/tutorials $(wildcard tests/test_*.py)
LARGE := $(PAPER) tests/benchmarks
ROOMS := $(addprefix tests/,contracts corruptions datasets networks)
ANY_SET := $(wildcard tests/contracts/test_*any_set.py)
ROBUST := $(addprefix tests/,certification perturbations robustness)
SETS := $(addprefix tests/,plots sets)
REST := tests $(addprefix --ignore=,$(RUNS) $(LARGE) $(ROOMS))

# One part after the other. By the end, what failed has scrolled by: its names come again.
LAST_FAILED := cache/lastfailed
define run_parts
@rm -f .pytest_cache/v/$(LAST_FAILED); failed=0; for part in $(1); do \
	$(PYTEST) $(2) $(COVERAGE) $$part || failed=1; done; \
	[ $$failed = 0 ] || $(VENV)/python -m pytest -q --noconftest --cache-show $(LAST_FAILED); \
	exit $$failed
endef

test: .venv/installed
	$(call run_parts,"$(RUNS)" "$(LARGE) $(ROOMS)" "$(REST)",-m "not slow" --check-slow)

test-all: .venv/installed
	$(call run_parts,"$(EXPERIMENTS)" "$(filter-out $(EXPERIMENTS),$(RUNS))" "$(LARGE)" \
		"tests/contracts $(addprefix --ignore=,$(ANY_SET))" "$(ANY_SET)" \
		"$(filter-out tests/contracts,$(ROOMS))" "$(ROBUST)" "$(SETS)" \
		"$(REST) $(addprefix --ignore=,$(ROBUST) $(SETS))",-m slow)

# PyTorch, which only `make bench` and the tests of reading its files need; and ONNX and
# LiteRT, which only the tests of exporting to them need.
.venv/original: .venv/installed
	$(VENV)/python -m pip install --quiet --constraint constraints.txt --editable '.[original,export]'
	touch $@

BENCH ?=

bench: .venv/original
	$(VENV)/python -m tests.benchmarks $(BENCH)

.venv/docs: .venv/installed
	$(VENV)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: .venv/docs
	$(VENV)/python -m docs.site

# Not in .venv, which has far more than a user's environment.
package:
	rm -rf build dist runs/package
	$(PYTHON) -m venv runs/package/tools
	runs/package/tools/bin/pip install --quiet --constraint constraints.txt build twine check-wheel-contents
	PIP_CONSTRAINT=constraints.txt runs/package/tools/bin/python -m build --outdir dist
	runs/package/tools/bin/twine check --strict dist/*
	runs/package/tools/bin/check-wheel-contents dist/*.whl
	$(PYTHON) -m venv runs/package/user
	runs/package/user/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	cd runs/package && user/bin/python -I ../../.ci/smoke.py

lint: .venv/installed
	$(VENV)/ruff check . && $(VENV)/ruff format --check . && $(VENV)/mypy

format: .venv/installed
	$(VENV)/ruff check --fix . ; $(VENV)/ruff format .

clean:
	rm -rf .venv runs
