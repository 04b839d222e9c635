PYTHON ?= python
# One process per core, up to eight: a worker imports torch, which takes about 300 MB.
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 8 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help install check test lint format types bench sweep fuzz faults mutation demo golden docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Install the checkout for development
	$(PYTHON) -m pip install --editable ".[dev]"

check: lint types test ## Everything a change must pass

test: ## Run the tests and doctests
	$(PYTHON) -m pytest $(PYTEST_ARGS)

lint: ## Check style and formatting
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: ## Apply formatting and safe style fixes
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types: ## Check types
	$(PYTHON) -m mypy

bench: ## Run the benchmarks
	$(PYTHON) -m benchmarks

sweep: ## Run every torchvision, timm and transformers model
	$(PYTHON) -m sweeps

fuzz: ## Shrink 5,000 random networks, and compare them with an oracle
	$(PYTHON) -m fuzz

faults: ## Inject every named fault and see that it is caught
	$(PYTHON) -m faults

mutation: ## Measure how many random changes to the code the tests notice
	$(PYTHON) -m mutation

demo: ## Prune and verify a small trained model
	$(PYTHON) -m examples.demo

golden: ## Regenerate the golden listings of the zoo, and the table of wrong uses
	$(PYTHON) -m tests.golden --write
	$(PYTHON) -m tests.wrong_uses --write

docs: ## Build the docs site into docs/_build/html
	$(PYTHON) -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html

clean: ## Remove build products and caches
	rm -rf build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
