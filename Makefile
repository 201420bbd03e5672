# Everything a new machine needs is Rust by rustup, a C compiler and make; `make help` lists the targets. What the tests need
# beside that, `make tools` installs.

# Cargo's own folder for what it builds; set CARGO_TARGET_DIR to share one between checkouts.
TARGET  := $(abspath $(or $(CARGO_TARGET_DIR),target))
DUNLIN  := $(TARGET)/release/dunlin
# Guests stay in their own folder whatever CARGO_TARGET_DIR says: the manifests name the files there.
GUESTS  := cd functions && env -u CARGO_TARGET_DIR cargo build --locked --release

# Where `make tools` puts what it has from the Python index.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.PHONY: help toolchain guests build tools test python demo bench lint fmt clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16

# rust-toolchain.toml names the compiler, its components and the WebAssembly targets. rustup installs what is missing by
# itself only where RUSTUP_AUTO_INSTALL isn't 0; asked like this it always does. A tenth of a second when all is there.
toolchain:
	@rustup toolchain install --no-self-update 2>&1 | grep -v 'using existing\|has been installed\|because:' || true
	@rustc --version >/dev/null

guests: toolchain ## build the example functions and the guests of the tests to WebAssembly
	$(GUESTS) --target wasm32-wasip2
	$(GUESTS) --target wasm32-wasip1 --package word-count --package misbehave-command
	sh tests/guests/foreign.sh

build: toolchain ## build the platform, optimised
	cargo build --locked --release --package dunlin

tools: ## install what the tests need beside Rust, where it is missing
	@sh tests/tools.sh

test: tools guests ## run all tests
	cd functions && env -u CARGO_TARGET_DIR cargo test --locked --workspace --exclude 'misbehave*'
	sh tests/sdks.sh
	cargo test --locked --workspace --release

# The examples in other languages than Rust are built with tools that the Python index has.
python:
	@sh tests/tools.sh python

demo: build guests python ## start a platform with the examples deployed (DEMO=check calls each and stops)
	@DUNLIN=$(DUNLIN) DEMO=$(DEMO) functions/demo.sh

bench: build guests ## measure against wasmtime serve, bare hyper, NATS JetStream and pg_recvlogical; takes about 30 minutes
	DUNLIN=$(DUNLIN) bench/http/run.sh
	DUNLIN=$(DUNLIN) bench/events/run.sh
	DUNLIN=$(DUNLIN) bench/cdc/run.sh
	DUNLIN=$(DUNLIN) bench/languages/run.sh
	DUNLIN=$(DUNLIN) bench/triggers/run.sh

lint: toolchain ## formatting, clippy, licences and sources of dependencies
	.ci/lint

fmt: toolchain ## format all code
	cargo fmt --all
	cd functions && cargo fmt --all
	cd bench && cargo fmt --all

clean: ## remove what was built, and the demo's data
	cargo clean
	rm -rf functions/target bench/target .dunlin/demo
