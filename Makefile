PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
STAMP := $(VENV)/.installed

# What builds the image (docker, podman, buildah), what it is called, and for which devices: cuda or cpu.
ENGINE ?= docker
IMAGE ?= prefopt
VARIANT ?= cuda
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
RAY_VERSION := $(shell sed -n 's/^ray==//p' constraints.txt)
TAG := $(VERSION)$(if $(filter cpu,$(VARIANT)),-cpu)

.PHONY: setup demo lint type test test-slow test-matrix image clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/prefopt run examples/quickstart.yaml

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(STAMP)
	$(BIN)/mypy

test: lint type
	$(PYTEST) -m "not slow"

test-slow: $(STAMP)
	$(PYTEST) -m "slow and not matrix"

test-matrix: $(STAMP)
	$(PYTEST) -m matrix

image:
	$(ENGINE) build --build-arg VARIANT=$(VARIANT) --build-arg VERSION=$(VERSION) --build-arg RAY_VERSION=$(RAY_VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE):$(TAG) .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
