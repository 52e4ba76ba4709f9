# What can be done with TaskWatch from a clone. `make` or `make help` lists it.
# Needed on the machine: a Rust toolchain (with rustfmt and clippy), Go, make, a C compiler; for `make test` also
# Python 3 with venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
CONTROLPLANE := tests/controlplane/build
HELM_BUILD := tests/helm/build
KEYSTONE := tests/keystone/build
ORACLES := tests/oracles/build
PROMTOOL_BUILD := tests/promtool/build
TOXIPROXY := tests/toxiproxy/build

# What stands between the arguments of `call` has to be named.
comma := ,
# One line with the name of a step and what it takes, so that nobody wonders whether it hangs.
say = @printf '\n==> %s\n' "$(1)"

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  make demo CLUSTER=current   the same in the cluster of the current kubectl context"
	@echo "  make demo ONCE=1            the same unattended: ends by itself, fails when a watch does not reach its state"
	@echo "  make cluster NODE=1         the same with a real node, on which pods run (root, Linux)"
	@echo "  make bench QUICK=1          the same with fewer tasks, in a quarter of an hour; ONLY=B1,B3 picks scenarios; CHECK=1 fails when a ratio got worse; OPERATOR=FILE measures that program"

.PHONY: test
test: tools tools-go tools-python ## Everything: formatting, clippy, and all tests on a real API server
	$(call say,Formatting)
	$(CARGO) fmt --all --check
	$(call say,Clippy: up to 4 minutes the first time)
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(call say,Control plane: about 12 minutes the first time$(comma) then at once)
	$(CONTROLPLANE) --with-controller-manager
	$(call say,Keystone: about a minute the first time$(comma) then at once)
	$(KEYSTONE)
	$(call say,Toxiproxy: up to a minute the first time$(comma) then at once)
	$(TOXIPROXY)
	$(call say,What other tools make of our objects: up to three minutes the first time$(comma) then at once)
	$(ORACLES)
	$(call say,promtool: up to a minute the first time where it is not installed$(comma) then at once)
	$(PROMTOOL_BUILD)
	$(call say,Helm: up to 7 minutes the first time$(comma) then at once)
	$(HELM_BUILD)
	$(call say,Build of programs and tests: up to 5 minutes the first time)
	$(CARGO) test --locked --workspace --no-run
	$(call say,Tests: about 14 minutes)
	$(CARGO) test --locked --workspace --no-fail-fast

.PHONY: test-many
test-many: tools tools-go ## The tests that take minutes: one poisoned task among 10,000
	$(call say,Control plane: about 10 minutes the first time$(comma) then at once)
	$(CONTROLPLANE)
	$(call say,Tests of many objects: about 4 minutes)
	$(CARGO) test --locked --package taskwatch --test it -- --ignored

# How long the faults go on, and what they are; a run of its own each time unless SEED is given.
SECONDS ?= 600
.PHONY: soak
soak: tools tools-go ## Ten minutes of faults on all sides, then every status must be true: SEED=, SECONDS=
	$(call say,Build: up to 4 minutes the first time)
	$(CARGO) build --locked --workspace --bins
	$(call say,Control plane: about 10 minutes the first time$(comma) then at once)
	$(CONTROLPLANE)
	$(call say,Toxiproxy: up to a minute the first time$(comma) then at once)
	$(TOXIPROXY)
	$(call say,Soak: $(SECONDS) s of faults and up to 4 minutes around them)
	@exec "$${CARGO_TARGET_DIR:-target}/debug/taskwatch-soak" --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# The oldest and the newest Kubernetes that the README names: each has its API server in tests/controlplane/versions.
VERSIONS ?= 1.31 1.37
# What asks nothing of the API server that others do not.
SAME_ON_ALL := argocd chart claims gates helm keystone layers monitoring pages proxy references waiting
.PHONY: test-versions
test-versions: tools tools-go ## The tests on a real API server, on that of other minor versions: VERSIONS=1.31
	$(call say,Build: up to 4 minutes the first time)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --package taskwatch --test it --no-run
	@for version in $(VERSIONS); do \
		echo "==> Kubernetes $$version: its API server (up to 9 minutes the first time), and the tests (about 7 minutes)"; \
		assets=$$(tests/controlplane/build --version "$$version" --with-controller-manager) || exit; \
		KUBEBUILDER_ASSETS="$$assets" $(CARGO) test --locked --package taskwatch --test it -- $(addprefix --skip ,$(SAME_ON_ALL)) || exit; \
	done

