# A thin face on the command `digit-recognizer`; `make` prints the targets.

.DEFAULT_GOAL := help
PYTHON ?= python3
DATA_DIR ?= data
# An NVIDIA driver is there or not; GPU=0 and GPU=1 overrule that.
GPU ?= $(if $(wildcard /proc/driver/nvidia/version),1,0)

KIT := .venv/bin/digit-recognizer
STAMP := .venv/.setup-$(if $(filter 1,$(GPU)),gpu,cpu)

# $(call option,VARIABLE,--flag) is the flag with the variable's value, where that is set.
quoted = '$(subst ','\'',$(1))'
option = $(if $($(1)),$(2) $(call quoted,$($(1))))
switch = $(if $(filter 1,$($(1))),$(2))
data = --data-dir $(call quoted,$(DATA_DIR))
run = $(call option,RUN,--run)
json = $(call switch,JSON,--json)
settings = $(call option,PRESET,--preset) $(call option,FOLDS,--folds) $(call option,VALIDATION,--validation) \
	$(call option,EPOCHS,--epochs) $(call option,SEED,--seed) \
	$(if $(AUGMENT),$(if $(filter 0,$(AUGMENT)),--no-augment,--augment))

.NOTPARALLEL: # the targets of one command are stages, in their order
.PHONY: help setup download train evaluate submission submit demo test test-slow lint clean

help: ## Print the targets.
	@echo 'usage: make TARGET ... [VARIABLE=value ...]'
	@sed -n 's/^\([a-z-]*\):.*## /  \1#/p' $(MAKEFILE_LIST) | awk -F'#' '{printf "%-14s%s\n", $$1, $$2}'

setup: $(STAMP) ## Build .venv, once and again when the requirements change. GPU=1: with CUDA.

$(STAMP): requirements.txt pyproject.toml
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo 'Installing the requirements into .venv (about a minute) ...'
	@sed -e '$(if $(filter 1,$(GPU)),s/^tensorflow-cpu==\([^;]*\).*/tensorflow[and-cuda]==\1/)' requirements.txt \
		>.venv/requirements.txt
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r .venv/requirements.txt
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@# 300 MB of headers to compile TensorFlow's operators with, which nothing here does.
	@rm -rf .venv/lib/python*/site-packages/tensorflow/include
	@rm -f .venv/.setup-* && touch $@

download: setup ## Fetch the competition's files into DATA_DIR=data. FORCE=1: again.
	@$(KIT) download $(data) $(call switch,FORCE,--force)

train: setup ## Train. PRESET=fast|single FOLDS= VALIDATION=0.1 EPOCHS= SEED= AUGMENT=0|1 RUN=
	@$(KIT) train $(settings) $(run) $(data) $(json)

evaluate: setup ## Print scores and draw figures of the latest run, or RUN=.
	@$(KIT) evaluate $(run) $(data) $(json)

submission: setup ## Write submissions/<run>/submission.csv for test.csv.
	@$(KIT) submission $(run) $(data)

submit: setup ## Upload the submission, wait for its score. MESSAGE= FORCE=1: even if submitted before.
	@$(KIT) submit $(run) $(data) $(call option,MESSAGE,--message) $(call switch,FORCE,--force) $(json)

demo: setup ## Do all of it without an account, on digits that scikit-learn ships.
	@$(KIT) demo

test: setup ## Run the tests (under five minutes).
	@.venv/bin/python -m pytest

test-slow: setup ## Run the tests that take longer.
	@.venv/bin/python -m pytest -m slow

lint: setup ## Check style and format.
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

clean: ## Delete what was made; asks before it deletes downloaded data or trained models.
	rm -rf .pytest_cache .ruff_cache build demo src/*.egg-info .venv
	find src tests -name __pycache__ -prune -exec rm -rf {} +
	@for folder in $(call quoted,$(DATA_DIR)) models; do \
		test -e "$$folder" || continue; \
		printf 'Delete %s too? [y/N] ' "$$folder"; read answer || echo; \
		case "$$answer" in y|Y|yes) rm -rf "$$folder" && echo "$$folder is gone";; *) echo "$$folder is kept";; esac; \
	done
