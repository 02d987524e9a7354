# Thin wrapper around the `digit-recognizer` command; `make` alone prints the targets.

.DEFAULT_GOAL := help
DATA_DIR ?= data

# The kind of TensorFlow: GPU=, or what was installed before, at first with CUDA if there is an NVIDIA driver.
KIND := $(or $(if $(filter 1,$(GPU)),gpu,$(if $(filter 0,$(GPU)),cpu)),$(shell cat .venv/.kind 2>/dev/null),$(if \
	$(shell command -v nvidia-smi),gpu,cpu))
KIT := .venv/bin/digit-recognizer
SITE_PACKAGES = .venv/lib/python*/site-packages

# Settings of other projects; of pip's, those of the network are kept.
unexport $(filter PYTHON% KERAS_% TF_USE_LEGACY_KERAS RAY_ADDRESS,$(.VARIABLES)) $(filter-out \
	$(addprefix PIP_,CACHE_DIR CERT CLIENT_CERT CONFIG_FILE DEFAULT_TIMEOUT EXTRA_INDEX_URL FIND_LINKS INDEX_URL \
	KEYRING_PROVIDER NO_INDEX PROXY RETRIES TRUSTED_HOST),$(filter PIP_%,$(.VARIABLES)))

# $(call option,VARIABLE,--flag): the flag with the value of the variable, if it is set, unchanged by make and the shell.
quoted = '$(subst ','\'',$(1))'
option = $(if $(value $(1)),$(2) $(call quoted,$(value $(1))))
# A path: also with a leading ~, which zsh and dash leave in `make train DATA_DIR=~/data`.
home = $(subst '~',~,$(subst '~/,~/',$(1)))
path = $(call home,$(call option,$(1),$(2)))
switch = $(if $(filter 1,$(value $(1))),$(2))
data = $(call path,DATA_DIR,--data-dir)
run = $(call option,RUN,--run)
force = $(if $(filter command,$(origin FORCE)),$(call switch,FORCE,--force))
json = $(call switch,JSON,--json)
settings = $(call option,PRESET,--preset) $(call option,FOLDS,--folds) $(call option,MEMBERS,--members) \
	$(call option,VALIDATION,--validation) \
	$(call option,EPOCHS,--epochs) $(call option,SEED,--seed) $(call option,PRECISION,--precision) \
	$(if $(AUGMENT),$(if $(filter 0,$(AUGMENT)),--no-augment,--augment))

# $(call install,REQUIREMENT): an interruption leaves .venv/.installing, and the environment is made again.
install = trap 'exit 1' HUP INT TERM; touch .venv/.installing; \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt --editable $(1) || { \
		rm .venv/.installing; \
		echo 'pip failed; ".venv/bin/python -m pip config debug" prints the settings that it read, with their files' >&2; \
		exit 1; \
	}; rm .venv/.installing

.NOTPARALLEL: # the targets of one command run in their order
.PHONY: help setup try doctor download train evaluate report compare submission submit kernel push \
	kernel-output bench ablation demo predict detector bundled bench-handwriting pictures draw export handwriting test \
	test-browser test-slow test-cluster test-benchmarks test-install test-kaggle-image lint clean

##@ Start

help: ## Print the targets.
	@echo 'usage: make TARGET ... [VARIABLE=value ...]'
	@awk 'sub(/^##@ /, "") {print "\n" $$0; next} \
		match($$0, /^[a-z-]+:.*## /) {split($$0, target, ":"); printf "  %-19s%s\n", target[1], substr($$0, RLENGTH + 1)}' \
		$(firstword $(MAKEFILE_LIST))

setup: try .venv/.setup $(if $(CLUSTER),.venv/.cluster) ## Create .venv, or repair it. PYTHON=python3.12, GPU=1: with CUDA, CLUSTER=1: with Ray

# What cannot work is made again: interrupted, moved, copied, of another kind, without its interpreter or its packages.
try:
	@test ! -e .venv/.installing && test "$$(cat .venv/.kind 2>/dev/null)" = $(KIND) && .venv/bin/python -I -c 'import \
	importlib.metadata as metadata, importlib.util, numpy, os, pip, re; \
	assert os.path.samefile(importlib.util.find_spec("digit_recognizer").origin, "src/digit_recognizer/__init__.py"); \
	names = [re.match("[a-z0-9-]+", text)[0] for text in metadata.requires("digit-recognizer") if "extra" not in text]; \
	versions = [metadata.version(name) for name in names]; \
	both = [*metadata.distributions(name="tensorflow"), *metadata.distributions(name="tensorflow-cpu")]; \
	assert len(both) == 1' 2>/dev/null || rm -f .venv/.setup

