# Coracle: everything a newcomer, a contributor or a packager needs to type. `make help` lists it.
# Every target can be typed again at any time; what is done already is not done twice.

SHELL   := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
HOST    := $(shell uname -m)
ARCH    ?= $(HOST)

# Static musl binaries; where their target cannot be had, static glibc ones. This is asked again by every
# recipe, after `target` has tried to add the musl target.
have    = $(shell d=$$(rustc --print target-libdir --target $(1) 2>/dev/null) && test -d "$$d" && echo yes)
MUSL    := $(ARCH)-unknown-linux-musl
GNU     := $(ARCH)-unknown-linux-gnu
TARGET  = $(if $(call have,$(MUSL)),$(MUSL),$(GNU))
OUT     = target/$(TARGET)/release

# Crates that bring C or assembly are compiled by the host's gcc, or by a cross gcc.
export CC_x86_64_unknown_linux_musl  ?= $(if $(filter x86_64,$(HOST)),gcc,x86_64-linux-gnu-gcc)
export CC_aarch64_unknown_linux_musl ?= $(if $(filter aarch64,$(HOST)),gcc,aarch64-linux-gnu-gcc)
# init has no Rust runtime below it, so what glibc needs itself (its unwinder) is named here. This holds for
# these builds only: what cargo compiles for its own use on this machine is not static.
static  := -C target-feature=+crt-static -C relocation-model=static $(addprefix -C link-arg=,-l:libgcc_eh.a -l:libc.a)
flags   = CARGO_TARGET_$(subst -,_,$(shell echo $(GNU) | tr a-z A-Z))_RUSTFLAGS='$(static)'
STATIC  = $(if $(filter %-gnu,$(TARGET)),$(flags))

# What `runner --version` tells as its commit; nothing where this is no clone and nobody says it.
export CORACLE_COMMIT ?= $(shell git -C $(CURDIR) describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null)

# dist/ holds the binaries of this machine; those of another architecture go to dist/ARCH/.
BINS := init runner rootfs-tool
DIST := $(if $(filter $(HOST),$(ARCH)),dist,dist/$(ARCH))

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: build ## compose an image from this machine's own tools, run a command in it, and boot it
	@echo
	@echo '--> compose images/shell: no network, the programs are those of this machine'
	dist/rootfs-tool compose images/shell -t shell
	@echo
	@echo '--> run a command in it: PID 1 is init, the command is its child'
	dist/runner run --rm shell sh -c 'echo "I am process $$$$, user $$(id -u)"; ps; cat /proc/1/comm'
	@echo
	@echo '--> boot the same image as a machine, with the same init as its PID 1'
	@if dist/rootfs-tool boot --dry-run shell -- true >/dev/null; \
		then dist/rootfs-tool boot shell -- sh -c 'echo "I run on Linux $$(uname -r), user $$(id -u)"; cat /proc/1/comm'; \
		else echo '    not booted, for what is said above; everything else works without it'; fi
	@echo
	@echo '--> that was: composed by dist/rootfs-tool, run by dist/runner, with dist/init as PID 1. Yours to type:'
	@echo '    dist/runner run --rm -it shell sh'
	@echo '    dist/rootfs-tool boot shell'

.PHONY: build
build: target ## the three static binaries and their man pages, in dist/ (ARCH=aarch64: in dist/aarch64/)
	@echo '--> build for $(TARGET)'
	$(STATIC) $(CARGO) build --release --locked --target $(TARGET) -p coracle-init
	$(STATIC) CORACLE_INIT=$(CURDIR)/$(OUT)/init $(CARGO) build --release --locked --target $(TARGET) -p coracle-runner -p coracle-rootfs-tool
	@mkdir -p $(DIST)
	@for b in $(BINS); do install -m 755 $(OUT)/$$b $(DIST)/$$b.new && mv -f $(DIST)/$$b.new $(DIST)/$$b; done
	@cd $(DIST) && ls -l $(BINS)
ifeq ($(HOST),$(ARCH))
	@echo '--> man pages and completions, in $(DIST)/share/'
	$(STATIC) CORACLE_INIT=$(CURDIR)/$(OUT)/init $(CARGO) build --release --locked --target $(TARGET) -p coracle-docs
	@rm -rf $(DIST)/share.new && $(OUT)/coracle-docs $(DIST)/init $(DIST)/share.new \
		&& rm -rf $(DIST)/share && mv $(DIST)/share.new $(DIST)/share
endif

# rustup's answer is only noise where it has none: then the binaries are made with glibc.
.PHONY: target
target:
	@command -v $(CARGO) >/dev/null || { echo 'Rust is missing: see https://rustup.rs' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'a C linker is missing: apt-get install gcc libc6-dev' >&2; exit 1; }
	@test -n '$(call have,$(MUSL))' || { echo '--> add the Rust target $(MUSL)'; rustup target add $(MUSL); } \
		|| { echo '--> no $(MUSL) to be had: the binaries are linked to glibc, static'; \
		     test -n '$(call have,$(GNU))' || { echo 'nor is $(GNU): with rustup, `rustup default stable` first, as this user' >&2; exit 1; }; }

.PHONY: components
components:
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

.PHONY: check
check: components ## the contributor's minute: format, lints, unit tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@! command -v cargo-deny >/dev/null || $(CARGO) deny --locked --log-level error check bans licenses sources
	$(CARGO) test --locked --workspace --exclude coracle-tests

.PHONY: needs
needs: ## install what the tests need (Debian, Ubuntu); asks first on a terminal
	@tests/needs

.PHONY: test
test: needs check build ## everything that CI runs
	tests/tiers

.PHONY: test-init-aarch64
test-init-aarch64: ## build init for aarch64 and test its behaviour under qemu-user
	@test -n '$(call have,aarch64-unknown-linux-musl)' || rustup target add aarch64-unknown-linux-musl
	$(CARGO) build --release --locked --target aarch64-unknown-linux-musl -p coracle-init
	@mkdir -p dist/aarch64 && install -m 755 target/aarch64-unknown-linux-musl/release/init dist/aarch64/init
	CORACLE_INIT_UNDER='qemu-aarch64-static dist/aarch64/init' $(CARGO) test --locked -p coracle-tests --test init

.PHONY: test-all
test-all: needs check build test-init-aarch64 ## everything there is, the slow ones in full
	CORACLE_TEST_ALL=1 tests/tiers

.PHONY: bench
bench: build ## start-up, memory, PID 1 and images, each beside its peers on this machine
	$(CARGO) bench --locked -p coracle-tests

.PHONY: size
size: build ## each binary and what weighs most in it
	@tests/size $(DIST) $(TARGET)

.PHONY: install
install: ## install what `make build` made: PREFIX=/usr/local DESTDIR=
	@test -x dist/runner || { echo 'nothing is built yet: make build' >&2; exit 1; }
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin libexec/coracle share/coracle share/doc/coracle)
	install -m 755 dist/runner dist/rootfs-tool $(DESTDIR)$(PREFIX)/bin/
	install -m 755 dist/init $(DESTDIR)$(PREFIX)/libexec/coracle/
	cp -R --no-preserve=ownership images $(DESTDIR)$(PREFIX)/share/coracle/
	install -m 644 $(wildcard *.md docs/*.md) LICENSE $(DESTDIR)$(PREFIX)/share/doc/coracle/
	cp -R --no-preserve=ownership dist/share/. $(DESTDIR)$(PREFIX)/share/
	@packaging/apparmor '$(PREFIX)' '$(DESTDIR)'
