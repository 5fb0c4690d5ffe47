# What a newcomer needs: `make demo`, `make test`. All targets work in a clean clone.
PY := .venv/bin/python
.DEFAULT_GOAL := help
CORES := $(shell nproc)
# System tests wait most of the time, so there are more of them at once than cores.
JOBS ?= $(shell echo $$(($(CORES) < 6 ? $(CORES) * 2 : 12)))
SIDE_BY_SIDE := -n $(JOBS) --dist worksteal
.PHONY: help ready demo test fast check lint types imports wheel bench policies attack hostile soak faults fuzz screenshots schema constraints clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

ready: ## programs and virtual environment (deploy/bootstrap.sh)
	@sh deploy/bootstrap.sh

demo: ready ## the main job on a mock provider, with real packets, on the screen; PLAIN=1 in lines, DEMO_SECONDS=90 for longer
	@$(PY) -m mock_provider demo $(if $(PLAIN),--plain)

test: ready ## the whole test suite, the same as CI; JOBS=1 for one test at a time
	@$(PY) -m pytest $(SIDE_BY_SIDE) -m 'not alone'; most=$$?; $(PY) -m pytest -q -m alone && exit $$most

fast: ready ## the tests that need no root
	$(PY) -m pytest -n $$(($(CORES) + 1)) --dist worksteal -m 'not system and not alone'

check: lint types imports test ## everything

lint: ready ## ruff
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: ready ## mypy and pyright
	$(PY) -m mypy
	$(PY) -m pyright

imports: ready ## who may import whom
	.venv/bin/lint-imports

wheel: ready ## dist/*.whl and the source archive
	$(PY) -m hatchling build

bench: ready ## time to READY, start-up, memory, an idle daemon and 1,000 leases, beside what people use today
	$(PY) tests/bench/bench.py; ready=$$?; $(PY) -m tests.bench.daemon; daemon=$$?; $(PY) -m tests.bench.face; face=$$?; $(PY) -m tests.bench.leases && exit $$((ready + daemon + face))

policies: ready ## what 10,000 entries and 1,000 changes of a port policy cost, with real packets; needs root
	@$(PY) -m tests.bench.policies

attack: ready ## attacks on the product and on what others do, side by side; needs root
	@$(PY) -m tests.attack.matrix

hostile: ready ## what twelve hostile HTTP servers cost whoever asks them
	@$(PY) -m pytest -q -s tests/contract/test_hostile.py

soak: ready ## a month with all faults, a day of loss and 90 days with PIA, in virtual time
	@$(PY) -m tests.soak.loss; loss=$$?; $(PY) -m tests.soak.pia; pia=$$?; $(PY) -m tests.soak.months && exit $$((loss + pia))

faults: ready ## 500 faults, 2,000 swaps, kill -9 at every step, recovery, as before; needs root, takes 25 minutes
	@$(PY) -m tests.faults

fuzz: ready ## a million mutated datagrams, 200,000 configuration files and 100,000 HTTP requests against what reads them
	@$(PY) -m tests.fuzz.datagrams; datagrams=$$?; $(PY) -m tests.fuzz.control; control=$$?; $(PY) -m tests.fuzz.configs && exit $$((datagrams + control))

screenshots: ready ## docs/screenshots/*.svg and docs/face.svg, which moves, from a real run
	@$(PY) -m mock_provider pictures --into docs

schema: ready ## docs/config.schema.json from the code
	$(PY) -m vpnpf schema > docs/config.schema.json

constraints: ready ## pin the newest versions that fit; versions only
	.venv/bin/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --all-extras --python-version 3.11 --upgrade -o constraints.txt pyproject.toml

clean: ## what these targets made
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
