# Two commands do everything on a fresh Debian machine: `sudo make run` and `sudo make test`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PREFIX ?= /usr/local

# Under sudo, cargo works as the user who called it, when the tree is theirs: their toolchain is used, and
# nothing in target/ ends up owned by root.
OWNER := $(shell stat -c %U .)
ifeq ($(SUDO_USER),$(OWNER))
export AS_OWNER := runuser -u $(OWNER) --
export HOME := $(shell getent passwd $(OWNER) | cut -d: -f6)
endif
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH):/usr/sbin:/sbin
CARGO = $(AS_OWNER) cargo

# Static programs: musl starts fastest; glibc linked in where rustc has no musl target. Looked up when a
# recipe runs, because `deps` may have just added the target. (Before 4.4 make exports nothing to $(shell).)
SYSROOT = $(shell PATH="$(PATH)" HOME="$(HOME)" $(AS_OWNER) rustc --print sysroot)
LIBC = $(if $(shell ls -d $(SYSROOT)/lib/rustlib/$(ARCH)-unknown-linux-musl 2>/dev/null),musl,gnu)
ARCH := $(shell uname -m)
STATIC = --target $(ARCH)-unknown-linux-$(LIBC) \
    --config 'target.$(ARCH)-unknown-linux-gnu.rustflags="-Ctarget-feature=+crt-static"'
BUILD = $(CARGO) build --release $(STATIC)
BUILT = $(or $(CARGO_TARGET_DIR),target)/$(ARCH)-unknown-linux-$(LIBC)/release

PROGRAMS := ampoule ampoule-bundle
# pause is linked in a way of its own, and for each architecture whose target is there.
PAUSES = $(foreach arch,x86_64 aarch64,$(if $(wildcard $(SYSROOT)/lib/rustlib/$(arch)-unknown-linux-musl),$(arch)))
PAUSE = $(or $(CARGO_TARGET_DIR),target)/$1-unknown-linux-musl/release/pause
GOARCH = $(subst x86_64,amd64,$(subst aarch64,arm64,$1))
# Samples from a static busybox, and those from Debian's packages, which take a minute.
SAMPLES := $(patsubst %/,%,$(sort $(dir $(wildcard bundles/*/config.json bundles/*/run))))
DEBIAN := bundles/debian bundles/nginx
BUNDLES := $(filter-out $(DEBIAN),$(SAMPLES))

.PHONY: help build programs shim run bundles test test-all torture torture-program soak as-root suite vm-tree vm vm-shell lint fuzz \
    bench install uninstall clean pause image manual deps deps-build deps-lint deps-run deps-test deps-vm deps-bench deps-fuzz

help: ## Print this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1 \2/p' $(MAKEFILE_LIST) | while read -r target does; do \
	    printf '  make %-9s %s\n' "$$target" "$$does"; done

build: programs shim manual ## Build the static, stripped programs into target/bin/, manual pages into target/share/

programs: pause
	@$(BUILD) $(PROGRAMS:%=-p %)
	@$(AS_OWNER) install -C -D -t target/bin $(PROGRAMS:%=$(BUILT)/%)

# A program that is there once for each pod: without a relocation its pages are the file's, shared by all of them.
shim: deps-build
	@$(CARGO) rustc --release $(STATIC) -p ampoule-shim --bin containerd-shim-ampoule-v2 -- -C relocation-model=static
	@$(AS_OWNER) install -C -D -t target/bin $(BUILT)/containerd-shim-ampoule-v2
	@$(AS_OWNER) ln -sf containerd-shim-ampoule-v2 target/bin/ampoule-shim

manual: deps-build ## Write manual pages and shell completions only
	@$(AS_OWNER) rm -rf target/share
	@$(CARGO) run --quiet -p ampoule-manual -- target/share
	@$(AS_OWNER) install -m 644 -D -t target/share/man/man1 pause/pause.1 shim/ampoule-shim.1
	@$(AS_OWNER) install -m 644 -D -t target/share/man/man8 shim/containerd-shim-ampoule-v2.8

