# Thin wrapper around the `digit-recognizer` command; `make` alone prints the targets.

.DEFAULT_GOAL := help
PYTHON ?= python3
DATA_DIR ?= data
# GPU=1 installs TensorFlow with CUDA; the default is what was installed before, at first 1 if there is an NVIDIA driver.
GPU ?= $(if $(wildcard .venv/.setup-gpu),1,$(if $(wildcard .venv/.setup-cpu),0,$(if $(shell command -v nvidia-smi),1,0)))

KIT := .venv/bin/digit-recognizer
SITE_PACKAGES = .venv/lib/python*/site-packages
VARIANT := $(if $(filter 1,$(GPU)),gpu,cpu)
STAMP := .venv/.setup-$(VARIANT)
OTHER := .venv/.setup-$(if $(filter 1,$(GPU)),cpu,gpu)
INSTALL := .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# $(call option,VARIABLE,--flag): the flag with the value of the variable, if it is set.
quoted = '$(subst ','\'',$(1))'
option = $(if $($(1)),$(2) $(call quoted,$($(1))))
switch = $(if $(filter 1,$($(1))),$(2))
data = --data-dir $(call quoted,$(DATA_DIR))
run = $(call option,RUN,--run)
json = $(call switch,JSON,--json)
settings = $(call option,PRESET,--preset) $(call option,FOLDS,--folds) $(call option,MEMBERS,--members) \
	$(call option,VALIDATION,--validation) \
	$(call option,EPOCHS,--epochs) $(call option,SEED,--seed) $(call option,PRECISION,--precision) \
	$(if $(AUGMENT),$(if $(filter 0,$(AUGMENT)),--no-augment,--augment))

.NOTPARALLEL: # the targets of one command run in their order
.PHONY: help setup doctor download train evaluate report compare submission submit kernel push \
	kernel-output bench ablation demo predict detector bundled bench-handwriting pictures draw export handwriting test \
	test-browser test-slow test-cluster test-benchmarks test-kaggle-image lint clean

##@ Start

help: ## Print the targets.
	@echo 'usage: make TARGET ... [VARIABLE=value ...]'
	@awk 'sub(/^##@ /, "") {print "\n" $$0; next} \
		match($$0, /^[a-z-]+:.*## /) {split($$0, target, ":"); printf "  %-19s%s\n", target[1], substr($$0, RLENGTH + 1)}' \
		$(firstword $(MAKEFILE_LIST))

setup: $(STAMP) $(if $(CLUSTER),.venv/.cluster) ## Create .venv; repeated when the dependencies change. GPU=1: with CUDA, CLUSTER=1: with Ray

$(STAMP): pyproject.toml constraints.txt
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo 'Installing the dependencies into .venv (about a minute) ...'
	@# Both packages of TensorFlow have the same files: the other one goes first.
	@test ! -e $(OTHER) || .venv/bin/python -m pip uninstall --quiet --yes tensorflow tensorflow-cpu
	@$(INSTALL) --no-compile --editable '.[$(VARIANT)]'
	@# 300 MB of headers that are only needed to compile TensorFlow operators.
	@rm -rf $(SITE_PACKAGES)/tensorflow/include
	@# In parallel, and also where PYTHONDONTWRITEBYTECODE is set: without bytecode TensorFlow's import takes 3 times as long.
	@.venv/bin/python -m compileall -q -j0 -x '/tests/' $(SITE_PACKAGES) >.venv/compile.log || true
	@rm -f .venv/.setup-* && touch $@

doctor: setup ## Check everything that the other targets need, and print what to do about each fault.
	@$(KIT) doctor $(data)

demo: setup ## Run all stages without an account, on the digits of scikit-learn.
	@$(KIT) demo

##@ Train and submit

download: setup ## Download the competition's files to DATA_DIR=data. FORCE=1: again
	@$(KIT) download $(data) $(call switch,FORCE,--force)

train: setup ## Train. PRESET=fast|single|best|max FOLDS= MEMBERS= EPOCHS= SEED= AUGMENT=0|1 VALIDATION=0.1 PRECISION= RUN= CLUSTER=auto
	@$(KIT) train $(settings) $(run) $(data) $(call option,CLUSTER,--cluster)

submission: setup ## Predict test.csv and write submissions/<run>/submission.csv. RUN= TEST=other.csv
	@$(KIT) submission $(run) $(data) $(call option,TEST,--test-file)

submit: setup ## Upload the submission and wait for its score. RUN= MESSAGE= FORCE=1: again, although not plausible.
	@$(KIT) submit $(run) $(data) $(call option,MESSAGE,--message) $(call switch,FORCE,--force)

##@ Evaluate

evaluate: setup ## Print the scores and draw the figures of the latest run, or of RUN=. JSON=1
	@$(KIT) evaluate $(run) $(data) $(json)

report: setup ## Write reports/<run>/report.html and report.md for the latest run, or for RUN=.
	@$(KIT) report $(run) $(data)

