# Quench - a laboratory for quantization dynamics.
#
#   make          build build/quench (packages must be there: make setup)
#   make help     all targets
#
# Settings you may want to change:
CC      ?= cc
PREFIX  ?= /usr/local
ARCH    ?= native
B       ?= build
SAN     ?=
V       ?=
# No need to change anything below this line.

SHELL := /bin/bash
Q := $(if $(V),,@)
say = $(if $(V),@:,@printf '  %-5s %s\n' $(1) $(2))
# ?= does not replace make's built-in CC
ifeq ($(origin CC),default)
CC := gcc
endif

# ---- packages -------------------------------------------------------------
APT := build-essential pkg-config libluajit-5.1-dev libopenblas-openmp-dev libfreetype-dev libpng-dev libjansson-dev libpcre2-dev libedit-dev fonts-dejavu-core
APT_TEST := perl lua-check
DNF := gcc make pkgconf luajit-devel openblas-devel freetype-devel libpng-devel jansson-devel pcre2-devel libedit-devel dejavu-sans-fonts
PACMAN := base-devel pkgconf luajit openblas freetype2 libpng jansson pcre2 libedit ttf-dejavu
BREW := pkg-config luajit openblas freetype libpng jansson pcre2 libomp

PKGS := luajit freetype2 libpng jansson libpcre2-8 libedit zlib

# building without the packages: one clear line instead of a missing header
BUILDS := $(if $(MAKECMDGOALS),$(filter all check docs bench install $(B)/%,$(MAKECMDGOALS)),all)
ifneq ($(BUILDS),)
ifneq ($(shell pkg-config --exists $(PKGS) 2>/dev/null && echo found),found)
MISSING := $(foreach p,$(PKGS),$(shell pkg-config --exists $(p) 2>/dev/null || echo $(p)))
$(error packages are missing: $(if $(shell command -v pkg-config),,pkg-config) $(MISSING). Install them with: make setup)
endif
endif

# ---- flags ----------------------------------------------------------------
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   = $(shell pkg-config --libs $(PKGS) 2>/dev/null)
# The OpenMP build of OpenBLAS, whatever the system's default is: one pool of threads.
BLAS_DIR := $(firstword $(wildcard /usr/lib/*/openblas-openmp /usr/lib64/openblas-openmp))
ifneq ($(BLAS_DIR),)
BLAS_LIBS := -L$(BLAS_DIR) -Wl,-rpath,$(BLAS_DIR) -lopenblas
BLAS_CFLAGS := $(foreach d,$(wildcard /usr/include/*/openblas-openmp),-I$(d))
else
BLAS_LIBS := $(or $(shell pkg-config --libs openblas 2>/dev/null),-lopenblas)
BLAS_CFLAGS := $(shell pkg-config --cflags openblas 2>/dev/null)
endif

VERSION := 0.1.0
WARN := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
BASE := -std=gnu11 -g -fopenmp -I. -Icore -Iplots -Ilua $(WARN) $(SAN) -MMD -MP -DQUENCH_VERSION='"$(VERSION)"'
OPT  := $(if $(SAN),-O1,-O2)
# Kernels: vectorised for this processor. NaN and infinity keep their meaning; only errno and traps are given up.
# Full 512-bit vectors where there are any: gcc's default of 256 halves the rate of vmath.h (measured).
WIDE := $(if $(findstring avx512f,$(shell $(CC) $(if $(ARCH),-march=$(ARCH)) -dM -E - </dev/null 2>/dev/null | tr A-Z a-z)),-mprefer-vector-width=512)
KOPT := $(if $(SAN),-O2,-O3) $(if $(ARCH),-march=$(ARCH)) $(WIDE) -fno-math-errno -fno-trapping-math -fno-signed-zeros -Wno-unknown-pragmas
LIBS = $(PKG_LIBS) $(BLAS_LIBS) -lz -lpthread -ldl -lm

