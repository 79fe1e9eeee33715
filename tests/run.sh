#!/bin/bash
# run.sh FILE... - runs test programs and Lua test files with 1 and 4 threads, under prove,
# and ends with the line "N passed, N failed". Prints files that fail, with their reasons.
#
# A file that dies, runs out of time (TEST_TIMEOUT seconds), or does not print the tests it
# planned counts as a failure even if each test that it printed passed.
set -u
B=${B:-build}
export QUENCH_BINARY=${QUENCH_BINARY:-$B/quench}
export OMP_WAIT_POLICY=passive # more threads than cores, two files at a time: waiting threads must sleep
status=0 passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for threads in ${THREADS:-1 4}; do
  export OMP_NUM_THREADS=$threads
  echo "# $threads thread(s), $# files"
  prove --jobs "${JOBS:-2}" --failures --comments --exec "tests/exec.sh $B" "$@" >"$log" 2>&1 || status=1
  grep -v -e '^ok$' -e '\.\. ok$' -e '^All tests successful\.$' -e '^Result: PASS$' "$log"
  all=$(sed -n 's/^Files=.*Tests=\([0-9]*\),.*/\1/p' "$log")
  bad=$(sed -n 's/.*(Wstat: .*Failed: \([0-9]*\))$/\1/p' "$log" | awk '{s+=$1} END{print s+0}')
  broken=$(grep -c '(Wstat: .*Failed: 0)$' "$log") # no test failed, but the file did
  failed=$((failed + bad + broken)) passed=$((passed + ${all:-0} - bad))
done
[ $status -eq 0 ] || [ $failed -gt 0 ] || failed=1
echo "$passed passed, $failed failed"
exit $status
