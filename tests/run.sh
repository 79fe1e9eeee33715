#!/bin/bash
# run.sh FILE... - runs test programs and Lua test files with 1 and 4 threads, under prove,
# and ends with the line "N passed, N failed".
set -u
B=${B:-build}
status=0 passed=0 failed=0
for threads in ${THREADS:-1 4}; do
  export OMP_NUM_THREADS=$threads
  echo "# $threads thread(s)"
  log=$(mktemp)
  prove --jobs "${JOBS:-2}" --failures --exec "tests/exec.sh $B" "$@" >"$log" 2>&1 || status=1
  grep -v '^ok$' "$log"
  all=$(sed -n 's/^Files=.*Tests=\([0-9]*\),.*/\1/p' "$log")
  bad=$(sed -n 's/.*Failed: \([0-9]*\)).*/\1/p' "$log" | awk '{s+=$1} END{print s+0}')
  broken=$(grep -c 'Wstat: .*Failed: 0)' "$log")   # died without a failed test: counts as one
  failed=$((failed + bad + broken)) passed=$((passed + ${all:-0} - bad))
  rm -f "$log"
done
[ $status -eq 0 ] || [ $failed -gt 0 ] || failed=1
echo "$passed passed, $failed failed"
exit $status
