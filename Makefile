# Every command that CI runs has its name here. `make` alone lists them.

SHELL := /bin/bash
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# nextest isolates each test in a process of its own; without it the built-in runner does.
TEST_RUNNER := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo "nextest run" || echo test)
# What of `make torture` takes minutes, some twelve on two slow cores: longer than this, and something is stuck.
BOUNDED := timeout --kill-after=10s 30m
GUEST_TARGET := wasm32-unknown-unknown

.DEFAULT_GOAL := help
.PHONY: help run build test torture cross-check schemathesis bench lint clippy fmt fmt-check tidy doc setup setup-tests ci clean clean-data

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: build ## install what is missing, build, and start PiCloud
	@exec $(TARGET_DIR)/release/picloud serve

build: setup ## build the release binaries
	$(CARGO) build --locked --release -p picloud -p picloud-cli

test: setup setup-tests ## run all tests, against a throw-away PostgreSQL
	.ci/with-postgres $(CARGO) $(TEST_RUNNER) --workspace --locked

# The attacks by number are in docs/attacks.md. Their tests have `attack` in their names, or are in a file that is named
# here. The whole workspace each time: what `make test` built is used again.
torture: setup setup-tests ## make every attack and every fault, and print what came of it; QUICK=1 makes a fifth
	@printf '| %s | %s | %s | %s |\n' attack walls expected seen
	$(CARGO) test --locked -q --workspace --test escape -- --nocapture --test-threads=1
	@printf '| %s | %s | %s |\n' attack expected seen
	$(CARGO) test --locked -q --workspace --test hostile_worker
	.ci/with-postgres $(CARGO) test --locked -q --workspace --test it -- attack isolation quarantine starters worker_loss crashes bad_input caps:: goes_on_calling --nocapture --test-threads=1
	.ci/with-postgres $(CARGO) test --locked -q --workspace --lib -- attack verdicts:: admin::content outbound:: mail:: --nocapture --test-threads=1
	PICLOUD_TORTURE_QUICK=$(QUICK) $(BOUNDED) $(CARGO) test --locked -q --workspace --lib -- --ignored ten_thousand 50_000_bad_worlds --nocapture
	PICLOUD_TORTURE_QUICK=$(QUICK) $(BOUNDED) .ci/with-postgres $(CARGO) test --locked -q --workspace --test it -- --ignored torture_ --nocapture --test-threads=1

cross-check: setup ## build for ARM boards, and try it in emulators
	.ci/cross-check

schemathesis: setup ## try the admin API with what its OpenAPI document allows and forbids
	$(CARGO) build --locked -p picloud
	.ci/schemathesis

# Unless some measurements are named, the guest's size is measured too, which takes two builds of the guest, and hello
# beside an earlier release, which is built once.
bench: setup ## measure PiCloud beside its baselines; options in BENCH, such as BENCH=--quick
	@.ci/setup-bench
	$(CARGO) build --locked --release -p picloud
	$(if $(findstring --only,$(BENCH)),,$(CARGO) run --locked --quiet -p xtask -- guest)
	before=$$($(if $(findstring --only,$(BENCH))$(findstring --before,$(BENCH)),,.ci/build-before)) && \
		$(CARGO) run --locked --release -p picloud-bench -- $(BENCH) $${before:+--before "$$before"}

lint: fmt-check tidy clippy ## everything CI checks besides the tests

clippy: ## clippy on the workspace and on the guest
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	cd sandbox-wasm && $(CARGO) clippy --workspace --locked --target $(GUEST_TARGET) -- -D warnings

fmt: ## format all Rust code
	$(CARGO) fmt --all
	cd sandbox-wasm && $(CARGO) fmt --all

fmt-check:
	$(CARGO) fmt --all --check
	cd sandbox-wasm && $(CARGO) fmt --all --check

tidy: ## check the rules of the house that no compiler checks
	$(CARGO) run --locked --quiet -p xtask -- tidy

doc: ## build the documentation of all crates
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --locked --no-deps --document-private-items

setup: ## install what is missing on this machine
	@.ci/setup

setup-tests: ## install what only the tests need
	@.ci/setup-tests

ci: ## what CI runs
	.ci/run

clean: ## remove what was built
	$(CARGO) clean
	rm -rf sandbox-wasm/target

clean-data: ## delete the default data directory, with its database
	@test ! -L picloud-data/postgres || { echo "picloud-data/postgres links to $$(readlink picloud-data/postgres): remove that yourself"; exit 1; }
	rm -rf picloud-data
