# One command each: `make demo` and `make test` set themselves up in .venv on a machine that has Python 3.11 and make.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH  := torch==2.13.0
OUT    ?= demo
SECONDS ?= 3600
JOBS   ?= 2
OLDEST := 3.11
NEWEST := 3.13
KILLS  ?= 100
GALLERY ?=

.DEFAULT_GOAL := help
.PHONY: help demo test torture fuzz lint ruff format bench docs images release clean clean-cache

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  	/p' $(MAKEFILE_LIST)

demo: $(VENV)/.package ## denoise a photograph with a dictionary learned from its own patches
	@mkdir -p $(OUT)
	$(BIN)/calepin denoise --sample camera --add-noise 25 --seed 0 --output $(OUT)/denoised.png \
	  --atoms-image $(OUT)/atoms.png --figure $(OUT)/before-after.png --report $(OUT)/report.html

test: $(VENV)/.test ## the whole test suite, on JOBS processes
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

torture: $(VENV)/.test ## kill learners and commands $(KILLS) times at random moments; nothing may be lost
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python tests/torture/torture.py --kills $(KILLS)

fuzz: $(VENV)/.test ## mutated calls, command lines and files, for SECONDS on JOBS processes
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m tests.fuzz --seconds $(SECONDS) --jobs $(JOBS)

lint: ruff types-$(OLDEST) types-$(NEWEST) ## ruff, and pyright for the oldest and the newest Python; all at once with -j

ruff: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types-%: $(VENV)/.lint
	$(BIN)/pyright --pythonversion $*

format: $(VENV)/.lint ## rewrite the sources as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## speed and quality beside SPAMS, scikit-learn, bm3d and sigpy, in one run
	$(BIN)/python -m benchmarks

docs: $(VENV)/.docs ## the site, docs/_build/html; GALLERY=REGEX runs only the scripts whose path matches
	CUDA_VISIBLE_DEVICES= OMP_WAIT_POLICY=passive GALLERY='$(GALLERY)' \
	  $(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

images: $(VENV)/.package ## draw the images of README
	$(BIN)/python docs/images/draw.py

release: ## build sdist and wheel, check them, run the smoke tests with the wheel in empty environments
	PYTHON=$(PYTHON) TORCH=$(TORCH) .ci/release

clean-cache: ## forget compiled kernels
	find src -name '*.nb[ci]' -delete

clean: ## remove the virtual environment and what the commands wrote
	rm -rf $(VENV) $(OUT) build dist src/*.egg-info
	rm -rf $(addprefix docs/,_build gallery tutorials _static/start reference/commands reference/api/generated \
	  reference/api/examples)

# torch comes first and alone: its exact pin is a CPU wheel, what another package would pull in is gigabytes.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install numpy -c constraints.txt
	$(PIP) install $(TORCH)
	touch $@

$(VENV)/.package: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[report]'
	touch $@

$(VENV)/.test: $(VENV)/.package
	$(PIP) install -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) install -c constraints.txt -e '.[test,lint]'
	touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) install -c constraints.txt -e '.[docs]'
	touch $@

$(VENV)/.bench: $(VENV)/.package
	$(PIP) install -c constraints.txt -e '.[bench]'
	touch $@
