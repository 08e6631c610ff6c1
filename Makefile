# Coracle: everything a newcomer, a contributor or a packager needs to type. `make help` lists it.

ARCH   ?= $(shell uname -m)
TARGET ?= $(ARCH)-unknown-linux-musl
PREFIX ?= /usr/local
DESTDIR ?=
CARGO  ?= cargo

# Crates that bring C or assembly are compiled by the host's gcc, or by a cross gcc.
export CC_x86_64_unknown_linux_musl  ?= $(if $(filter x86_64,$(shell uname -m)),gcc,x86_64-linux-gnu-gcc)
export CC_aarch64_unknown_linux_musl ?= $(if $(filter aarch64,$(shell uname -m)),gcc,aarch64-linux-gnu-gcc)

OUT  := target/$(TARGET)/release
BINS := init runner rootfs-tool
# dist/ holds the binaries of this machine; those of another architecture go to dist/ARCH/.
DIST := $(if $(filter $(shell uname -m),$(ARCH)),dist,dist/$(ARCH))

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: target ## the three static binaries, in dist/
	$(CARGO) build --release --locked --target $(TARGET) -p coracle-init -p coracle-runner -p coracle-rootfs-tool
	@mkdir -p $(DIST)
	@for b in $(BINS); do install -m 755 $(OUT)/$$b $(DIST)/$$b.new && mv -f $(DIST)/$$b.new $(DIST)/$$b; done
	@ls -l $(addprefix $(DIST)/,$(BINS))

.PHONY: target
target:
	@rustc --print target-libdir --target $(TARGET) 2>/dev/null | xargs -r test -d || rustup target add $(TARGET)

.PHONY: check
check: ## the contributor's minute: format, lints, unit tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --locked --workspace --exclude coracle-tests

.PHONY: test
test: check build ## everything that CI runs
	$(CARGO) test --locked -p coracle-tests