# What is attacked is the program of the release; where its compiler cannot be had, the release build of this machine.
.PHONY: test-attacks
test-attacks: tools tools-linux ## Every attack of the security review on the release build in 256 MiB, beside a tenant who must not notice: ONLY=F1,F3
	$(call say,Build of the attackers: up to 4 minutes the first time)
	$(CARGO) build --locked --workspace --bins
	$(call say,Control plane: about 10 minutes the first time$(comma) then at once)
	$(CONTROLPLANE)
	$(call say,Release build of the operator: up to 8 minutes the first time)
	@operator=$$(CARGO="$(CARGO)" deploy/release/compile $(MACHINE)) || { \
		$(CARGO) build --locked --release --package taskwatch && operator="$${CARGO_TARGET_DIR:-target}/release/taskwatch"; } || exit; \
	echo "==> Attacks on $$operator: about 12 minutes"; \
	exec "$${CARGO_TARGET_DIR:-target}/debug/taskwatch-attacks" --operator "$$operator" $(if $(ONLY),--only $(ONLY))

.PHONY: demo
demo: tools ## Watch the operator at work: control plane, simulator, TaskWatches of all three systems; Ctrl-C ends it
	$(call say,Build: up to 4 minutes the first time)
	$(CARGO) build --locked --workspace --bins
ifneq ($(CLUSTER),current)
	$(call say,Control plane: about 10 minutes the first time$(comma) then at once)
	$(CONTROLPLANE)
endif
	$(call say,Demo)
	@exec "$${CARGO_TARGET_DIR:-target}/debug/taskwatch-demo" $(if $(filter current,$(CLUSTER)),--current-cluster) $(if $(ONCE),--once)

.PHONY: cluster
ifeq ($(NODE),1)
cluster: tools node
	@exec "$${CARGO_TARGET_DIR:-target}/debug/taskwatch-node" --stay "$(DIST)"
else
cluster: tools ## Start a control plane to try things on (prints its KUBECONFIG); Ctrl-C ends it
	$(call say,Build: up to 3 minutes the first time)
	$(CARGO) build --locked --workspace --bins
	$(call say,Control plane with its controllers: about 12 minutes the first time$(comma) then at once)
	$(CONTROLPLANE) --with-controller-manager
	@exec "$${CARGO_TARGET_DIR:-target}/debug/taskwatch-cluster"
endif

.PHONY: bench
bench: tools ## Measure: what the operator costs beside what the same work costs without it; docs/performance.md
	$(call say,Release build: up to 8 minutes the first time)
	$(CARGO) build --locked --release --workspace --bins
	$(call say,Control plane: about 10 minutes the first time$(comma) then at once)
	$(CONTROLPLANE)
	$(call say,Measuring: $(if $(QUICK),about 11 minutes,about 30 minutes))
	@exec "$${CARGO_TARGET_DIR:-target}/release/taskwatch-bench" $(if $(QUICK),--quick) $(if $(CHECK),--check) $(if $(RECORD),--record) $(if $(ONLY),--only $(ONLY)) $(if $(TASKS),--tasks $(TASKS)) $(if $(OPERATOR),--operator "$(OPERATOR)")

# This machine's architecture, as images name it.
MACHINE := $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,amd64)
# The architectures of the image, and where the release is written.
ARCHS ?= amd64 arm64
DIST ?= dist
.PHONY: release
release: tools-rust tools-release ## Write a release into dist/: image (OCI archive), install.yaml, CRDs, bill of materials: ARCHS=, IMAGE=, DIST=
	$(call say,Release for $(ARCHS): up to 6 minutes for each the first time)
	@ARCHS="$(ARCHS)" IMAGE="$(IMAGE)" deploy/release/build "$(DIST)"

