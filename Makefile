# Two commands are all you need: `make demo` and `make test`. Everything missing is set up into .attache/.

CONFIG ?= examples/demo.yaml
SUITE  ?= main
PYTHON ?= python3
VENV   := .attache/venv/bin/python
NATIVE := -p attache-llm -p attache -p attache-bench

.DEFAULT_GOAL := help
.PHONY: help setup build wasm demo run check test unit e2e lint bench scale bench-routing clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## find or install everything that demo and tests need
	@$(PYTHON) scripts/setup.py test

build: ## compile sidecar, fake provider and WASM filter
	@$(PYTHON) scripts/setup.py demo
	@echo "· building the sidecar and the fake provider (the first time takes some minutes)"
	@cargo build --release --locked $(NATIVE)
	@echo "· building the WASM filter"
	@$(PYTHON) scripts/wasm.py

wasm: ## compile the WASM filter into .attache/attache_filter.wasm
	@$(PYTHON) scripts/wasm.py

demo: build ## show the gateway at work with OpenAI's SDK, then stop
	@$(VENV) scripts/demo.py

run: build ## keep the gateway up on port 4000 (CONFIG=your.yaml for your own)
	@$(VENV) scripts/stack.py --config $(CONFIG)

check: build ## validate CONFIG without starting anything
	@$(if $(filter examples/demo.yaml,$(CONFIG)),FAKE_PROVIDER_URL=http://127.0.0.1:8090 LITELLM_MASTER_KEY=sk-only-to-check-0001) \
		target/release/attache check --config $(CONFIG)

test: setup lint unit ## set up, lint, run every test
	@$(MAKE) --no-print-directory e2e SUITE=main
	@$(MAKE) --no-print-directory e2e SUITE=routing

unit: ## tests without Envoy
	@$(PYTHON) scripts/setup.py test
	@cargo test --release --locked --workspace

e2e: build ## tests through the real Envoy (SUITE=main or routing; TESTS='-k name' picks some)
	@$(PYTHON) scripts/setup.py test
	@$(VENV) -m pytest tests/e2e/$(SUITE) $(TESTS)

lint: ## rustfmt and clippy, warnings denied
	@$(PYTHON) scripts/setup.py lint
	@cargo fmt --all --check
	@cargo clippy --release --locked --workspace --all-targets -- -D warnings

bench: build ## CPU per request, against plain Envoy in the same run
	@$(VENV) scripts/bench.py

scale: build ## a million keys, a cold gate, a flood of made-up keys (some minutes)
	@$(PYTHON) scripts/setup.py test
	@$(VENV) scripts/scale.py

bench-routing: ## time of the routing decision by number of deployments
	@cargo bench --locked -p attache --bench decide

clean: ## remove build results and everything set up
	@rm -rf target .attache
