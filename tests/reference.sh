#!/bin/bash
# reference.sh - are the pages of docs/reference what `make docs` would write now?
cd "$(dirname "$0")/.." || exit 1
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"${QUENCH_BINARY:-build/quench}" help --markdown="$fresh" || exit 1
diff -r "$fresh" docs/reference || { echo "docs/reference is out of date: run make docs"; exit 1; }
