# Two commands: `make demo` and `make test`. Both set up what they need; a second run is fast.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-compiled up order down test test-brokers compile check format lock states clean
PYTHON ?= python3
BIN := .venv/bin
# Tests mostly wait, for real servers; each file has one worker, since it may share what it starts.
SIDE_BY_SIDE := -n 2 --dist loadfile

help: ## what can be made here
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: .venv/ready ## the virtual environment, with everything locked

.venv/ready: requirements.lock pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) scripts/setup

demo: setup ## run the shop under load while its processes are killed; check the books
	@PYTHONPATH=examples $(BIN)/python -m shop.demo

demo-compiled: setup ## the same, through the gateway's compiled build
	@PYTHONPATH="examples:$$($(BIN)/python hatch_build.py)" $(BIN)/python -m shop.demo

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

test: setup ## all tests, against real servers
	@scripts/servers
	@$(BIN)/pytest $(SIDE_BY_SIDE)
	@scripts/test_compiled $(SIDE_BY_SIDE)

test-brokers: setup ## the suites of messages against RabbitMQ, NATS, Kafka and SQS
	@scripts/servers brokers
	@SEAWALL_TEST_BROKERS=rabbitmq,nats,kafka,sqs $(BIN)/pytest tests/contract/test_transport.py \
	    tests/contract/test_transport_faults.py tests/integration/messaging

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

bench: bench-primitives bench-service bench-messages bench-gateway ## every benchmark

bench-%: setup ## one benchmark: bench-gateway, bench-messages, bench-service, bench-primitives; ARGS=--quick
	@scripts/bench $* $(ARGS)

lock: setup ## resolve dependencies again
	@scripts/lock

clean: ## remove what was built; the virtual environment too
	@rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
