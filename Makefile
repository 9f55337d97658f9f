# Every task of the project by one name. `make` alone lists them.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
DATA_DIR ?= ./data
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := models service training tests bench

.DEFAULT_GOAL := help
.PHONY: help install run test lint format bench recogniser detector container-test clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv with the service, the training and the developer's tools

# One pip call for all extras: pip then sees torch's bound together with everything else, and cannot
# swap the build that the machine's pip configuration prefers. `python -m pip` does not care how long
# the path is, which a `#!` line does.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "facemargin needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) cannot create environments (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[serve,postgres,tracing,train,dev]'
	@touch $@

run: install ## Start the service on 127.0.0.1:8000 (HOST=, PORT= and DATA_DIR= change that)
	@exec $(BIN)/facemargin serve --host $(HOST) --port $(PORT) --data-dir $(DATA_DIR)

# The two halves never share a process when they are used. In one process a training test once crashed beside FAISS
# and OpenVINO (each brings its own threads; the cause is not proved): hence
# two runs. The page has a third: what drives the browser keeps an event loop, in which no other test can start one.
test: install ## Run the tests
	$(BIN)/python -m pytest --ignore=tests/training --ignore=tests/page
	$(BIN)/python -m pytest tests/page
	$(BIN)/python -m pytest tests/training

lint: install ## Check style, types and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## Run every benchmark and gather bench/results.json
	@rm -rf build/bench && mkdir -p build/bench
	@set -e; for script in bench/*.py; do \
	  echo "$$script"; $(BIN)/python "$$script" --json "build/bench/$$(basename "$$script" .py).json"; done
	@$(BIN)/python -c 'import json, pathlib; \
	  found = sorted(pathlib.Path("build/bench").glob("*.json")); \
	  pathlib.Path("bench/results.json").write_text(json.dumps([json.loads(p.read_text()) for p in found], indent=1) + "\n")'
	@echo "bench/results.json"

# ../shared holds the research photos and the teachers, as in the recipes: they are no part of this project.
recogniser: install ## Train a recogniser like the shipped one from random weights (four hours on two cores; SET= overrides)
	@for name in faces-train-identified cfp-dev; do \
	  mkdir -p build/$$name && tar -xzf ../shared/data/$$name.tar.gz -C build/$$name || exit 1; done
	$(BIN)/torchrun --standalone --nproc-per-node=2 -m training train training/configs/recogniser.yaml $(SET)
	$(BIN)/facemargin fit-means runs/facemargin-s/checkpoint.safetensors --images build/faces-train-identified \
	  --output runs/facemargin-s/fitted.safetensors
	$(BIN)/facemargin fit-quality runs/facemargin-s/fitted.safetensors --images build/faces-train-identified
	$(BIN)/facemargin fit-int8 runs/facemargin-s/fitted.safetensors --images build/faces-train-identified \
	  --layers 'features.*.layers.*'
	$(BIN)/facemargin calibrate runs/facemargin-s/fitted.safetensors --images build/cfp-dev

detector: install ## Train a detector like the shipped one from random weights (some three hours; SET= overrides)
	$(BIN)/facemargin train training/configs/detector-*.yaml $(SET)
	$(BIN)/facemargin fit-statistics runs/facemargin-det/checkpoint.safetensors --photos ../shared/data/photos.tar \
	  --source wider-train --share 1 --looks runs/detector-2-looks/checkpoint.safetensors \
	  --output runs/facemargin-det/fitted.safetensors
	mkdir -p build && tar -xf ../shared/data/photos.tar -C build wider-train
	$(BIN)/facemargin fit-int8 runs/facemargin-det/fitted.safetensors --images build/wider-train --layers 'st*'

container-test: install ## Build the image, run it read-only, use it, kill it, look again (needs docker)
	$(BIN)/python tests/container/run.py

clean: ## Remove what the targets above made, except the gallery in ./data
	rm -rf $(VENV) build bench/results.json *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +
