# `make` lists the targets. Every target first makes .venv and installs into it if that is missing or out of date.

BIN := .venv/bin
READY := .venv/.installed

PARALLEL := -n logical --maxprocesses 4 --dist loadfile

# No AVX, AVX2, AVX-512 or fused multiply-add, for torch, oneDNN, MKL, OpenBLAS, NumPy and OpenCV in this order.
SSE := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem \
	NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR" OPENCV_CPU_DISABLE=AVX512-SKX,AVX2,FP16,AVX
NUMERIC := models metrics distill data/degradation/test_families.py data/degradation/test_identify.py inference/test_chunks.py \
	inference/test_tiles.py inference/test_memory_estimate.py test_imaging.py test_tensors.py
NUMERIC_DOCTESTS := models metrics distill data/degradation/families.py imaging.py inference/chunks.py inference/tiles.py tensors.py
# Of these: counts, files, errors, traced graphs and trainings, whose results do not depend on the instruction set.
NOT_NUMERIC := models/test_adapter_errors.py models/test_catalog.py models/test_conversion_errors.py \
	models/test_cost.py models/test_hub.py models/test_zoo.py
NOT_NUMERIC_TESTS := $(addprefix test_every_network.py::test_,torch_compile_traces_one_graph two_steps_of_distillation) \
	test_adapter.py::test_a_compiled_adapter_returns_equal_outputs test_offsets.py::test_offsets_learn_the_displacement

.PHONY: help setup demo test test-portable check notebooks docs lab experiment clean
.NOTPARALLEL:

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1  /p' Makefile | awk '{ name = $$1; $$1 = ""; printf "make %-14s%s\n", name, $$0 }'

setup: $(READY)  ## make .venv and install everything into it; an installed torch that is new enough stays
	@echo ".venv is up to date"

$(READY): pyproject.toml constraints.txt setup.sh
	@sh setup.sh

demo: $(READY)  ## open the app on the shipped run, and start a live distillation of two minutes: make demo [ARGS=--no-browser]
	$(BIN)/workbench demo $(ARGS)

test: check notebooks  ## run the checks, the notebooks and all tests (browser tests if chromium is installed)
	$(BIN)/pytest -q -rsR $(PARALLEL) --no-loadscope-reorder $(PYTEST_ARGS)

test-portable: $(READY)  ## run the numeric tests without AVX, as on the oldest x86-64; without trainings
	$(SSE) $(BIN)/python -c "import torch; assert torch.backends.cpu.get_cpu_capability() == 'DEFAULT'"
	$(SSE) $(BIN)/pytest -q $(PARALLEL) --no-loadscope-reorder -m "not slow" \
		$(addprefix --ignore=tests/,$(NOT_NUMERIC)) $(addprefix --deselect=tests/models/,$(NOT_NUMERIC_TESTS)) \
		$(addprefix tests/,$(NUMERIC)) $(addprefix workbench/,$(NUMERIC_DOCTESTS))

check: $(READY)  ## check format, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

notebooks: $(READY)  ## run the notebooks as tests; they are committed without outputs
	$(BIN)/nbstripout --verify notebooks/*.ipynb || { echo "outputs found; remove them: $(BIN)/nbstripout notebooks/*.ipynb"; exit 1; }
	OMP_NUM_THREADS=1 $(BIN)/pytest -q $(PARALLEL) --nbval-lax --nbval-current-env notebooks/

docs: $(READY)  ## run the notebooks, build the documentation site into build/site, and check its links
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -n -q docs build/site
	$(BIN)/python tools/check_site.py build/site

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks/

experiment: $(READY)  ## train and score variants with three seeds (an hour or more; docs/experiment.md): make experiment DATA=footage [VID4=path]
	@test -n "$(DATA)" || { echo "DATA: expected the folder of the footage, got nothing; run make experiment DATA=path (docs/data.md lists ours)"; exit 1; }
	$(BIN)/workbench experiment --data "$(DATA)" $(if $(VALIDATION),--validation "$(VALIDATION)") $(if $(VID4),--vid4 "$(VID4)") $(ARGS)

clean:  ## remove .venv, caches and build products; keep runs/ and scenes/
	rm -rf .venv build dist docs/_api *.egg-info .pytest_cache .ruff_cache .import_linter_cache .gradio
	find . -name __pycache__ -not -path './runs/*' -not -path './scenes/*' -prune -exec rm -rf {} +
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} +
