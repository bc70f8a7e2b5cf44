# The commands of a working day. Each sets up what it needs; `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEWEST_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
# An environment whose Python is too old or gone, or that was left without pip, is made anew with all that was in it.
ifeq ($(shell $(BIN)/python -c 'import pip; $(NEWEST_ENOUGH)' 2>/dev/null && echo sound),sound)
ENVIRONMENT := | $(BIN)/python
else
ENVIRONMENT := $(BIN)/python
.PHONY: $(BIN)/python
endif
TRAINING := .training-venv
PIP_FLAGS := --disable-pip-version-check --quiet
# Releases of the vendor's Python SDK, from the oldest that is still in use.
SDKS := 1.22.2 1.24.6 1.25.24 1.27.8 2.0.2

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c '$(NEWEST_ENOUGH)' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, which $(PYTHON) is not: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

# A stamp newer than its requirements means that they are installed.
$(VENV)/.serve: requirements.txt pyproject.toml $(ENVIRONMENT)
	@echo "Installing Ownstudio into $(VENV) ..."
	@$(BIN)/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.serve
	@echo "Installing the tools for tests and checks into $(VENV) ..."
	@$(BIN)/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements-dev.txt
	@touch $@

# Each release in an environment of its own, since they need different versions of the same packages.
$(VENV)/sdks/%/.done: $(ENVIRONMENT)
	@echo "Installing dashscope $* into $(VENV)/sdks ..."
	@$(PYTHON) -m venv --clear $(VENV)/sdks/$* && $(VENV)/sdks/$*/bin/pip install $(PIP_FLAGS) dashscope==$* && touch $@

# PyTorch is large, and nothing but training needs it.
$(TRAINING)/.done: training/requirements.txt
	@$(PYTHON) -c '$(NEWEST_ENOUGH)' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing what training needs into $(TRAINING) ..."
	@$(PYTHON) -m venv --clear $(TRAINING) && $(TRAINING)/bin/pip install $(PIP_FLAGS) -r training/requirements.txt && touch $@

setup: $(VENV)/.serve  ## set up what is missing in .venv
dev: $(VENV)/.dev  ## the same, with the tools for tests and checks

serve: $(VENV)/.serve  ## set up what is missing, then serve on 127.0.0.1:8000
	@exec $(BIN)/ownstudio serve

test: $(VENV)/.dev  ## set up what is missing, then run every test
	$(BIN)/python -m pytest

test-sdks: $(VENV)/.dev $(SDKS:%=$(VENV)/sdks/%/.done)  ## the tests with several releases of the vendor's SDK
	DASHSCOPE_TEST_SDKS="$(SDKS)" $(BIN)/python -m pytest tests/sdk

check: $(VENV)/.dev  ## format, lint, types, layers, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m ownstudio.app.documents --check

fmt: $(VENV)/.dev  ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.serve  ## write the generated pages anew
	$(BIN)/python -m ownstudio.app.documents

test-model: $(VENV)/.dev  ## how the bundled model does in the pages' tool loops
	$(BIN)/python -m pytest -m model

train: $(TRAINING)/.done  ## train the bundled model anew; some two hours, resumes where it was stopped
	nice -n 19 $(TRAINING)/bin/python -m training

evaluate: $(TRAINING)/.done  ## the bundled model's table of goals; some minutes
	$(TRAINING)/bin/python -m training.evaluate

test-training: $(TRAINING)/.done  ## tests of the network that is trained, with PyTorch
	$(TRAINING)/bin/python -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -q tests/training/network.py

test-kills: $(VENV)/.dev  ## fifty kill -9 under load, then every bill checked; some four minutes
	KILLS=50 $(BIN)/python -m pytest tests/app/test_kills.py

test-families: $(VENV)/.dev  ## prompts against publishers' chat templates, FAMILY.jinja in TEMPLATES=directory
	OWNSTUDIO_TEMPLATES="$(TEMPLATES)" $(BIN)/python -m pytest tests/qwen/publisher_templates.py

fuzz: $(VENV)/.dev  ## a minute of random cuts through the parser of answers
	$(BIN)/python tests/qwen/fuzz_parser.py 60

bench: $(VENV)/.dev  ## the budgets, as ratios measured side by side
	$(BIN)/python -m benchmarks

bench-litellm: $(VENV)/.dev  ## the same against LiteLLM's proxy
	$(BIN)/python -m benchmarks.litellm

lock: $(VENV)/.dev  ## pin the dependencies anew
	$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links -o requirements.txt pyproject.toml requirements-build.in
	$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links -c requirements.txt -o requirements-dev.txt requirements-dev.in

clean:  ## remove what setup made
	rm -rf $(VENV) $(TRAINING)

.PHONY: train evaluate test-training test-kills test-families test-model help setup dev serve test test-sdks check fmt docs fuzz bench bench-litellm lock clean
