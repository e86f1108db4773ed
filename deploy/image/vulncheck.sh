#!/usr/bin/env bash
# Looks for known vulnerabilities in the image's program, of which the image holds nothing else: vulncheck.sh [IMAGE]
# A finding fails. A database that cannot be reached is told apart: it exits with 0 and says NOT CHECKED.
. "$(dirname "$0")/lib.sh"
scratch
binary_of "${1:-$IMAGE:1}" "$scratch/ftpnode"
if out=$(go tool -modfile=tools/go.mod govulncheck -mode=binary "$scratch/ftpnode" 2>&1); then
    tail -n 3 <<<"$out"
elif grep -q 'fetching vulnerabilities' <<<"$out"; then
    echo "NOT CHECKED: the vulnerability database cannot be reached from here"
else
    fail "$out"
fi
