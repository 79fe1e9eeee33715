#!/bin/bash
# exec.sh BUILD FILE - how prove runs one test: Lua files in the shipped binary, programs as they are.
limit=${TEST_TIMEOUT:-300}
case $2 in
  *.lua) timeout -k 5 "$limit" "$1/quench" "$2" ;;
  *) timeout -k 5 "$limit" "$2" ;;
esac
status=$?
[ $status -ne 124 ] || echo "# $2: stopped after $limit seconds"
exit $status
