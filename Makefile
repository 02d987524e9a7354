# A thin face on the command `digit-recognizer`; `make` prints the targets.

.DEFAULT_GOAL := help
PYTHON ?= python3
DATA_DIR ?= data
# An NVIDIA driver is there or not; GPU=0 and GPU=1 overrule that.
GPU ?= $(if $(wildcard /proc/driver/nvidia/version),1,0)

KIT := .venv/bin/digit-recognizer
STAMP := .venv/.setup-$(if $(filter 1,$(GPU)),gpu,cpu)
DRAW := .venv/.draw
BROWSER_TESTS := .venv/.browser
LOGS := .venv/.tensorboard

# $(call option,VARIABLE,--flag) is the flag with the variable's value, where that is set.
quoted = '$(subst ','\'',$(1))'
option = $(if $($(1)),$(2) $(call quoted,$($(1))))
switch = $(if $(filter 1,$($(1))),$(2))
data = --data-dir $(call quoted,$(DATA_DIR))
run = $(call option,RUN,--run)
json = $(call switch,JSON,--json)
settings = $(call option,PRESET,--preset) $(call option,FOLDS,--folds) $(call option,MEMBERS,--members) \
	$(call option,VALIDATION,--validation) \
	$(call option,EPOCHS,--epochs) $(call option,SEED,--seed) \
	$(if $(AUGMENT),$(if $(filter 0,$(AUGMENT)),--no-augment,--augment))

.NOTPARALLEL: # the targets of one command are stages, in their order
.PHONY: help setup download train evaluate report compare submission submit kernel push kernel-status \
	kernel-output bench demo predict spotter bench-handwriting draw test test-browser test-slow test-kaggle-image \
	lint clean

help: ## Print the targets.
	@echo 'usage: make TARGET ... [VARIABLE=value ...]'
	@sed -n 's/^\([a-z-]*\):.*## /  \1#/p' $(MAKEFILE_LIST) | awk -F'#' '{printf "%-20s%s\n", $$1, $$2}'

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

train: setup $(if $(filter 1,$(TENSORBOARD)),$(LOGS)) ## Train. PRESET=fast|single|best FOLDS= MEMBERS= EPOCHS= SEED= AUGMENT=0|1 VALIDATION=0.1 RUN= TENSORBOARD=1
	@$(KIT) train $(settings) $(run) $(data) $(call switch,TENSORBOARD,--tensorboard) $(json)

evaluate: setup ## Print scores and draw figures of the latest run, or RUN=.
	@$(KIT) evaluate $(run) $(data) $(json)

report: setup ## Write reports/<run>/report.html and report.md of the latest run, or RUN=.
	@$(KIT) report $(run) $(data)

compare: setup ## Put two runs side by side. RUNS="a b"
	@$(KIT) compare $(foreach name,$(RUNS),$(call quoted,$(name))) $(data) $(json)

submission: setup ## Write submissions/<run>/submission.csv for test.csv.
	@$(KIT) submission $(run) $(data)

submit: setup ## Upload the submission, wait for its score. MESSAGE= FORCE=1: once more. KERNEL=1: the kernel's.
	@$(KIT) submit $(run) $(data) $(call option,MESSAGE,--message) $(call switch,FORCE,--force) \
		$(call switch,KERNEL,--kernel) $(json)

kernel: setup ## Build the notebook for Kaggle, kernel/digit-recognizer.ipynb, from src.
	@$(KIT) kernel

push: setup ## Run the notebook at Kaggle, wait for it, fetch what it made. Settings of train, HOURS=11
	@$(KIT) push $(settings) $(call option,HOURS,--hours)

kernel-status: setup ## Print what Kaggle says of the notebook's latest version.
	@$(KIT) kernel-status

kernel-output: setup ## Fetch what the notebook's latest version made, compare it with the local run.
	@$(KIT) kernel-output

bench: setup ## Measure the kit beside other people's recipes (two hours). ABLATION=1: settings beside each other.
	@.venv/bin/python -m benchmarks.benchmark $(data) $(call switch,ABLATION,--ablation) $(json)

demo: setup ## Do all of it without an account, on digits that scikit-learn ships.
	@$(KIT) demo

predict: setup ## Read handwritten digits. IMAGES="a.jpg folder" EXPECT=7 LABELS=labels.csv RUN= JSON=1
	@$(KIT) predict $(IMAGES) $(run) $(call option,EXPECT,--expect) $(call option,LABELS,--labels) $(json)

spotter: setup ## Train again the network that finds digits in lines (minutes).
	@.venv/bin/python -m benchmarks.train_detector $(data)

bench-handwriting: setup ## Measure how made pictures are read, by kind of difficulty (minutes). RUN=
	@.venv/bin/python -m benchmarks.handwriting $(run) $(data)

draw: setup $(DRAW) ## Open a page to draw digits on, or to drop pictures on. RUN= PORT=8028 NO_BROWSER=1
	@$(KIT) draw $(run) $(data) $(call option,PORT,--port) $(call switch,NO_BROWSER,--no-browser)

$(DRAW) $(BROWSER_TESTS) $(LOGS): .venv/.%: requirements-%.txt | $(STAMP)
	@echo 'Installing $< into .venv ...'
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

test: setup $(DRAW) ## Run the tests (under five minutes).
	@.venv/bin/python -m pytest

test-browser: setup $(DRAW) $(BROWSER_TESTS) ## Draw on the page in a headless Chromium (apt-get install chromium).
	@.venv/bin/python -m pytest -m browser

test-slow: setup ## Run the tests that take longer.
	@.venv/bin/python -m pytest -m slow

test-kaggle-image: setup ## Run the notebook with Kaggle's own versions (a temporary environment of 2 GB).
	@.venv/bin/python -m pytest -m kaggle_image

lint: setup ## Check style and format.
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

clean: ## Delete what was made; asks before it deletes downloaded data or trained models.
	rm -rf .pytest_cache .ruff_cache build demo src/*.egg-info .venv
	find src tests -name __pycache__ -prune -exec rm -rf {} +
	@for folder in $(call quoted,$(DATA_DIR)) models reports bench; do \
		test -e "$$folder" || continue; \
		printf 'Delete %s too? [y/N] ' "$$folder"; read answer || echo; \
		case "$$answer" in y|Y|yes) rm -rf "$$folder" && echo "$$folder is gone";; *) echo "$$folder is kept";; esac; \
	done
