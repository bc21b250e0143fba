# Two commands matter: `make serve` and `make test`. Everything else is for those who change the code.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)

# uv does not read pip's settings; find-links is passed on so that a local wheel folder is honoured.
ifdef UV
PIP := UV_FIND_LINKS="$$PIP_FIND_LINKS" $(UV) pip install --quiet --python $(BIN)/python $(if $(TORCH_BACKEND),--torch-backend=$(TORCH_BACKEND))
else
PIP := $(BIN)/python -m pip install --quiet
endif

.PHONY: install serve test test-long test-gpu lint bench bench-gpu train grade clean

$(BIN)/python:
	$(if $(UV),$(UV) venv --quiet --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing limner into $(VENV) (torch is large; the first time takes a minute)"
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(PIP) -e '.[dev]'
	@touch $@

install: $(VENV)/.installed

serve: install
	$(BIN)/limner serve $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not long and not gpu" $(ARGS)
	PYTHONPATH=tests/without_torch $(BIN)/python -m pytest tests/server -m "not long and not gpu"

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "long and not gpu" --timeout 1800 $(ARGS)

# What a library warns of on some GPU says nothing of limner.
test-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/gpu -m gpu -W default --timeout 600 $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(VENV)/.installed-dev
	$(BIN)/python -m bench.serving $(ARGS)

# Every family at full size on a GPU, with random weights (ARGS=--small tries it on a CPU).
bench-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m bench.engine $(ARGS)

# The shipped model from nothing to its gate (hours on one CPU core; ARGS="--device cuda" on a GPU).
train: install
	$(BIN)/python -m models.demo.train --out out/train $(ARGS)

# The table of any checkpoint: make grade ARGS=DIR
grade: install
	$(BIN)/python -m models.demo.grade $(or $(ARGS),models/demo/sketch)

clean:
	rm -rf $(VENV)
