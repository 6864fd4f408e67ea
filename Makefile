# `make` lists what there is to make. Every target makes .venv and installs into it first, if that is missing or out of date.

BIN := .venv/bin
READY := .venv/.installed

# No AVX, AVX2, AVX-512 or fused multiply-add, for torch, oneDNN, MKL, OpenBLAS, NumPy and OpenCV in this order.
SSE := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem \
	NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR" OPENCV_CPU_DISABLE=AVX512-SKX,AVX2,FP16,AVX
NUMERIC := models metrics distill data/degradation/test_families.py data/degradation/test_identify.py inference/test_chunks.py \
	inference/test_tiles.py inference/test_memory_estimate.py test_imaging.py test_tensors.py
NUMERIC_DOCTESTS := models metrics distill data/degradation/families.py imaging.py inference/chunks.py inference/tiles.py tensors.py

.PHONY: help setup demo test test-portable check notebooks html lab experiment clean
.NOTPARALLEL:

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1  /p' Makefile | awk '{ name = $$1; $$1 = ""; printf "make %-14s%s\n", name, $$0 }'

setup: $(READY)  ## make .venv and install everything into it; a suitable torch that is there stays
	@echo ".venv is up to date"

$(READY): pyproject.toml constraints.txt setup.sh
	@sh setup.sh

demo: $(READY)  ## open the app on the shipped run, and start two minutes of distillation to watch
	$(BIN)/workbench demo

test: check notebooks  ## check, notebooks, and all tests (those in a browser where chromium is installed)
	$(BIN)/pytest -q -rs -n 2 --dist loadgroup

test-portable: $(READY)  ## run the numeric tests again as on the oldest x86-64: no AVX; trainings left out
	$(SSE) $(BIN)/python -c "import torch; assert torch.backends.cpu.get_cpu_capability() == 'DEFAULT'"
	$(SSE) $(BIN)/pytest -q -n 2 --dist loadgroup -m "not slow" --ignore=tests/models/test_cost.py \
		$(addprefix tests/,$(NUMERIC)) $(addprefix workbench/,$(NUMERIC_DOCTESTS))

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

experiment: $(READY)  ## train and score the variants of docs/experiment.md: make experiment DATA=footage [VID4=path]; hours
	@test -n "$(DATA)" || { echo "DATA: missing, expected the folder of footage: make experiment DATA=path (docs/data.md lists ours)"; exit 1; }
	$(BIN)/workbench experiment --data "$(DATA)" $(if $(VALIDATION),--validation "$(VALIDATION)") $(if $(VID4),--vid4 "$(VID4)") $(ARGS)

clean:  ## remove .venv, caches and build products; never runs/ or scenes/
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .gradio
	find . -name __pycache__ -not -path './runs/*' -not -path './scenes/*' -prune -exec rm -rf {} +
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} +
