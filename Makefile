# Every target sets up what it needs first: .venv, the engine, images. `make` lists the targets.
# Parameters of `run`: PROGRAM (a name, a directory or a .py file), KWARGS (JSON, or @FILE),
# ARGS (further options of `qrunner run`). make's own exit code is 2 whenever qrunner's is not 0.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test test-service test-page test-cluster test-machines test-index test-providers bench-cluster test-fast check fuzz corpus mutate bench soak fmt build doctor runsc lock record docs dist clean venv venv-dev engine

BIN := .venv/bin
BENCHMARKS := compare phases cells commands hardening held neighbour relay service transpile soak first

# The user's texts reach the shell as environment variables, never as part of a command, and never
# expanded by make: quotes, $ and newlines arrive as they were typed.
PROGRAM ?= random_circuits
export QRUNNER_PROGRAM := $(value PROGRAM)
export QRUNNER_KWARGS := $(value KWARGS)
unexport PROGRAM KWARGS
# Where somebody has set it, every command would compile all of runner/ again.
unexport PYTHONDONTWRITEBYTECODE
MAKEOVERRIDES :=

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) \
		| awk -F'|' '{ printf "make %-14s %s\n", $$1, $$2 }'

run: venv engine ## run a program: make run PROGRAM=random_circuits [KWARGS='{"iterations": 3}'] [ARGS=...]
	@$(BIN)/qrunner run $(ARGS) $${QRUNNER_KWARGS:+--inputs "$$QRUNNER_KWARGS"} -- "$$QRUNNER_PROGRAM"

# Three at a time, because most of a test is waiting; tests/scheduling.py says which when. The base
# image is built while those run that need no engine. A test that fails beside others is tried once
# more alone: on a busy machine a deadline can pass that has nothing to do with the code. What does
# not fail again is counted and named (tests/flaky.py). Only failed tests (pytest's exit code 1) have
# a second try: not what was interrupted, nor a run that has left something behind.
test: venv-dev engine ## run every test, real containers included (at most 10 minutes)
	@$(BIN)/qrunner build --base >/dev/null & \
		if tools/setup-runsc; then export QRUNNER_RUNSC_MUST_WORK=1; fi; \
		if tools/apt-install chromium; then export QRUNNER_PAGE_MUST_WORK=1; fi; \
		export QRUNNER_ENGINE_MUST_WORK=1; status=0; \
		$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --durations 15 || status=$$?; \
		if [ $$status -eq 1 ]; then \
			$(BIN)/python -m pytest -q -p tests.flaky --last-failed --last-failed-no-failures none; status=$$?; \
		fi; \
		wait; exit $$status

test-fast: venv-dev ## run the tests that need no engine
	@$(BIN)/python -m pytest -q tests/unit tests/contract

test-index: venv-dev ## lock what programs use beside the stack, from the package index (minutes)
	@$(BIN)/python -m pytest -q tests/index

test-providers: venv-dev engine ## try held backends with their providers' packages (minutes)
	@$(BIN)/python -m pytest -q tests/providers

check: venv-dev ## lint, types, import contracts, shell scripts, fast tests; no engine needed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/shellcheck tools/* .ci/run findings/*.sh
	$(BIN)/python -m pytest -q tests/unit tests/contract

fuzz: venv-dev ## search longer for bytes that the host cannot stand (FUZZ_S=60 seconds)
	@$(BIN)/python tests/fuzz/fuzz.py

# Some twenty minutes. The places differ in what is around a program; the cases are the same.
corpus: venv-dev engine ## run every hostile program in containers, in cells and in sessions
	@$(BIN)/qrunner check tests/security/corpus
	@$(BIN)/qrunner check --warm tests/security/corpus
	@$(BIN)/python -m tests.security.in_sessions

# Some fifteen minutes, in copies of this tree. PROMISES="P4 P15" breaks only these.
mutate: venv-dev engine ## break each promise of the threat model, and see whether its tests notice
	@$(BIN)/python -m tests.security.mutate $$PROMISES

