# Every target sets up what is missing first; what is there already is left alone, so that takes no time.

PYTHON ?= python3
RUN := .venv/bin/python
PACKAGES := parley streams router firehose blockbuilder anchor gateway deploy tests

.DEFAULT_GOAL := help
.PHONY: help setup compile demo test lint bench up status logs down clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Get everything the rest needs (Python packages, Java, Kafka, PostgreSQL, a local chain)
	@$(PYTHON) -I deploy/bootstrap.py
	@$(RUN) -m deploy.setup

compile: setup ## Compile the router's hot path (optional; needs a C compiler)
	@$(RUN) -m deploy.compiled

demo: setup ## Run 600 negotiations through a backbone of its own and verify what came of them
	@$(RUN) -m deploy.demo

test: lint ## Lint, then run all tests on a real broker, database and chain
	@$(RUN) -m pytest -q -n auto tests/unit tests/property
	@$(RUN) -m deploy.compiled
	@$(RUN) -m tests.compiled -q -n auto # the same again on machine code, where there is a compiler
	@$(RUN) -m pytest -q -n 2 --dist loadfile tests/integration --ignore tests/integration/test_processor.py
	@$(RUN) -m pytest -q tests/integration/test_processor.py tests/fault # what kills brokers, or measures time, runs alone

lint: setup ## Check style, types, and who imports whom
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy $(PACKAGES)
	@.venv/bin/lint-imports --no-logo

bench: setup compile ## Measure the backbone and print a table
	@$(RUN) -m tests.bench

up: setup compile ## Start a backbone that stays (its data is in .parley/stack)
	@$(RUN) -m deploy up

status: setup ## Show each part of the backbone that stays
	@$(RUN) -m deploy status

logs: setup ## Show the last lines of its logs
	@$(RUN) -m deploy logs

down: setup ## Stop it; its data stays
	@$(RUN) -m deploy down

clean: ## Remove the environment, the runtime, and the data of the demo; a backbone that stays keeps its data
	@if [ -x $(RUN) ] && [ -d .parley/stack ]; then $(RUN) -m deploy down; fi
	rm -rf .venv .parley/runtime .parley/demo .parley/bench
