#!/bin/bash
# invariants.sh - the rules of the house that a machine can check (docs/architecture.md names the reasons).
# Prints each breach as file:line: text; exit status 1 if there is one.
cd "$(dirname "$0")/.." || exit 1
shopt -s lastpipe # the last part of a pipe runs in this shell, so that rule() can count
breaches=0

# rule TEXT < lines: each line is a breach
rule() {
  local lines
  lines=$(cat)
  [ -z "$lines" ] && return
  echo "not kept: $1"
  echo "$lines" | sed 's/^/  /'
  breaches=$((breaches + $(echo "$lines" | wc -l)))
}

# found PATTERN PATH...: file:line: text, without comment lines
found() {
  local pattern=$1
  shift
  git grep -nE --untracked "$pattern" -- "$@" | grep -vE '^[^:]+:[0-9]+: *(/\*|\*|//|--)'
}

found '#include [<"](lua|lauxlib|lualib|luajit)' 'core' 'plots/*.[ch]' |
  rule "core/ and plots/*.c know nothing of Lua"
found '(^|[^a-z_])(printf|fprintf|puts|fputs|putchar|perror|exit|_exit|abort)\(' 'core' 'plots/*.c' |
  rule "core/ and plots/*.c print nothing and never exit"
found '(^|[^a-z_>.:])(malloc|calloc|realloc|aligned_alloc|free|strdup)\(' 'core' 'plots/*.c' 'lua/bind' | grep -v '^core/base/mem\.c:' |
  rule "memory comes from base/mem.h"
found 'storage->data' 'core' 'plots' 'lua' | grep -vE '^core/(kernel|tensor)/' |
  rule "only core/kernel/ touches tensor data"
found '\((const )?(float|double|int32_t) \*\) ?tensor_data\([^)]*\)\)?\[|\* ?\((const )?(float|double|int32_t) \*\) ?tensor_data' 'core' 'plots' 'lua' |
  grep -v '^core/kernel/' |
  rule "only core/kernel/ reads or writes through tensor_data"
found '#pragma omp.*(parallel|for ).*reduction\([+*]' 'core' |
  rule "no reduction by OpenMP: its order depends on the number of threads"
found '#pragma omp atomic' 'core' |
  rule "no atomics: their order depends on the day"
found '(lua_error|luaL_error|longjmp)\(' 'core' |
  rule "no jumps out of core/"
found 'luaL_register\(L, "' 'lua/bind' |
  rule "bindings make no globals: luaL_register gets NULL for a name"
git grep -nIE --untracked '\b(TODO|FIXME|XXX|HACK)\b' -- . ':!tests/invariants.sh' ':!docs/architecture.md' |
  rule "no unfinished business"
# files that are there, of the given patterns
files() { git ls-files -co --exclude-standard -- "$@" | while read -r f; do [ -f "$f" ] && echo "$f"; done; }

files '*.c' '*.h' '*.lua' '*.sh' Makefile | xargs wc -l | awk '$2 != "total" && $1 > 600 {print $2 ": " $1 " lines"}' |
  rule "files have at most 600 lines"
files '*.c' '*.h' '*.lua' | xargs awk 'FNR == 1 && !/^(\/\*|--)/ {print FILENAME ":1: " $0}' |
  rule "each file says at its top what it does"

[ $breaches -eq 0 ] && echo "invariants: all kept" || echo "invariants: $breaches breaches"
[ $breaches -eq 0 ]
