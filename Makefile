# Each target does all its set-up. It needs Python 3.11 to 3.13 and make; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.ready-bench

.PHONY: demo test lint bench memory lock clean help

help:
	@echo "make demo     Kafka, an imitated platform, events, two lanes, and a count of what became of each"
	@echo "make test     all tests, on a real Apache Kafka (ARGS='-k name' for some)"
	@echo "make lint     ruff and mypy"
	@echo "make bench    CPU per 100,000 events, beside peers"
	@echo "make memory   peak memory over a small and a large backlog"
	@echo "make lock     write the lock files anew"

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Fanline needs Python 3.11 to 3.13; this is %d.%d. Name another one: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(BENCH_READY): $(READY) requirements-bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

demo: $(READY)
	$(BIN)/fanline demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCH_READY)
	$(BIN)/python -m tests.benchmarks.speed $(ARGS)

memory: $(READY)
	$(BIN)/python -m tests.benchmarks.memory $(ARGS)

# Hashes without addresses; uv is the only tool that is not in the lock.
UV_COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
lock:
	$(UV_COMPILE) -o requirements.lock pyproject.toml
	$(UV_COMPILE) --extra kafka --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	$(UV_COMPILE) --extra kafka --extra dev --extra bench -c requirements-dev.lock -o requirements-bench.lock pyproject.toml

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