# About twenty minutes. What fails is said to be so, and the rest goes on. The soak is a short one.
bench: export SOAK_JOBS ?= 64
bench: export SOAK_CELLS ?= 500
bench: venv engine ## measure: tables, JSON and a picture in build/bench (on a quiet machine)
	@tools/setup-group --optional bench; status=0; \
	for each in $(BENCHMARKS); do \
		rm -f build/bench/$$each.json; \
		$(BIN)/python -m benchmarks.$$each --json build/bench || status=1; \
	done; \
	$(BIN)/python -m benchmarks.targets --json build/bench && exit $$status

# All of it takes about fifteen minutes; `make test` runs tests/cluster/test_brief.py only. Where Ray
# or Slurm cannot be had its tests are skipped, unless QRUNNER_CLUSTER_MUST_WORK=1.
test-cluster: venv-dev engine ## run the cluster tests: Ray and Slurm on this machine's loopback
	@QRUNNER_ENGINE_MUST_WORK=1 $(BIN)/python -m pytest -q --durations 15 tests/cluster

# Some ten minutes, most of them for the environments of IBM's clients, which are made once.
test-service: venv-dev engine ## run the tests of the service, with IBM's unmodified clients
	@tools/setup-group service
	@QRUNNER_ENGINE_MUST_WORK=1 $(BIN)/python -m pytest -q --durations 15 tests/service

# Where Debian's package cannot be installed, a chromium on PATH will do.
test-page: venv-dev engine ## try the service's pages in Chromium, with programs that mean ill (minutes)
	@tools/apt-install chromium || true
	@QRUNNER_ENGINE_MUST_WORK=1 QRUNNER_PAGE_MUST_WORK=1 $(BIN)/python -m pytest -q --durations 15 tests/page

# Hours on two cores; not in CI. MACHINES="podman-root" takes only some, MACHINE_COMMANDS="run" too.
test-machines: venv-dev engine ## run doctor, outcomes and corpus on Debian machines: Docker, Podman
	@$(BIN)/qrunner build --base >/dev/null
	@$(BIN)/python -m tests.machines $(MACHINES)

bench-cluster: venv-dev engine ## measure Ray and Slurm on this machine's loopback
	@$(BIN)/python -m benchmarks.cluster --json build/bench

soak: venv engine ## run SOAK_JOBS (1000) of every kind, SOAK_CELLS (10000), SOAK_CROWD (200) at once; what is left?
	@$(BIN)/python -m benchmarks.soak --json build/bench

fmt: venv-dev ## format the code, mend what can be mended
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

build: venv engine ## build the base images; a program is packaged when it is first run
	@$(BIN)/qrunner build

doctor: venv ## say what this machine offers a sandbox, and what to change
	@$(BIN)/qrunner doctor

runsc: engine ## install gVisor for --isolation runsc and register it with the engine (docs/isolation.md)
	@tools/setup-runsc

lock: venv-dev ## renew every lock file: the host's, the developers', the sandbox's (needs uv)
	@tools/lock

record: venv-dev engine ## write again what docs/ show of screens, of pages and of rooms
	@$(BIN)/python -m tests.architecture
	@$(BIN)/python -m tests.recording
	@$(BIN)/python -m tests.notebooks
	@tools/apt-install chromium || true
	@$(BIN)/python -m tests.page.screenshots

docs: venv ## make the pages of docs/ into build/docs, and fail on every warning and dead link
	@tools/setup-group docs
	@rm -rf build/docs
	@.venv/docs/bin/python -m sphinx -q -W --keep-going -E -b html -d build/doctrees docs build/docs
	@.venv/docs/bin/python docs/check_site.py build/docs
	@echo "docs: build/docs/index.html"

dist: venv-dev engine ## build sdist and wheel into dist/, and try the wheel in an empty environment
	@tools/setup-group dist
	@tools/dist

clean: ## remove leftovers of dead runs, old images, and the caches of this clone
	rm -rf .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis build dist
	find runner sandbox images tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -x $(BIN)/qrunner ]; then $(BIN)/qrunner clean; fi

# --- set-up: silent when nothing has changed ------------------------------------------------------

venv:
	@tools/setup-venv run

venv-dev:
	@tools/setup-venv dev

engine:
	@tools/setup-engine
