# Everything on a machine with Python 3.11 to 3.13 and make: the environment is made when first needed.
#   make demo   see it work          make test   all tests      make lint   what must be clean
#   make bench  speed beside peers   make memory peak memory over two backlogs
#   make turns  the event loop's longest turns
#   make imports 1,000,000 profiles as imports: memory, CPU, time for each stage (a quarter of an hour)
#   make minio  the upload before a storage that is not ours: builds MinIO with Go (minutes, once)
#   make soak   a quarter of an hour of load (MINUTES=15): nothing may grow
#   make chaos  a seeded run of faults: SEED=7 MINUTES=30 ARGS="--replicas 5 --brokers 3 --report DIR"
#   make chaos-bugs   bugs put back one after the other: each has to be found
#   make rolling  how long partitions stand still while replicas restart: ARGS="--how stop kill"
#   make mutants  mistakes put into the pure rules, which the tests have to find: ONLY=delivery/retry
#   make fuzz   mutated inputs and models' interleavings for MINUTES=10: what is found says its seed
# ARGS goes to the command: make demo ARGS="--faults --keep", make test ARGS="tests/unit -q".

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.fanline-ready
BENCH_READY := $(VENV)/.fanline-bench-ready
MUTANTS_READY := $(VENV)/.fanline-mutants-ready
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	pyproject.toml

# A Python that is named gets an environment of its own, also where another one's is there.
VERSION_OF := -c 'import sys; print(sys.version_info[:2])'
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) $(VERSION_OF) 2>&1),$(shell $(BIN)/python $(VERSION_OF) 2>&1))
ANOTHER := yes
.PHONY: $(READY)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench memory turns imports minio soak chaos rolling chaos-bugs mutants fuzz lock clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -13

setup: $(READY)

# Exactly the versions of the lock, each checked against its hash; nothing is built or fetched beside them.
$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
		echo "Fanline needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is none of these." >&2; \
		echo "Name one that is, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@{ test -z "$(ANOTHER)" && $(BIN)/python -m pip --version >/dev/null 2>&1; } || $(PYTHON) deploy/environment.py $(VENV)
	@echo "Installing what Fanline needs into $(VENV): about a minute, once."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	@$(BIN)/fanline demo $(ARGS)

# Most tests wait: for brokers, processes, time-outs. A file's tests share what they start, the long ones come first.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BENCH_READY): $(READY) requirements-bench.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-bench.lock
	@touch $@

bench: $(BENCH_READY)
	$(BIN)/python -m tests.benchmarks.speed $(ARGS)

memory: $(READY)
	$(BIN)/python -m tests.benchmarks.memory $(ARGS)

turns: $(READY)
	$(BIN)/python -m tests.benchmarks.turns $(ARGS)

imports: $(READY)
	$(BIN)/python -m tests.benchmarks.imports --spine $(ARGS)

# A storage that obeys upload policies, to test against and for nothing else (its licence is the AGPL).
MINIO ?= $(CURDIR)/.cache/minio/minio
minio: $(READY)
	@test -x $(MINIO) || command -v go >/dev/null || { \
		echo "make minio builds MinIO, and needs Go for it: https://go.dev/dl/" >&2; \
		echo "Or name one that is there: make minio MINIO=/usr/local/bin/minio" >&2; exit 1; }
	@test -x $(MINIO) || { echo "Building MinIO into $(dir $(MINIO)): some minutes, once."; \
		GOBIN=$(dir $(MINIO)) go install github.com/minio/minio@latest; }
	MINIO=$(MINIO) $(BIN)/python -m pytest tests/storage $(ARGS)

SEED ?= 1
MINUTES ?= 3

soak: MINUTES = 15
soak: $(READY)
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

chaos: $(READY)
	$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(ARGS)

rolling: $(READY)
	$(BIN)/python -m tests.benchmarks.rolling $(ARGS)

chaos-bugs: $(READY)
	$(BIN)/python -m tests.chaos.detectors $(ARGS)

$(MUTANTS_READY): $(READY) requirements-mutants.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-mutants.lock
	@touch $@

# A module takes ten seconds to some minutes; without ONLY all of them are tried: some 20 minutes on two idle cores.
mutants: $(MUTANTS_READY)
	nice $(BIN)/python -m tests.mutation --processes $(WORKERS) $(if $(ONLY),--only $(ONLY)) $(ARGS)

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(ARGS)

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	$(COMPILE) -o requirements.lock
	$(COMPILE) --extra dev --extra kafka -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --extra dev --extra kafka --extra bench -c requirements-dev.lock -o requirements-bench.lock
	$(COMPILE) --extra dev --extra kafka --extra mutants -c requirements-dev.lock -o requirements-mutants.lock

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
