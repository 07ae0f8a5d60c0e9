# Needs Python 3.11 or newer, git and make. Everything else is installed into .venv.
PYTHON ?=
# For the two cores that this is sized for: tests of failovers and servers wait more than they compute
# (five keep nine tenths of two cores busy, and six no more). Each costs eight seconds of processor
# time, for imports and to collect the tests.
WORKERS ?= 5
EXAMPLES ?= 200
SUITES ?= tests

# Certificates that the machine trusts, as pip and git do.
export UV_SYSTEM_CERTS ?= 1

# Many tests start processes of their own: each would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
RUN := $(BIN)/python
STAMP := .venv/.installed
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MEMBERS := -e ./protos -e ./server -e './sdk[arrow,polars,pandas]' -e '.[redis,server,pandas,demo]'
MANIFESTS := pyproject.toml protos/pyproject.toml server/pyproject.toml sdk/pyproject.toml
SOURCES := $(wildcard featurestore protos/generate.py server sdk tests benchmarks examples)
RELEASED := protos/released.binpb
PYTEST := $(RUN) -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: setup demo test check bench protos released proof differential constraints clean help

setup: $(STAMP) ## make .venv and install everything into it (again only when something changed)

$(RUN):
	@for python in $(PYTHON) python3.11 python3 python; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making .venv with $$($$python --version)"; exec $$python -m venv .venv; fi; \
	done; \
	echo "No Python 3.11 or newer found. Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1

# uv takes seconds where pip takes a minute. pip stays the fallback: it knows the user's own pip.conf.
$(STAMP): $(MANIFESTS) constraints.txt | $(RUN)
	@$(PIP) uv
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --compile-bytecode --constraint constraints.txt $(MEMBERS) --group dev || { \
	  echo "uv could not install everything (see above); trying pip"; \
	  $(PIP) --upgrade pip && $(PIP) $(MEMBERS) --group dev; }
	@touch $@

demo: setup ## from an empty folder to served features, on the flights of 2013
	@rm -rf build/demo && mkdir -p build
	@$(BIN)/featurestore init --template flights build/demo
	@$(RUN) build/demo/demo.py

test: setup ## every suite, in eight to ten minutes on two cores (SUITES=tests/unit for one of them)
	@HYPOTHESIS_PROFILE=ci $(PYTEST) $(SUITES)

proof: setup ## the same suites with far more examples (EXAMPLES=5000 for a weekend), and the tests marked proof
	@HYPOTHESIS_PROFILE=proof PROOF_EXAMPLES=$(EXAMPLES) $(PYTEST) -o faulthandler_timeout=7200 -m "not differential" $(SUITES)

differential: setup ## training sets beside Feast's, which is installed into an environment of its own
	@$(RUN) -m pytest tests/differential -m differential

check: setup ## format, lint, types, import contracts, protos, image, wheels
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy --num-workers 2 $(filter-out examples,$(SOURCES))
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/basedpyright --verifytypes featurestore_sdk --ignoreexternal
	$(BIN)/lint-imports --no-logo
	$(RUN) protos/generate.py --check
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against $(RELEASED)
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/docker-compose.yml
	$(RUN) -m tests.repo.check_wheels

bench: setup ## every workload at reduced size
	@$(RUN) -m benchmarks run --all --size reduced

protos: setup ## generate protos/featurestore_protos from the .proto files
	@$(BIN)/uv run --isolated --no-project --python $(RUN) \
	  --with grpcio-tools==1.76.0 --with mypy-protobuf==5.1.0 python protos/generate.py

released: setup ## record the protos as what clients in the field know, which later ones must not break
	@$(BIN)/buf build protos --exclude-source-info --path protos/featurestore/v1 -o $(RELEASED)

constraints: setup ## choose the newest versions that pyproject.toml allows
	@$(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --no-emit-package featurestore --no-emit-package featurestore-protos \
	  --no-emit-package featurestore-server --no-emit-package featurestore-sdk \
	  --all-extras --group dev $(MANIFESTS) --output-file constraints.txt

clean: ## remove .venv and everything that was made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
