# `make` lists what there is to make. Every target makes .venv and installs into it first, if that is missing or out of date.

BIN := .venv/bin
READY := .venv/.installed

.PHONY: help setup demo test check notebooks html lab experiment clean
.NOTPARALLEL:

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1  /p' Makefile | awk '{ name = $$1; $$1 = ""; printf "make %-10s%s\n", name, $$0 }'

setup: $(READY)  ## make .venv and install everything into it; a suitable torch that is there stays
	@echo ".venv is up to date"

$(READY): pyproject.toml constraints.txt setup.sh
	@sh setup.sh

demo: $(READY)  ## open the app on the shipped run, and start two minutes of distillation to watch
	$(BIN)/workbench demo

test: check notebooks  ## check, notebooks, and all tests (those in a browser where chromium is installed)
	$(BIN)/pytest -q -rs -n 2 --dist loadgroup

check: $(READY)  ## format, lint, types, and the floors of the architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

notebooks: $(READY)  ## run the notebooks as tests; they are committed without outputs
	$(BIN)/nbstripout --verify notebooks/*.ipynb || { echo "strip them: $(BIN)/nbstripout notebooks/*.ipynb"; exit 1; }
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile --nbval-lax --nbval-current-env notebooks/

html: $(READY)  ## run the notebooks and write them as pages to docs/html, to read in a browser; not committed
	OMP_NUM_THREADS=1 $(BIN)/python tools/pages.py

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks/

experiment: $(READY)  ## train and score the rows of docs/experiment.md: make experiment DATA=footage [VID4=path]; hours
	@test -n "$(DATA)" || { echo "say where the footage lies: make experiment DATA=path (docs/data.md lists ours)"; exit 1; }
	$(BIN)/workbench experiment --data "$(DATA)" $(if $(VALIDATION),--validation "$(VALIDATION)") $(if $(VID4),--vid4 "$(VID4)") $(ARGS)

clean:  ## remove .venv, caches and build products; never runs/ or scenes/
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .gradio
	find . -name __pycache__ -not -path './runs/*' -not -path './scenes/*' -prune -exec rm -rf {} +
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} +
