# The commands of the project. Each one prepares .venv from the lock first, when that is needed.
#   make                 run every notebook, then a table of the results
#   make run NOTEBOOK=10 ARGS="-p threshold 0.7"
#   make test            everything that has to hold
#   make lab             JupyterLab on the notebooks
#   make store           execute the notebooks and store their outputs
#   make workshop        copies for students, without solutions and outputs, into build/workshop
#                        (make lab NOTEBOOKS=build/workshop opens them)
#   make bench           ours beside the alternatives; writes the table into README
#   make lock            newest allowed versions into the lock, and what is generated from it
#   make clean           remove .venv and everything that was built

ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN := .venv/Scripts
else
PYTHON ?= python3
BIN := .venv/bin
endif
READY := .venv/.ready
NOTEBOOKS ?= notebooks
# JupyterLab would ask the network for news and newer versions of itself.
OFFLINE := --LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
UV_PIN = $$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.txt)

# A recipe that fails or is interrupted must not leave a target that looks finished.
.DELETE_ON_ERROR:
.PHONY: run test lab store workshop bench lock clean

run: $(READY)
	@$(BIN)/python tools/run.py $(NOTEBOOK) $(ARGS)

test: $(READY)
	@echo "==> lint, format and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@echo "==> tests: helpers, files, and every notebook under nbval, papermill and nbconvert"
	@$(BIN)/pytest $(ARGS)

lab: $(READY)
	@$(BIN)/jupyter lab --notebook-dir=. $(OFFLINE) $(ARGS) $(NOTEBOOKS)/00_start_here.ipynb

store: $(READY)
	@$(BIN)/python tools/store.py $(NOTEBOOK)

workshop: $(READY)
	@test ! -e build/workshop || { echo "build/workshop is there already, perhaps with answers: move it away first"; exit 1; }
	@$(BIN)/jupyter nbconvert --to notebook --output-dir build/workshop --ClearOutputPreprocessor.enabled=True \
	    --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_cell_tags=solution notebooks/*.ipynb
	@echo "==> copies for students; to open them: make lab NOTEBOOKS=build/workshop"

bench: $(READY)
	@$(BIN)/python benchmarks/bench.py

lock: $(READY)
	@$(BIN)/python tools/generate.py --upgrade

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# Without the stamp nothing in .venv is trusted: a set-up that was interrupted starts afresh (from uv's cache).
$(READY): requirements.txt pyproject.toml
	@echo "==> .venv from requirements.txt, about half a minute (later calls skip this)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo "$(PYTHON) is no Python 3.11, 3.12 or 3.13; name one:  make PYTHON=python3.12"; exit 1; }
	@test -f $(READY) || $(PYTHON) -m venv --clear .venv
	@rm -f $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(UV_PIN)"
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)
	@echo "==> .venv is ready"
