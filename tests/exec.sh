#!/bin/bash
# exec.sh BUILD FILE - how prove runs one test: Lua files in the shipped binary, programs as they are.
case $2 in
  *.lua) exec "$1/quench" "$2" ;;
  *) exec "$2" ;;
esac