.venv/.setup: pyproject.toml constraints.txt
	@test -e $@ || { \
		case "$$(uname -sm)" in 'Linux x86_64'|'Linux aarch64'|'Darwin arm64') test ! -e /etc/alpine-release;; *) false;; esac || { \
			echo 'TensorFlow has no packages for this system; README.md lists those for which it has' >&2; exit 1; \
		}; \
		for python in $(if $(PYTHON),$(call home,$(call quoted,$(value PYTHON))),python3.13 python3.12 python3.11 python3) ''; do \
			"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break; \
		done; \
		test "$$python" || { \
			echo $(call quoted,$(or $(value PYTHON),python3))' is not Python 3.11, 3.12 or 3.13, which TensorFlow needs; Debian and Ubuntu:' \
				'sudo apt install python3.13-venv; Fedora: sudo dnf install python3.13; macOS: brew install python@3.13;' \
				'or on each: uv python install 3.13' >&2; exit 1; \
		}; \
		"$$python" -c 'import ensurepip' 2>/dev/null || { \
			echo "$$python has no pip for environments; sudo apt install $$(basename "$$python")-venv" >&2; exit 1; \
		}; \
		echo "Creating .venv with $$("$$python" --version) ..."; \
		"$$python" -m venv --clear .venv && echo $(KIND) >.venv/.kind; \
	}
	@# Settings of a pip.conf that would install elsewhere; those of the network are kept.
	@printf '[%s]\nno-deps =\nprefix =\npython =\nrequire-hashes =\nroot =\ntarget =\nuser =\n' global install >.venv/pip.conf
	@echo 'Installing the dependencies into .venv (about a minute) ...'
	@$(call install,'.[$(KIND)]')
	@# 300 MB of headers that are only needed to compile TensorFlow operators.
	@rm -rf $(SITE_PACKAGES)/tensorflow/include
	@# In parallel: without bytecode TensorFlow's import takes 3 times as long.
	@.venv/bin/python -m compileall -q -j0 -x '/tests/' $(SITE_PACKAGES) >.venv/compile.log || true
	@touch $@

doctor: setup ## Check everything that the other targets need, and print what to do about each fault.
	@$(KIT) doctor $(data)

demo: setup ## Run all stages without an account, on the digits of scikit-learn.
	@$(KIT) demo

##@ Train and submit

download: setup ## Download the competition's files to DATA_DIR=data. FORCE=1: again
	@$(KIT) download $(data) $(force)

train: setup ## Train. PRESET=fast|single|best|max FOLDS= MEMBERS= EPOCHS= SEED= AUGMENT=0|1 VALIDATION=0.1 PRECISION= RUN= CLUSTER=auto
	@$(KIT) train $(settings) $(run) $(data) $(call option,CLUSTER,--cluster)

submission: setup ## Predict test.csv and write submissions/<run>/submission.csv. RUN= TEST=other.csv
	@$(KIT) submission $(run) $(data) $(call path,TEST,--test-file)

submit: setup ## Upload the submission and wait for its score. RUN= MESSAGE= FORCE=1: again, although not plausible.
	@$(KIT) submit $(run) $(data) $(call option,MESSAGE,--message) $(force)

##@ Evaluate

evaluate: setup ## Print the scores and draw the figures of the latest run, or of RUN=. JSON=1
	@$(KIT) evaluate $(run) $(data) $(json)

report: setup ## Write reports/<run>/report.html and report.md for the latest run, or for RUN=.
	@$(KIT) report $(run) $(data)

compare: setup ## Compare two or more runs. RUNS="a b", RUNS="single-*" JSON=1
	@$(KIT) compare $(foreach name,$(value RUNS),$(call quoted,$(name))) $(json)

##@ Read handwriting

predict: setup ## Read handwritten digits. IMAGES="a.jpg folder" EXPECT=7 LABELS=labels.csv REFUSE=0.3 RUN= JSON=1
	@$(KIT) predict $(call option,IMAGES) $(run) $(call option,EXPECT,--expect) $(call path,LABELS,--labels) \
		$(call option,REFUSE,--refuse) $(json)

draw: setup ## Open a page to draw digits on or to drop images on. RUN= PORT=8028 REFUSE=0.3 NO_BROWSER=1
	@$(KIT) draw $(run) $(data) $(call option,PORT,--port) $(call option,REFUSE,--refuse) $(call switch,NO_BROWSER,--no-browser)

export: setup ## Write the page as static files with the network in the browser, for any web server. RUN= PAGE=page
	@$(KIT) export $(call path,PAGE) $(run)

handwriting: setup ## Read the drawings that the page saved, and score what is read. RUN= JSON=1
	@$(KIT) predict $(call home,$(call quoted,$(value DATA_DIR)/handwriting)) $(run) $(json)

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

test-install: setup .venv/.test .venv/.install ## Test the oldest versions, and find wheels of the pins for each system of the README (minutes).
	@.venv/bin/python -m pytest -m install

test-kaggle-image: setup .venv/.test ## Run the notebook with Kaggle's versions (a temporary environment of 2 GB).
	@.venv/bin/python -m pytest -m kaggle_image

lint: setup .venv/.lint ## Check style, format and types.
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

bench: setup $(if $(filter peers,$(or $(PARTS),peers)),.venv/.bench) ## Benchmark against other recipes (two hours). PARTS="engine small single" JSON=1
	@.venv/bin/python -m benchmarks.benchmark $(data) $(call option,PARTS,--parts) $(json)

ablation: setup ## Compare settings of the preset single (over an hour). ONLY="first convolution padded" SEEDS="0 1 2"
	@.venv/bin/python -m benchmarks.ablation $(data) $(call option,ONLY,--only) $(foreach seed,$(SEEDS),--seed $(call quoted,$(seed)))

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
	@for folder in $(call home,$(call quoted,$(value DATA_DIR))) models reports bench; do \
		test -e "$$folder" || continue; \
		printf 'Delete %s too? [y/N] ' "$$folder"; read answer || echo; \
		case "$$answer" in y|Y|yes) rm -rf "$$folder" && echo "deleted $$folder";; *) echo "kept $$folder";; esac; \
	done

# Extras that only one target needs.
.venv/.bench .venv/.browser .venv/.cluster .venv/.install .venv/.lint .venv/.test: .venv/.%: \
		pyproject.toml constraints.txt | try .venv/.setup
	@echo 'Installing the extra $* into .venv ...'
	@$(call install,'.[$*]')
	@touch $@