.PHONY: test-release
test-release: release ## The release of a second clone is the same to the byte; its image is small, static, and runs for each architecture
	$(call say,Second clone and inspection: up to 6 minutes for each architecture)
	@deploy/release/test "$(DIST)"

.PHONY: deny
deny: tools-rust ## Licences, duplicates and sources of the crates, by cargo-deny (deny.toml); advisories where their database can be had
	@deploy/release/deny

# The node is this machine's; what it needs is made only where it can be.
test-node: ARCHS = $(MACHINE)
test-node: DIST = target/dist
NODE_NEEDS := $(if $(filter Linux-0,$(shell uname -s)-$(shell id -u)),tools tools-go release node)
.PHONY: test-node
test-node: $(NODE_NEEDS) ## The image on a real node (kubelet, containerd): installed, deleted, out of memory, hung, two of them, removed (root, Linux); BEFORE=: the directory of an earlier release to upgrade from
ifdef NODE_NEEDS
	$(call say,Tests on a real node: about 5 minutes)
	@exec "$${CARGO_TARGET_DIR:-target}/debug/taskwatch-node" "$(DIST)" $(if $(BEFORE),"$(BEFORE)")
else
	@echo "SKIPPED: make test-node makes a Kubernetes node in namespaces of its own, which only root on Linux can; nothing was tested."
endif

.PHONY: node
node:
	@tests/node/packages
	$(call say,Build: up to 4 minutes the first time)
	$(CARGO) build --locked --workspace --bins
	$(call say,Control plane and node: about 16 minutes the first time$(comma) then at once)
	$(CONTROLPLANE) --with-node
	@$(HELM_BUILD) >/dev/null

.PHONY: build
build: tools-rust ## Build the operator, optimised: target/release/taskwatch
	$(call say,Release build: up to 6 minutes the first time)
	$(CARGO) build --locked --release --package taskwatch

.PHONY: fmt
fmt: tools-rust ## Format the code
	$(CARGO) fmt --all

.PHONY: lint
lint: tools-rust ## Check formatting and run clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: crds
crds: tools-rust ## Write crds/*.yaml from the code
	$(CARGO) run --locked --package taskwatch --bin taskwatch -- crds --dir crds

.PHONY: clean
clean: ## Remove what cargo has built; the control plane stays in its cache
	$(CARGO) clean

# One clear sentence for each tool that is missing.
.PHONY: tools tools-rust tools-go tools-linux tools-python tools-release
tools-rust:
	@command -v $(CARGO) >/dev/null || { echo "make: the Rust toolchain is missing (cargo): install it from https://rustup.rs" >&2; exit 1; }
	@$(CARGO) fmt --version >/dev/null 2>&1 || { echo "make: rustfmt is missing: rustup component add rustfmt" >&2; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || { echo "make: clippy is missing: rustup component add clippy" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "make: a C compiler is missing (cc), Rust links with it: on Debian, apt-get install gcc libc6-dev" >&2; exit 1; }

tools: tools-rust
ifneq ($(CLUSTER),current)
	@[[ -n "$${KUBEBUILDER_ASSETS:-}" ]] || command -v go >/dev/null || { echo "make: Go 1.24 or newer is missing, it builds the API server for tests and demo: install it, or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver and kubectl" >&2; exit 1; }
endif

tools-go:
	@command -v go >/dev/null || { echo "make: Go 1.24 or newer is missing, it builds the fault proxy of the soak: install it" >&2; exit 1; }

tools-linux:
	@[[ "$$(uname)" = Linux ]] || { echo "make: the attacks need Linux: memory cgroups, network namespaces, /proc" >&2; exit 1; }

tools-python:
	@python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { echo "make: Python 3.10 or newer with venv is missing, it runs the Keystone that the tests sign in to: on Debian, apt-get install python3-venv" >&2; exit 1; }

tools-release:
	@python3 -c 'import sys, tomllib' 2>/dev/null || { echo "make: Python 3.11 or newer is missing, it writes the image and the bill of materials: on Debian, apt-get install python3" >&2; exit 1; }
