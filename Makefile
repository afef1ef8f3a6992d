# make demo     replicate between two MySQL servers for half a minute, kill the worker, compare
# make test     all tests; fetches and starts the servers that they need
# make verify   what must hold before a merge; never writes to the tree
# make bench    apply one binlog with this worker and with MySQL's own replica

CARGO ?= cargo
# etcd's protocol is compiled from its definition.
export PROTOC := $(or $(PROTOC),$(shell command -v protoc),$(CURDIR)/target/servers/bin/protoc)

.DEFAULT_GOAL := help
.PHONY: help demo test verify bench

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo:
	@scripts/servers mysql protoc
	$(CARGO) build --release --locked --workspace --bins
	@target/release/demo

test:
	@scripts/servers mysql mariadb etcd protoc
	@CARGO="$(CARGO)" scripts/test

verify:
	@scripts/servers mysql mariadb etcd protoc
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) sim-clippy -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@CARGO="$(CARGO)" scripts/test

bench:
	@scripts/servers
	$(CARGO) build --release --locked --workspace --bins
	@target/release/bench
