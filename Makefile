# Two commands matter: `make demo` and `make test`. Each does all of its own set-up and costs nothing the second time.
# Needs: GNU make, Rust (cargo), Python >= 3.10 with venv, a C compiler.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
# Two pips in one environment, or two cargos on one target folder, gain nothing under -j.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# ---- settings: `make demo MODEL=qwen2.5-0.5b-instruct`, `make test PYTHON=/opt/python/bin/python3` ----
MODEL ?= qwen2.5-coder-1.5b-instruct
TEST_MODELS := smollm2-135m-instruct qwen2.5-coder-1.5b-instruct
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMPS := $(VENV)/.make
BUILT := $(STAMPS)/built
export PYO3_PYTHON := $(CURDIR)/$(PY)
# A virtual environment that happens to be active must not receive anything.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
unexport CONDA_PREFIX

SOURCES := pyproject.toml README.md Cargo.toml $(wildcard Cargo.lock) \
	$(shell find crates -name '*.rs' -o -name Cargo.toml)
# The stamp lies when the library it speaks of is gone (a cleaned checkout, a copied environment).
ifeq ($(wildcard python/densecore/_core*.so),)
REBUILD := always
endif

# The first interpreter that runs, is new enough and can make environments; version managers leave launchers that do none.
USABLE = -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))'
FIND_PYTHON = for p in python3.13 python3.12 python3.11 python3.10 python3 python; do \
	if $$p $(USABLE) >/dev/null 2>&1; then echo $$p; break; fi; done
ifeq ($(origin PYTHON),undefined)
PYTHON = $(shell $(FIND_PYTHON))
endif

.PHONY: help demo test check emulated bench verify fuzz experiments build models fmt fmt-check lint types structure clean always
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# ---- set-up ----
$(PY):
	@p="$(PYTHON)"; if [ -z "$$p" ] || ! "$$p" $(USABLE) 2>/dev/null; then \
		echo "densecore needs Python 3.10 or later with venv; tried: $${p:-python3.13 to python3.10, python3}" >&2; \
		echo "install it (Debian and Ubuntu: apt-get install python3-venv) or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
	"$$p" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(STAMPS)/base: pyproject.toml tools/environment.py | $(PY)
	@$(PY) tools/environment.py base
	@mkdir -p $(@D) && touch $@

$(STAMPS)/dev: pyproject.toml tools/environment.py | $(PY)
	@$(PY) tools/environment.py dev
	@mkdir -p $(@D) && touch $@

$(BUILT): $(SOURCES) $(REBUILD) | $(STAMPS)/base
	@command -v cargo >/dev/null || { echo "densecore needs Rust: install it from rustup.rs and open a new shell" >&2; exit 1; }
	$(PY) -m maturin develop --release --locked
	@touch $@

build: $(BUILT) ## compile the engine and install it into .venv, editable

models: $(BUILT) ## fetch the models the tests use
	@for name in $(TEST_MODELS); do $(PY) -m densecore.models pull $$name || exit 1; done

# ---- the two commands of the README ----
demo: $(BUILT) ## real Qwen through hidden states, call by call; then programs in text and in hidden states, compared
	@$(PY) -m densecore.models pull $(MODEL)
	@$(PY) examples/demo.py --model $(MODEL)
	@$(PY) -m densecore.eval --model $(MODEL) $(ARGS)

# The programs that `cargo test` just built: asked for by package they would be compiled again, with other features.
KERNEL_TESTS := cargo test --locked -q --workspace --test quantised --test dense --test attention --test tier

test: $(STAMPS)/dev $(BUILT) models ## every test but the long tier
	cargo test --locked
	DENSECORE_TIER=avx2 $(KERNEL_TESTS)
	DENSECORE_TIER=avx2-plain $(KERNEL_TESTS)
	DENSECORE_TIER=portable $(KERNEL_TESTS)
	$(PY) -m pytest $(ARGS)

emulated: $(STAMPS)/dev $(BUILT) ## the kernels on processors of other kinds, by QEMU (x86-64 Linux)
	$(PY) tools/emulated.py $(ARGS)

# ---- checks that need no model ----
check: fmt-check lint types structure ## formatters, linters, types, stubs, structure

fmt-check: $(STAMPS)/dev
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	$(PY) -m ruff format --check .

lint: $(STAMPS)/dev
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(PY) -m ruff check .

types: $(STAMPS)/dev $(BUILT)
	$(PY) -m mypy
	$(PY) -m mypy.stubtest densecore._core

structure: $(STAMPS)/dev
	$(PY) -m pytest -q tests/structure

fmt: $(STAMPS)/dev ## rewrite sources in the house format
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .

# ---- long runs ----
bench: $(STAMPS)/dev $(BUILT) models ## speed and memory: criterion, then llama.cpp and transformers beside us
	@$(PY) -m densecore.models pull $(MODEL)
	DENSECORE_BENCH_MODEL="$$($(PY) -c 'import sys; from densecore import models; print(models.resolve(sys.argv[1]).path)' $(MODEL))" \
		cargo bench --locked
	$(PY) benches/compare.py --model $(MODEL) $(ARGS)

verify: $(STAMPS)/dev $(BUILT) models ## the long tier: whole data sets, soaks; resumable, results as JSON
	$(PY) -m tests.verify $(ARGS)

experiments: $(STAMPS)/dev $(BUILT) models ## repeat the experiments of docs/experiments.md
	@set -e; found=; for script in experiments/*.py; do [ -e "$$script" ] || continue; found=1; \
		echo "== $$script"; $(PY) "$$script" $(ARGS); done; \
	[ -n "$$found" ] || echo "no experiment has been registered yet; see docs/experiments.md"

SECONDS ?= 60
fuzz: $(PY) ## the readers on inputs that nobody meant: SECONDS of processor time for each target
	@$(PY) tools/fuzz.py --seconds $(SECONDS) $(ARGS)

clean: ## remove what was built; downloaded models and .cache stay
	rm -rf target fuzz/target $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	rm -f python/densecore/_core*.so
