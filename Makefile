# `make` alone lists the targets. Everything that is started is private: own sockets, ports and directories.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.PHONY: help demo up down test soak bench lint audit fmt

help: ## Lists the targets.
	@echo "Mothball"
	@sed -n 's/^\([a-z]*\): .*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## Installs what is missing, builds, and runs the main job end to end on a real container.
	@deploy/debian/setup.sh demo
	@deploy/local/demo.sh

up: ## Starts the embedded all-in-one and leaves it running; prints the portal's address and the admin key.
	@deploy/debian/setup.sh demo
	@deploy/local/up.sh

down: ## Stops what `make up` started; what it has saved stays.
	@deploy/local/down.sh

# The binary that the suites drive is built with the tests: alone it would be built a second time, with other features.
test: ## Installs what the tests need and runs the whole suite, real servers included.
	@deploy/debian/setup.sh test
	@if command -v cargo-nextest >/dev/null; then \
	  cargo nextest run --locked --workspace --profile ci; \
	else \
	  cargo test --locked --workspace --no-fail-fast; \
	fi

soak: ## The tests of `make test`, with full sizes and hundreds of seeds.
	@deploy/debian/setup.sh test
	MOTHBALL_SOAK=1 PROPTEST_CASES=2000 cargo test --locked --workspace --no-fail-fast

bench: ## Saves and launches beside docker and buildah, in one run; ARGS="--size ci --only w1", or --help.
	@deploy/debian/setup.sh bench
	@cargo build --release --locked -p mothball-cli
	@cargo build --release --locked -p mothball-bench
	@MOTHBALL_BIN="$(CURDIR)/target/release/mothball" target/release/mothball-bench $(ARGS)

lint: ## Format, clippy, dependencies, shell scripts.
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; else echo "cargo-deny is not installed: dependencies not checked"; fi
	@if command -v shellcheck >/dev/null; then shellcheck deploy/*/*.sh; else echo "shellcheck is not installed: scripts not checked"; fi

audit: ## Known vulnerabilities among the dependencies; fetches the advisory database.
	cargo deny check advisories

fmt: ## Formats the code.
	cargo fmt
