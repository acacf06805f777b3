# Two commands do everything, set-up included: `make run` and `make test`. `make help` lists the rest.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/learn2add-installed
# The first of these that is Python 3.11 or newer; or say `make run PYTHON=/path/to/python`.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11 python,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where this is set, as in many containers, each of hundreds of processes compiles torch anew.
export PYTHONDONTWRITEBYTECODE :=
ifdef CI
export PIP_PROGRESS_BAR := off
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup run studies student solutions site test test-fast notebooks clean

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'
	@echo
	@echo "Variables: LEARN2ADD_BUDGET (quick, reference, smoke: how long what trains live may take),"
	@echo "LEARN2ADD_DATA (folder with the digits, if you have them), PYTHON (3.11 or newer);"
	@echo "SYSTEM=1 (set up with the packages that Python has already);"
	@echo "for variants of the student edition SEED (a number) and OPERATION (subtract)."
	@echo "Example: make run LEARN2ADD_BUDGET=smoke"

setup: $(STAMP) ## virtual environment and dependencies, once (the others do it too)

# torch and torchvision come out of one resolution, so they fit each other. Compiling every module
# beforehand would take 40 s more; Python compiles what it imports, once.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up $(VENV), once. On Linux it fetches 3.3 GB, 6 GB unpacked, most of them for a GPU;"
	@echo "with SYSTEM=1 it takes what Python has already, such as a torch without."
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(if $(SYSTEM),--system-site-packages) $(VENV) || \
		{ echo "No virtual environment; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --no-compile -e ".[dev]"
	@touch $@

# The assignment, and what does better. The long runs came with the project and are loaded; what
# trains live does so afresh under build/. The longest first: two are executed at a time.
ASSIGNMENT := $(addprefix notebooks/,03_addition.ipynb 11_better_than_assigned.ipynb \
	04_generative_addition.ipynb 02_reconstruction.ipynb 05_what_the_pictures_are_worth.ipynb \
	12_a_rule_and_your_hand.ipynb 01_setup_and_inputs.ipynb)
STUDIES := $(sort $(wildcard notebooks/10_*.ipynb notebooks/0[6-9]_*.ipynb))

run studies: export LEARN2ADD_RUNS := $(CURDIR)/build/runs
run: $(STAMP) ## execute notebooks 1 to 5, 11 and 12 into build/, then print the main figures
	@$(BIN)/python -m learn2add data
	@status=0; $(BIN)/python tools/notebooks.py --jobs 2 $(ASSIGNMENT) || status=1; \
	$(BIN)/python tools/main_figures.py || status=1; exit $$status

studies: $(STAMP) ## the same with the sibling studies, notebooks 6 to 10
	@$(BIN)/python tools/notebooks.py --jobs 2 $(STUDIES)

student: $(STAMP) ## notebooks 1 to 5 with stubs, checks and blanks for students, into build/student
solutions: $(STAMP) ## all notebooks as the key, exercises solved, into build/solutions
student solutions:
	@$(BIN)/python tools/editions.py $@ $(if $(SEED),--seed $(SEED)) $(if $(OPERATION),--operation $(OPERATION))

# Several processes of one thread each share a processor better than one process does.
SPREAD := -n auto --maxprocesses 4 --no-loadscope-reorder
site: $(STAMP) ## the notebooks to read, all texts, the API and the page to draw on, into build/site
	@$(BIN)/python -m tools.site

test test-fast: export OMP_NUM_THREADS := 1
test: $(STAMP) ## all checks: style, notebooks (in seconds of training each), tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@status=0; rm -rf build/nbval; \
	LEARN2ADD_BUDGET=smoke LEARN2ADD_RUNS=build/nbval $(BIN)/python -m pytest \
		--nbval-lax --nbval-current-env -p no:python $(SPREAD) --dist loadscope notebooks || status=1; \
	$(BIN)/python -m pytest $(SPREAD) --dist loadfile || status=1; exit $$status

test-fast: $(STAMP) ## the tests that take seconds
	@$(BIN)/python -m pytest $(SPREAD) --dist loadfile -m "not slow"

notebooks: $(STAMP) ## execute all notebooks in place, to be kept in git
	@$(BIN)/python tools/notebooks.py --in-place

clean: ## delete build/ and caches; virtual environment and runs stay
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find learn2add tests tools notebooks -name __pycache__ -prune -exec rm -rf {} +