pause: deps-build ## Build only pause, the PID 1 of pods
	@$(CARGO) build --release -p ampoule-pause --config pause/link.toml \
	    $(or $(PAUSES:%=--target %-unknown-linux-musl),$(STATIC))
	@$(AS_OWNER) install -C -D -t target/bin $(BUILT)/pause

image: programs ## Write target/pause.tar, an OCI image of pause
	@$(AS_OWNER) target/bin/ampoule-bundle pack --entrypoint /pause --user 65535:65535 \
	    --ref ampoule/pause:$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml) \
	    $(foreach arch,$(PAUSES),--platform linux/$(call GOARCH,$(arch)) $(call PAUSE,$(arch))) target/pause.tar

run: programs bundles/hello/rootfs ## Run the sample bundle `hello` (as root)
	@target/bin/ampoule run --bundle bundles/hello hello-$$$$

bundles: $(BUNDLES:%=%/rootfs) ## Create the root filesystems of the sample bundles

$(DEBIAN:%=%/rootfs): | deps-vm
	@bundles/make-debian $@ $(if $(findstring nginx,$@),nginx-light)

.SECONDEXPANSION:
bundles/%/rootfs: bundles/make-rootfs $$(wildcard bundles/$$*/*.sh) | deps-run
	@$(AS_OWNER) $< $@ $(wordlist 2,9,$^)

# Another runtime is put through the integration tests only. They are static, to be run in the test machine too; the
# others aren't: they load libseccomp, to compare with it. Without nextest plain cargo does: installing nextest from
# source takes longer than all the tests.
UNITS = --workspace --exclude ampoule-tests --exclude ampoule-torture
INTEGRATION = -p ampoule-tests -p ampoule-torture $(STATIC) --config tests/profile.toml
CARGO_TEST = $(if $(shell PATH="$(PATH)" command -v cargo-nextest),nextest run,test --tests)

# What runs tests or the machine dies with make, and takes along what it has started.
ALONG = exec setpriv --pdeathsig TERM

test: ## Run the tests that every change must pass (as root); TESTS=identity PLACES=host,v2-user RUNTIME=runc select some; STRICT=1 fails skips
test-all: ## Run all tests everywhere (as root), before a release; SHARD=host, v1, v2 or engines runs a part

# Whoever asks for some integration tests asks for no unit tests and no torture; of the shards the host has those.
WHOLE = $(if $(RUNTIME)$(TESTS)$(PLACES)$(filter-out host,$(SHARD)),,$1)

test test-all: as-root suite torture-program
	@$(call WHOLE,$(CARGO) $(CARGO_TEST) $(UNITS))
	@$(call WHOLE,$(CARGO) $(CARGO_TEST) $(INTEGRATION) --lib --bin torture)
	@$(call WHOLE,$(if $(filter test-all,$@),$(TORTURE) self-check))
	@$(call WHOLE,$(TORTURE) all --seconds $(if $(filter test-all,$@),60,12))
	@$(call WHOLE,$(if $(FUZZER),$(AS_OWNER) tests/fuzz/run 3))
	@$(ALONG) target/suite/runner $(if $(filter test-all,$@),all,quick)

# Crashes, faults and races: built as the integration tests are, and so is the program that reports from inside.
TORTURE = PROBE=$(BUILT:release=debug)/probe $(BUILT:release=debug)/torture

torture-program: deps-test deps-build
	@$(CARGO) build --bin torture --bin probe $(INTEGRATION)

torture: as-root programs shim torture-program ## Inject kills, faults and races everywhere (as root): an hour; see docs/reliability.md
	@$(TORTURE) self-check
	@$(TORTURE) all

soak: as-root programs torture-program ## Run random verbs on fifty containers at once, and kill some, for MINUTES=10 (as root)
	@$(TORTURE) soak --minutes $(or $(MINUTES),10)

as-root:
	@[ $$(id -u) = 0 ] || { echo "the integration tests need root: sudo make test" >&2; exit 1; }

# The integration tests, the programs that they use and what runs them, in target/suite. At the same time what is shipped,
# for each of that is linked by one thread.
suite: deps-test deps-vm deps-build
	@$(MAKE) --no-print-directory build image & shipped=$$!; status=0; \
	    { set -o pipefail; $(CARGO) test $(INTEGRATION) --lib --test '*' --no-run --message-format json-render-diagnostics | \
	        $(AS_OWNER) tests/vm/gather; } || status=$$?; \
	    wait $$shipped && exit $$status

MACHINE = $(ALONG) tests/vm/machine -d target/vm/tree.ext4 $(VM)

vm: export COMMAND := $(value CMD)
vm: vm-tree ## Run CMD='…' in the test machine; VM='-k v1 -i engines' selects its kernel and image
	@$(MACHINE) "$$COMMAND"

vm-shell: vm-tree ## Open a shell in the test machine
	@$(MACHINE) -t 0 -s 'bash --login'

# The built tree, as a disk for the test machine.
vm-tree: suite
	@$(AS_OWNER) tests/vm/tree

lint: deps-build deps-lint ## Check formatting, clippy's and rustc's warnings, licences and advisories
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if ! command -v cargo-deny >/dev/null; then echo "SKIP cargo-deny: it is not installed" >&2; \
	elif $(CARGO) deny --log-level off fetch db; then $(CARGO) deny --log-level error check; \
	else echo "SKIP cargo-deny's advisories: their database is out of reach" >&2; \
	    $(CARGO) deny --log-level error check bans licenses sources; fi

# Where it can be run without installing anything, `make test` runs a little of it.
FUZZER = $(shell export PATH="$(PATH)" HOME="$(HOME)"; command -v cargo-fuzz && $(AS_OWNER) rustup toolchain list | grep ^nightly)

fuzz: deps-build deps-fuzz ## Fuzz every parser of foreign input, SECONDS=60 each; TARGETS='config layer' selects some
	@$(AS_OWNER) tests/fuzz/run $(or $(SECONDS),60) $(TARGETS)

bench: deps-bench deps-run programs shim ## Compare with other runtimes on PATH and with bare kernel calls (as root)
	@$(BUILD) -p ampoule-tests --bins
	@$(CARGO) bench -p ampoule-tests --bench lifecycle --bench shim --no-run
	@BASELINE=$(abspath $(BUILT)/baseline) cargo bench -p ampoule-tests --bench lifecycle
	@PROBE=$(abspath $(BUILT)/probe) cargo bench -p ampoule-tests --bench shim

INSTALLED = $(addprefix $(DESTDIR)$(PREFIX)/, bin/ampoule bin/ampoule-bundle bin/pause \
    bin/containerd-shim-ampoule-v2 bin/ampoule-shim $(patsubst target/%,%,$(shell find target/share -type f)))

install: ## Install programs, manual pages and completions below $(DESTDIR)$(PREFIX); run `make build` first
	@[ -d target/share ] || { echo "there is nothing to install yet: make build" >&2; exit 1; }
	install -D -t $(DESTDIR)$(PREFIX)/bin target/bin/ampoule target/bin/ampoule-bundle target/bin/pause \
	    target/bin/containerd-shim-ampoule-v2
	ln -sf containerd-shim-ampoule-v2 $(DESTDIR)$(PREFIX)/bin/ampoule-shim
	cd target && find share -type f -exec install -m 644 -D {} $(abspath $(DESTDIR)$(PREFIX))/{} \;

uninstall: ## Remove what `make install` installed
	@rm -f $(INSTALLED)

clean: ## Remove everything that was built
	rm -rf target bundles/*/rootfs

deps: deps-build deps-run deps-test deps-vm deps-bench ## Install missing dependencies, from Debian and with rustup (as root)

$(addprefix deps-,build lint run test vm bench fuzz): deps-%:
	@.ci/deps $*
