# Two commands: `make demo` and `make test`. Both set up what they need; a second run is fast.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-compiled kills up order down test test-brokers test-containers capabilities compile check format lock states clean
PYTHON ?= python3
BROKERS ?= all
BIN := .venv/bin
# Tests mostly wait, for real servers: four workers keep two cores busy. A file has one worker, since
# it may share what it starts, and so has a broker (tests/support/scheduling.py).
SIDE_BY_SIDE := -n 4 --dist loadfile --no-loadscope-reorder

help: ## what can be made here
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: .venv/ready ## the virtual environment, with everything locked

.venv/ready: requirements.lock pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) scripts/setup

# Bytecode is there before the first of four workers and some hundred processes asks for it; they
# read it also where PYTHONDONTWRITEBYTECODE keeps them from writing any.
BYTECODE := unset PYTHONDONTWRITEBYTECODE; $(BIN)/python -m compileall -q src examples; \
    $(BIN)/pytest -q --collect-only

demo: setup ## run the shop under load while its processes are killed; check the books
	@PYTHONPATH=examples $(BIN)/python -m shop.demo

demo-compiled: setup ## the same, through the gateway's compiled build
	@PYTHONPATH="examples:$$($(BIN)/python hatch_build.py)" $(BIN)/python -m shop.demo

kills: setup ## kill -9, 200 times, under orders: ARGS="--broker rabbitmq"; check the books
	@scripts/servers brokers
	@PYTHONPATH=examples $(BIN)/python -m tests.faults.kills $(ARGS)

up: setup ## start the shop and leave it running
	@$(BIN)/seawall --project examples/shop up --wait
	@echo
	@echo "Three things to try (make down stops the shop):"
	@echo "  make order                                    place an order, watch it complete, see the mail"
	@echo "  $(BIN)/seawall --project examples/shop ps        what runs; kill -9 any PID of it, and look again"
	@echo "  $(BIN)/seawall --project examples/shop scale orders=3"

order: setup ## place one order in the running shop
	@PYTHONPATH=examples $(BIN)/python -m shop.demo.order

down: setup ## stop the shop
	@$(BIN)/seawall --project examples/shop down

# What is tested last is compiled meanwhile.
test: setup ## all tests, against real servers
	@( $(BYTECODE) ) >/dev/null 2>&1 & scripts/servers && wait
	@nice -n 3 $(BIN)/python hatch_build.py --quickly >/dev/null 2>&1 & $(BIN)/pytest $(SIDE_BY_SIDE)
	@scripts/test_compiled $(SIDE_BY_SIDE)

test-brokers: setup ## only the suites of messages, with a backlog of 100,000; BROKERS=nats,sqs chooses
	@scripts/servers
	@SEAWALL_TEST_BROKERS=$(BROKERS) SEAWALL_TEST_BACKLOG=100000 $(BIN)/pytest $(SIDE_BY_SIDE) \
	    --capabilities build/capabilities.json tests/contract tests/integration/messaging

test-containers: setup ## images and containers for real, with docker and podman; as root, takes minutes
	@scripts/containers
	@$(BIN)/pytest -m containers $(ARGS) tests/containers

capabilities: test-brokers ## the same; then the table in docs/messaging-brokers.md
	@$(BIN)/python scripts/draw_capabilities.py build/capabilities.json

compile: setup ## the gateway's data path as C extensions; prints the folder for PYTHONPATH
	@$(BIN)/python hatch_build.py

check: setup ## lint, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## put the code into its one format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

states: setup ## draw docs/states from the transition tables
	@$(BIN)/python scripts/draw_states.py

bench: bench-primitives bench-scaling bench-service bench-messaging bench-effects bench-gateway bench-runtime ## every benchmark

bench-%: setup ## one benchmark: bench-gateway, bench-messaging, bench-effects, bench-service, bench-primitives, bench-scaling, bench-runtime, bench-identity, bench-deploy; ARGS=--quick
	@scripts/bench $* $(ARGS)

lock: setup ## resolve dependencies again
	@scripts/lock

clean: ## remove what was built; the virtual environment too
	@rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
