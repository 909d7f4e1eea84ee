# Two commands are all you need: `make demo` and `make test`. Everything missing is set up into .attache/.

CONFIG ?= examples/demo.yaml
SUITE  ?= main
PYTHON ?= python3
VENV   := .attache/venv/bin/python
NATIVE := -p attache-llm -p attache -p attache-bench

.DEFAULT_GOAL := help
.PHONY: help setup build wasm demo run check test unit e2e lint bench chaos scale scale-ledger bench-memory bench-micro flame bench-routing bench-ledger bench-dialects instructions load-test soak fuzz clean

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

test: setup build lint unit instructions ## set up, lint, run every test (JOBS=5: all suites at once, on a machine with more cores)
	@$(PYTHON) scripts/suites.py --jobs "$(or $(JOBS),2)"

unit: ## tests without Envoy
	@$(PYTHON) scripts/setup.py test
	@cargo test --release --locked --workspace

e2e: build ## tests through the real Envoy (SUITE=a folder of tests/e2e, or all side by side, JOBS=2 two at once; TESTS='-k name' picks some)
	@$(PYTHON) scripts/setup.py test
	@$(PYTHON) scripts/suites.py --jobs "$(JOBS)" $(filter-out all,$(SUITE)) $(TESTS)

lint: ## rustfmt and clippy, warnings denied; the cost cases are those of the price table
	@$(PYTHON) scripts/setup.py lint
	@$(PYTHON) scripts/cost_cases.py --check
	@cargo fmt --all --check
	@cargo clippy --release --locked --workspace --all-targets -- -D warnings

bench: build ## the comparison: plain Envoy, ext_proc, Attaché, LiteLLM, into bench/results (half an hour; OPTIONS=--quick)
	@$(PYTHON) scripts/setup.py test
	@$(VENV) scripts/bench.py $(OPTIONS)

flame: build ## flame graphs of Envoy and sidecar under load, into bench/results (needs perf; OPTIONS='--variant embedded')
	@$(PYTHON) scripts/setup.py test
	@$(VENV) scripts/flame.py $(OPTIONS)

bench-memory: build ## memory after a million requests of 10,000 keys; joins the figures of make bench (some minutes)
	@$(PYTHON) scripts/setup.py test
	@$(VENV) scripts/bench.py --memory $(OPTIONS)

chaos: build ## everything dies under load, 20,000 requests: the ledger must balance (some minutes; OPTIONS='--rate 100')
	@$(PYTHON) scripts/setup.py test
	@$(VENV) scripts/chaos.py $(OPTIONS)

scale: build scale-ledger ## a million keys, a cold gate, a flood of made-up keys, and scale-ledger (many minutes)
	@$(VENV) scripts/scale.py

scale-ledger: build ## ten million rows: pages of the ledger and daily activity (ROWS=... for fewer)
	@$(PYTHON) scripts/setup.py test
	@$(VENV) scripts/scale_ledger.py $(if $(ROWS),--rows $(ROWS))

bench-ledger: ## CPU per row of the write path, rows per second
	@cargo bench --locked -p attache --bench ledger
	@cargo bench --locked -p attache --bench ledger_store

load-test: build ## constant load on the demo gateway, the acceptance criteria asserted (OPTIONS='--url https://... --key ...' for yours)
	@scripts/load_test.sh $(OPTIONS)

bench-dialects: build ## CPU of each translation, beside plain pass-through in the same run
	@$(VENV) scripts/bench_dialects.py

soak: build ## memory under 100,000 mixed requests of every dialect, bodies up to 10 MB (some minutes)
	@$(VENV) scripts/soak.py $(OPTIONS)

fuzz: ## coverage-guided fuzzing of everything that parses (SECONDS=60 for each target)
	@$(PYTHON) scripts/fuzz.py --seconds $(or $(SECONDS),60)

bench-micro: ## time of each part of a request: scan, translation, stream, decision, limits, price (ONLY=scan for some, DOCS=1 for the docs)
	@$(PYTHON) scripts/setup.py demo
	@$(PYTHON) scripts/bench_micro.py $(if $(ONLY),--only '$(ONLY)') $(if $(DOCS),--docs)

instructions: ## do these parts need more instructions than bench/instructions.json says? (UPDATE=1 writes it)
	@$(PYTHON) scripts/instructions.py $(if $(UPDATE),--update)

bench-routing: ## time of the routing decision by number of deployments
	@cargo bench --locked -p attache --bench decide

clean: ## remove build results and everything set up
	@rm -rf target .attache
