#!/usr/bin/env bash
# One issue for each watch: opened when it goes red, added to while it stays red, closed when it is green again.
#   issue.sh TITLE OUTCOME [FINDINGS]      OUTCOME: success, or anything else; FINDINGS: a file, shown in the issue
set -euo pipefail
title="$1" outcome="$2" findings="${3:-}"
run="$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID"
number="$(gh issue list --state open --limit 500 --json number,title \
    --jq "map(select(.title == \"$title\")) | .[0].number // empty")"
if [ "$outcome" = success ]; then
    [ -z "$number" ] || gh issue close "$number" --comment "Green again: $run"
    exit
fi
text="$(mktemp)"
{
    echo "The run of $(date -u +%F) ended with \`$outcome\`: $run"
    if [ -s "$findings" ]; then
        # An issue holds 65,536 characters.
        printf '\n```text\n%s\n```\n' "$(head -c 20000 "$findings")"
    fi
} >"$text"
if [ -n "$number" ]; then
    gh issue comment "$number" --body-file "$text"
else
    gh issue create --title "$title" --body-file "$text"
fi
