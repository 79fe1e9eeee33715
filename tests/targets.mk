# targets.mk - everything make does besides building: setup, tests, lint, bench, install.

.PHONY: setup setup-test demo test check lint asan replication bench bench-peer install uninstall clean help

SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

# Installs what is missing with the system's package manager, and says what.
define install_packages
	@if command -v dpkg-query >/dev/null; then \
	  missing=""; for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$p"; done; \
	  if [ -n "$$missing" ]; then echo "Installing with apt-get:$$missing"; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing" >/dev/null || { echo "apt-get failed; install by hand:$$missing"; exit 1; }; fi; \
	elif command -v dnf >/dev/null; then echo "Please install: sudo dnf install $(DNF)"; \
	elif command -v pacman >/dev/null; then echo "Please install: sudo pacman -S --needed $(PACMAN)"; \
	elif command -v brew >/dev/null; then echo "Please install: brew install $(BREW)"; \
	else echo "Packages needed (Debian's names): $(1)"; fi
endef

setup:
	$(call install_packages,$(APT))
setup-test:
	$(call install_packages,$(APT) $(APT_TEST))

help:
	@echo "make             build $(B)/quench"
	@echo "make setup       install the packages it needs (apt; others are named)"
	@echo "make demo        set up, build, run the main recipe, print where the figure is"
	@echo "make test        set up, build, run all tests (1 and 4 threads)"
	@echo "make check       the tests alone, no set-up"
	@echo "make lint        luacheck and the invariants of the house"
	@echo "make asan        the tests under the address and undefined-behaviour sanitizers"
	@echo "make bench       speed of everything, one JSON line a case"
	@echo "make bench-peer  the same work in PyTorch beside it, and the ratio"
	@echo "make install PREFIX=/usr/local    and make uninstall"
	@echo "make clean       remove $(B)/"

clean:
	rm -rf $(B)

# what goes where, as source:destination
INSTALLED := $(B)/quench:bin/quench docs/shell/quench.1:share/man/man1/quench.1 \
  docs/shell/quench.bash:share/bash-completion/completions/quench docs/shell/_quench:share/zsh/site-functions/_quench
install: all
	@for f in $(INSTALLED); do \
	  mode=644; [ "$${f#*:}" = bin/quench ] && mode=755; \
	  install -D -m $$mode "$${f%%:*}" "$(DESTDIR)$(PREFIX)/$${f#*:}" && echo "  $(DESTDIR)$(PREFIX)/$${f#*:}" || exit 1; done
uninstall:
	@for f in $(INSTALLED); do rm -f "$(DESTDIR)$(PREFIX)/$${f#*:}"; done

# ---- demo -----------------------------------------------------------------
# The main recipe, at a size that two cores finish in minutes.
DEMO ?= decay --scale=tiny
demo: setup
	@$(MAKE) --no-print-directory -j2 all
	$(B)/quench run $(DEMO)

# ---- tests ----------------------------------------------------------------
CTEST_BIN := $(CTESTS:%.c=$(B)/%)
LTESTS := $(wildcard tests/unit/*.lua tests/parity/*.lua tests/golden/*.lua tests/fuzz/*.lua tests/e2e/*.lua)
export QUENCH_BINARY := $(B)/quench

test: setup-test
	@$(MAKE) --no-print-directory -j2 check

# luacheck, and the rules of the house that a machine can check
lint: setup-test
	luacheck --std luajit -q lua tests $(wildcard plots recipes)
	tests/invariants.sh

# Every test with one thread and with four; prove reads the TAP of both kinds.
check: $(B)/quench $(CTEST_BIN)
	@B=$(B) tests/run.sh $(CTEST_BIN) $(LTESTS)

# The same under the address, leak and undefined-behaviour sanitizers, in a build folder of its own.
asan: setup-test
	@ASAN_OPTIONS=detect_stack_use_after_return=1 LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0 \
	  UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 THREADS=$${THREADS:-2} TEST_TIMEOUT=900 \
	  $(MAKE) --no-print-directory -j2 B=build/asan SAN="-fsanitize=address,undefined -fno-omit-frame-pointer" check

# The pages made from the help records; CI checks that they are current.
docs: $(B)/quench
	rm -rf docs/reference
	$(B)/quench help --markdown=docs/reference

# The table of claims from the finished runs below OUT (quench run all --scale=tiny makes them).
OUT ?= out
replication: $(B)/quench
	$(B)/quench replication --out=$(OUT) --write=docs/replication.md

# Speed: each file of tests/bench prints one JSON line a case, beside a probe of the machine.
bench: $(B)/quench
	@for f in $(filter-out tests/bench/peer.lua tests/bench/measure.lua,$(wildcard tests/bench/*.lua)); do $(B)/quench $$f || exit 1; done

# Training steps and Hessian products here and in PyTorch, in turn: CASES, ROUNDS and PYTHON may be set.
bench-peer: $(B)/quench
	@$(B)/quench tests/bench/peer.lua
