# make run: the whole gateway on the night of 17 August 2017. make test: its tests.
# Everything is installed into .venv; jars go to the user's cache (MMGATEWAY_CACHE moves it).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCALE ?=
KEEP ?=
ARGS ?=
COUNT ?= 200000
SEED ?= 1
KILLS ?= 100
LINES ?= docs/performance/results.jsonl
SHORT := build/performance

.DEFAULT_GOAL := help
.PHONY: help run test check fuzz mutated chaos interleavings cds cluster bench bench-short install clean

help:
	@echo 'make run      install, then replay the night of GW170817 through the whole gateway'
	@echo '              KEEP=1 leaves the gateway up, SCALE=N sets the number of alerts, ARGS=... adds options'
	@echo 'make test     install, then run all tests'
	@echo 'make check    ruff, mypy and the direction of imports'
	@echo 'make fuzz     read COUNT=200000 damaged notices of SEED=1; each must end with an outcome'
	@echo 'make chaos    play the night while services are killed KILLS=100 times; SEED=1'
	@echo 'make interleavings  COUNT=30 random orders of arrival with kills; SEED=1'
	@echo 'make cds      the night twice, with CDS up and with CDS down until the morning: the same'
	@echo '              candidates in the end; SCALE=3000 alerts'
	@echo 'make mutated  COUNT=10000 damaged alert packets through the live query; each must be accounted for'
	@echo 'make cluster  decode and match with Spark executors in processes of their own'
	@echo 'make bench    all benches at full size (hours), lines to $(LINES), then docs/performance.md;'
	@echo '              ARGS="join latency" runs some and keeps the lines of the others'
	@echo 'make bench-short  the same with small sizes (minutes), page in $(SHORT)'
	@echo 'make install  set up $(VENV) and fetch the jars of Kafka and Spark'
	@echo 'make clean    remove $(VENV), caches in this folder and the data of the demo'
	@echo
	@echo 'PYTHON=python3.12 chooses the interpreter (3.11, 3.12 or 3.13).'

install: $(VENV)/.installed $(VENV)/.jars

# The version is looked at before anything is downloaded.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo 'mmgateway needs Python 3.11, 3.12 or 3.13; $(PYTHON) is' \
	    "$$($(PYTHON) --version 2>&1 || true). Name another one: make PYTHON=/path/to/python3.12" >&2; \
	  exit 1; }
	@echo 'Making $(VENV) with $(PYTHON) ...'
	@$(PYTHON) -m venv $(VENV) || { \
	  echo '$(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv' >&2; \
	  rm -rf $(VENV); exit 1; }

$(VENV)/.locked: requirements.lock | $(VENV)/bin/python
	@echo 'Installing the packages of requirements.lock ...'
	@$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.locked
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $@

$(VENV)/.jars: broker/embedded/jars.lock $(VENV)/.installed
	@$(BIN)/python -m broker.embedded.jars
	@touch $@

run: install
	@$(BIN)/mmgateway demo $(if $(KEEP),--keep) $(if $(SCALE),--scale $(SCALE)) $(ARGS)

test: install
	@$(BIN)/python -m pytest --durations=15 $(ARGS)

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fuzz: install
	@$(BIN)/python -m tests.fuzz.run --count $(COUNT) --seed $(SEED) $(ARGS)

mutated: COUNT = 10000
mutated: install
	@MMGATEWAY_MUTATED=$(COUNT) $(BIN)/python -m pytest tests/integration/test_mutated_packets.py $(ARGS)

chaos: install
	@$(BIN)/python -m tests.chaos.run --kills $(KILLS) --seed $(SEED) $(ARGS)

interleavings: COUNT = 30
interleavings: install
	@$(BIN)/python -m tests.chaos.run --kills 0 --interleavings $(COUNT) --seed $(SEED) $(ARGS)

cds: install
	@MMGATEWAY_CDS_NIGHT=$(or $(SCALE),3000) $(BIN)/python -m pytest -s \
	  tests/endtoend/test_lookups_night.py $(ARGS)

cluster: install
	@MMGATEWAY_CLUSTER=1 $(BIN)/python -m pytest tests/integration/test_cluster.py $(ARGS)

# What others use for the same: pyproject.toml says what, without it they are left out.
$(VENV)/.peers: pyproject.toml $(VENV)/.installed
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[bench]'
	@touch $@

# A bench that fails ends the run with its status, after the page told of all others.
bench: install $(VENV)/.peers
	@status=0; $(BIN)/mmgateway bench all $(ARGS) --out $(LINES) || status=$$?; \
	  $(BIN)/python docs/make_performance.py --from $(LINES) && exit $$status

bench-short: install $(VENV)/.peers
	@status=0; $(BIN)/mmgateway bench all --short $(ARGS) --out $(SHORT)/results.jsonl || status=$$?; \
	  $(BIN)/python docs/make_performance.py --from $(SHORT)/results.jsonl \
	    --out $(SHORT)/performance.md && exit $$status

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf build ./*.egg-info mmgateway-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
