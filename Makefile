# Everything runs in .venv, made from envs/requirements.txt and made anew only when that file changes.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SNAKEMAKE := $(BIN)/snakemake --workflow-profile workflow/profiles/workstation

.PHONY: demo test benchmarks docs reference lint format clean

demo: $(INSTALLED)
	$(SNAKEMAKE)
	@cat results/experiments/demo/tables/summary.md

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

# Measures, and writes the tables of README.md, docs and config/mlfd that show it.
benchmarks: $(INSTALLED)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.experiments
	$(BIN)/python -m benchmarks.mlfd
	$(BIN)/python -m benchmarks.papers

# The docs site, in site/: open site/index.html. Warnings are errors; nothing is fetched.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# What is made from the classes that describe a config: to be run when these, or their docstrings, have changed.
reference: $(INSTALLED)
	$(BIN)/python -m kd schema > workflow/schemas/config.schema.json
	$(BIN)/python -m docs.generate.config

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow

$(INSTALLED): envs/requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement envs/requirements.txt
	touch $@

clean:
	rm -rf .venv results .snakemake site