compare: setup ## Compare two or more runs. RUNS="a b", RUNS="single-*" JSON=1
	@$(KIT) compare $(foreach name,$(RUNS),$(call quoted,$(name))) $(json)

##@ Read handwriting

predict: setup ## Read handwritten digits. IMAGES="a.jpg folder" EXPECT=7 LABELS=labels.csv REFUSE=0.3 RUN= JSON=1
	@$(KIT) predict $(IMAGES) $(run) $(call option,EXPECT,--expect) $(call option,LABELS,--labels) \
		$(call option,REFUSE,--refuse) $(json)

draw: setup ## Open a page to draw digits on or to drop images on. RUN= PORT=8028 REFUSE=0.3 NO_BROWSER=1
	@$(KIT) draw $(run) $(data) $(call option,PORT,--port) $(call option,REFUSE,--refuse) $(call switch,NO_BROWSER,--no-browser)

export: setup ## Write the page as static files with the network in the browser, for any web server. RUN= PAGE=page
	@$(KIT) export $(call option,PAGE) $(run)

handwriting: setup ## Read the drawings that the page saved, and score what is read. RUN= JSON=1
	@$(KIT) predict $(call quoted,$(DATA_DIR)/handwriting) $(run) $(json)

##@ Kaggle notebook

kernel: setup ## Build the notebook kernel/digit-recognizer.ipynb from src.
	@$(KIT) kernel

push: setup ## Run the notebook on Kaggle, wait for it and download its output. Settings of train
	@$(KIT) push $(settings)

kernel-output: setup ## Download the output of the notebook's latest version and compare it with the local run.
	@$(KIT) kernel-output

##@ Develop

test: setup .venv/.test ## Run the tests (a minute or two).
	@.venv/bin/python -m pytest -n logical --maxprocesses 4

test-slow: setup .venv/.test ## Run the tests that take longer.
	@.venv/bin/python -m pytest -m slow -n logical --maxprocesses 4

test-browser: setup .venv/.test .venv/.browser ## Test the drawing page in a headless Chromium (apt-get install chromium).
	@.venv/bin/python -m pytest -m browser

test-cluster: setup .venv/.test .venv/.cluster ## Test trainings on a Ray cluster of two nodes on this machine (minutes).
	@.venv/bin/python -m pytest -m cluster

test-benchmarks: setup .venv/.test .venv/.bench ## Test the trainings of the benchmarks (minutes).
	@.venv/bin/python -m pytest -m benchmarks

test-kaggle-image: setup .venv/.test ## Run the notebook with Kaggle's versions (a temporary environment of 2 GB).
	@.venv/bin/python -m pytest -m kaggle_image

lint: setup .venv/.lint ## Check style, format and types.
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

bench: setup $(if $(filter peers,$(or $(PARTS),peers)),.venv/.bench) ## Benchmark against other recipes (two hours). PARTS="engine small single" JSON=1
	@.venv/bin/python -m benchmarks.benchmark $(data) $(call option,PARTS,--parts) $(json)

ablation: setup ## Compare settings of the preset single (over an hour). ONLY="first convolution padded" SEEDS="0 1 2"
	@.venv/bin/python -m benchmarks.ablation $(data) $(call option,ONLY,--only) $(call option,SEEDS,--seeds)

bench-handwriting: setup ## Measure how synthetic handwriting is read, by kind of difficulty (minutes). RUN=
	@.venv/bin/python -m benchmarks.handwriting $(run) $(data)

detector: setup ## Retrain the network that finds digits in lines (minutes).
	@.venv/bin/python -m benchmarks.train_detector $(data)

pictures: setup .venv/.browser ## Make the pictures of README and docs (apt-get install chromium). RUN=
	@.venv/bin/python -m benchmarks.make_pictures $(run) $(data)
	@.venv/bin/python -m benchmarks.animate_page

bundled: setup ## Replace the network that the package ships by that of a finished run. RUN=
	@.venv/bin/python -m benchmarks.bundle_network $(run)

clean: ## Delete what can be made again; asks before it deletes downloaded data or trained models.
	rm -rf .mypy_cache .pytest_cache .ruff_cache build demo kernel/output page predictions src/*.egg-info .venv
	find src benchmarks tests -name __pycache__ -prune -exec rm -rf {} +
	@for folder in $(call quoted,$(DATA_DIR)) models reports bench; do \
		test -e "$$folder" || continue; \
		printf 'Delete %s too? [y/N] ' "$$folder"; read answer || echo; \
		case "$$answer" in y|Y|yes) rm -rf "$$folder" && echo "deleted $$folder";; *) echo "kept $$folder";; esac; \
	done

# Extras that only one target needs.
.venv/.bench .venv/.browser .venv/.cluster .venv/.lint .venv/.test: .venv/.%: pyproject.toml constraints.txt | $(STAMP)
	@echo 'Installing the extra $* into .venv ...'
	@$(INSTALL) --editable '.[$*]'
	@touch $@
