#!/usr/bin/env bash
# What an issue shows of logs: the names of failing tests, or the last lines where no test was reached.
#   findings.sh LOG...
set -euo pipefail
for log in "$@"; do
    echo "# $(basename "$log" .log)"
    grep -aE '^(FAILED|ERROR) ' "$log" | cut -c1-300 | sort -u || tail -n 25 "$log"
done