# ---- sources --------------------------------------------------------------
CORE   := $(filter-out core/kernel/cpu/%,$(wildcard core/*/*.c core/*/*/*.c))
TYPED  := $(wildcard core/kernel/cpu/*.c)
PLOTS  := $(wildcard plots/*.c)
BIND   := $(wildcard lua/bind/*.c) lua/libraries.c lua/main.c
LUASRC := $(wildcard lua/quench/*.lua lua/quench/*/*.lua plots/*.lua recipes/*.lua)
CTESTS := $(wildcard tests/unit/*.c tests/fuzz/*.c)

CORE_O  := $(CORE:%.c=$(B)/%.o) $(TYPED:%.c=$(B)/f32/%.o) $(TYPED:%.c=$(B)/f64/%.o)
PLOTS_O := $(PLOTS:%.c=$(B)/%.o)
BIND_O  := $(BIND:%.c=$(B)/%.o)
OBJ     := $(CORE_O) $(PLOTS_O) $(BIND_O) $(B)/embedded.o $(B)/identity.o

.PHONY: all
all: $(B)/quench

$(B)/quench: $(OBJ)
	$(call say,link,$@)
	$(Q)$(CC) -fopenmp $(SAN) -Wl,-E -o $@ $(OBJ) $(LIBS)

$(B)/core/kernel/%.o: core/kernel/%.c
	@mkdir -p $(@D)
	$(call say,cc,$<)
	$(Q)$(CC) $(BASE) $(KOPT) $(BLAS_CFLAGS) -c -o $@ $<
$(B)/core/%.o: core/%.c
	@mkdir -p $(@D)
	$(call say,cc,$<)
	$(Q)$(CC) $(BASE) $(OPT) $(PKG_CFLAGS) $(BLAS_CFLAGS) -c -o $@ $<
# the kernels of cpu/ are compiled once an element type
$(B)/f32/%.o: %.c
	@mkdir -p $(@D)
	$(call say,cc32,$<)
	$(Q)$(CC) $(BASE) $(KOPT) $(BLAS_CFLAGS) -DREAL_BITS=32 -c -o $@ $<
$(B)/f64/%.o: %.c
	@mkdir -p $(@D)
	$(call say,cc64,$<)
	$(Q)$(CC) $(BASE) $(KOPT) $(BLAS_CFLAGS) -DREAL_BITS=64 -c -o $@ $<
# pictures: no fused multiply-add, so that every processor draws the same pixels
$(B)/plots/%.o: plots/%.c
	@mkdir -p $(@D)
	$(call say,cc,$<)
	$(Q)$(CC) $(BASE) $(OPT) -ffp-contract=off $(PKG_CFLAGS) -c -o $@ $<
$(B)/lua/%.o: lua/%.c
	@mkdir -p $(@D)
	$(call say,cc,$<)
	$(Q)$(CC) $(BASE) $(OPT) $(PKG_CFLAGS) $(BLAS_CFLAGS) -c -o $@ $<

# Lua sources inside the binary
$(B)/embed: lua/embed/embed.c
	@mkdir -p $(@D)
	$(Q)$(CC) -O1 -o $@ $<
$(B)/embedded.c: $(B)/embed $(LUASRC)
	$(call say,embed,"$(words $(LUASRC)) Lua files")
	$(Q)$(B)/embed $@ $(LUASRC)
# What the program was built from: cached results of another build are shown with a note.
$(B)/identity.c: $(CORE) $(TYPED) $(PLOTS) $(BIND) $(wildcard core/*/*.h core/*/*/*.h plots/*.h lua/*/*.h) $(LUASRC)
	@mkdir -p $(@D)
	$(Q)printf 'extern const char quench_build[];\nconst char quench_build[] = "%s";\n' "$$(cat $^ | sha256sum | cut -c1-8)" >$@
$(B)/identity.o: $(B)/identity.c
	$(Q)$(CC) -c -o $@ $<
$(B)/embedded.o: $(B)/embedded.c
	$(Q)$(CC) -O0 -c -o $@ $<

# C tests: each file is a program that prints TAP
$(B)/tests/%: tests/%.c $(CORE_O) $(PLOTS_O)
	@mkdir -p $(@D)
	$(call say,test,$<)
	$(Q)$(CC) $(BASE) $(OPT) $(PKG_CFLAGS) $(BLAS_CFLAGS) -o $@ $< $(CORE_O) $(PLOTS_O) $(LIBS)

-include $(OBJ:.o=.d)

include tests/targets.mk
