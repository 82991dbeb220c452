# The commands of the project. Each one that needs .venv prepares it from the locks first.
#   make                 run the core notebooks, then show the results
#   make all             run every notebook
#   make run NOTEBOOK=20 ARGS="-p cost_fn 90"      some; NOTEBOOK=5 runs chapter 5
#   make test            everything that has to hold; ARGS="-k masks" for a part
#   make test-fast       lint and tests, without types, stored outputs and whole runs of notebooks
#   make lab             JupyterLab on copies in build/lab, which are yours; solutions are collapsed
#   make lab-edit        JupyterLab on the notebooks themselves, with the notes for teachers
#   make store           execute the notebooks and store their outputs
#   make workshop PLAN=half-day       schedule, guide, slides and copies into build/workshop/half-day;
#                        without PLAN: which plans there are, with their minutes
#   make wheels          packages for laptops without a network, into build/workshop/wheels;
#                        PLATFORM=windows PYTHON_VERSION=3.12 for others than this one
#   make check           is this machine ready for a workshop? One screen, in seconds
#   make collect STUDENTS=folder      which checks pass in the notebooks that students returned
#   make site            the pages for readers, into build/site; they open from disk
#   make pdf             the same pages in one file, build/tensor-to-decision.pdf; needs Chromium
#   make bench           ours beside the alternatives; writes the tables into benchmarks/README.md
#   make evidence        the tables that take longer than a lesson may; ARGS=decisions makes one
#   make lock            newest allowed versions into the locks, and what is generated from them
#   make scale           Ray and Dask into .venv, for more than one machine (lesson 80, scores, sweeps)
#   make clean           remove .venv, build/runs and caches; build/lab and build/workshop stay

ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN := .venv/Scripts
else
PYTHON ?= python3
BIN := .venv/bin
endif
READY := .venv/.ready
READY_TEST := .venv/.ready-test
READY_SCALE := .venv/.ready-scale
NOTEBOOKS ?= notebooks
UV_PIN = $$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.txt)
# JupyterLab would ask the network for newer versions of itself; the packages are found from every folder.
LAB = PYTHONPATH="$(CURDIR)" $(BIN)/jupyter lab --notebook-dir=. \
    --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate $(ARGS)

# A recipe that fails or is interrupted must not leave a target that looks finished.
.DELETE_ON_ERROR:
.PHONY: run all test test-fast lab lab-edit store workshop wheels check collect site pdf bench evidence lock scale clean

run: $(READY)
	@$(BIN)/python tools/run.py $(NOTEBOOK) $(ARGS)

all: $(READY)
	@$(BIN)/python tools/run.py --all $(ARGS)

test: $(READY_TEST)
	@echo "==> lint, format and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@echo "==> tests: modules, files, and every notebook under nbval and papermill"
	@$(BIN)/python -m pytest $(ARGS)

test-fast: $(READY_TEST)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest -m "not whole_run" tests helpers serving tools $(ARGS)

lab: $(READY)
	@$(BIN)/python tools/lab.py
	@$(LAB) --LabApp.default_url=/lab/tree/build/lab/00_start_here.ipynb

lab-edit: $(READY)
	@$(LAB) --LabApp.default_url=/lab/tree/$(NOTEBOOKS)/00_start_here.ipynb

store: $(READY)
	@$(BIN)/python tools/store.py $(NOTEBOOK)

workshop: $(READY_TEST)
	@$(BIN)/python tools/workshop.py $(PLAN)

wheels: $(READY)
	@$(BIN)/python tools/wheels.py $(PLATFORM) $(PYTHON_VERSION)

check: $(READY)
	@$(BIN)/python tools/check.py

collect: $(READY)
	@$(BIN)/python tools/collect.py $(if $(STUDENTS),"$(STUDENTS)") $(ARGS)

site: $(READY_TEST)
	@$(BIN)/python tools/build_site.py

pdf: $(READY_TEST)
	@$(BIN)/python tools/build_site.py pdf

bench: $(READY)
	@$(BIN)/python benchmarks/bench.py

evidence: $(READY)
	@for script in benchmarks/evidence/$(or $(ARGS),*).py; do \
	    echo "==> $$script"; $(BIN)/python "$$script" || exit 1; done

lock: $(READY)
	@$(BIN)/python tools/generate.py --upgrade

scale: $(READY_SCALE)

clean:
	rm -rf .venv build/runs .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# Without the stamp nothing in .venv is trusted: a set-up that was interrupted starts afresh (from uv's cache).
$(READY): requirements.txt pyproject.toml tools/overrides.json
	@echo "==> .venv from requirements.txt, about half a minute (later calls skip this)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo "$(PYTHON) is no Python 3.11, 3.12 or 3.13; name one:  make PYTHON=python3.12"; exit 1; }
	@test -f $(READY) || $(PYTHON) -m venv --clear .venv
	@rm -f $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(UV_PIN)"
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@mkdir -p .venv/share/jupyter/lab/settings && cp tools/overrides.json .venv/share/jupyter/lab/settings/
	@touch $(READY)
	@echo "==> .venv is ready"

$(READY_SCALE): $(READY) requirements-scale.txt
	@echo "==> Ray and Dask, from requirements-scale.txt"
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt -r requirements-scale.txt
	@touch $(READY_SCALE)

# What needs Ray is tested where hosts can be made up.
ifeq ($(shell uname -s),Linux)
$(READY_TEST): $(READY_SCALE)
endif

$(READY_TEST): $(READY) requirements-test.txt tests/openvino.txt
	@echo "==> what the tests need, from requirements-test.txt"
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt -r requirements-test.txt
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --require-hashes -r tests/openvino.txt
	@touch $(READY_TEST)
