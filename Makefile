# Each target is one command a person could type; all of them make and use .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format bench

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[precompute,models,review,ray,examples,dev]"
	touch $@

demo: .venv/installed
	$(BIN)/lora-data demo

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

format: .venv/installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[precompute,models,review,ray,examples,dev,bench]"
	$(BIN)/python -m tests.bench.precompute
	$(BIN)/python -m tests.bench.upscale
	$(BIN)/python -m tests.bench.near_duplicates
	$(BIN)/python -m tests.bench.memory
	$(BIN)/python -m tests.bench.curation
	$(BIN)/python -m tests.bench.augment
	$(BIN)/python -m tests.bench.loader
	$(BIN)/python -m tests.bench.resume
