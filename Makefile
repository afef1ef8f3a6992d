# make demo     move a database between two MySQL servers, kill the worker meanwhile, compare
# make test     all tests; fetches and starts the servers that they need
# make verify   what must hold before a merge; never writes to the tree
# make soak     play simulated worlds until stopped; failing seeds go to target/failing-seeds.txt
# make fuzz     feed hostile bytes to every decoder, FUZZ_SECONDS (60) each; names what it finds
# make mutants  show how soon simulated worlds notice that one of the worker's guards is missing
# make bench    apply a binlog with this worker and with MySQL's own replica; relay one with this
#               worker and with mysqlbinlog; copy tables with this worker, mysqldump and mydumper
# make migrate  move 2 GiB (DM_MIGRATE_MIB) under load, kill the worker 20 times, compare thrice

CARGO ?= cargo
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
# etcd's protocol is compiled from its definition.
export PROTOC := $(or $(PROTOC),$(shell command -v protoc),$(CURDIR)/target/servers/bin/protoc)

.DEFAULT_GOAL := help
.PHONY: help demo test verify soak fuzz mutants bench migrate

help:
	@sed -n '/^# make/,/^$$/s/^# //p' Makefile

demo:
	@scripts/servers mysql protoc
	$(CARGO) build --release --locked --workspace --bin dm-worker --bin demo
	@target/release/demo

test:
	@scripts/servers mysql mariadb etcd mydumper protoc
	@CARGO="$(CARGO)" scripts/test

verify:
	@scripts/servers mysql mariadb etcd mydumper protoc
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) sim-clippy -- -D warnings
	cd fuzz && $(CARGO) fmt --check \
		&& $(CARGO) clippy --locked --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@CARGO="$(CARGO)" scripts/test

soak:
	$(CARGO) sim soak --jobs $(JOBS)

fuzz:
	@scripts/fuzz $(FUZZ_SECONDS)

mutants:
	$(CARGO) sim mutants --jobs $(JOBS)

bench:
	@scripts/servers
	$(CARGO) build --release --locked --workspace --bins
	@target/release/bench
	@target/release/bench_relay
	@target/release/bench_copy

migrate:
	@scripts/servers mysql mariadb protoc
	$(CARGO) build --release --locked --workspace --bin dm-worker --bin migrate
	@target/release/migrate
