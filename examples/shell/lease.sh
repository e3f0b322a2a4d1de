#!/usr/bin/env bash
# Leases an account, sends requests with its key, reports each response, and does what lessor says next. Needs curl and jq.
# Try it on simulated accounts: lessor demo --serve -- examples/shell/lease.sh
set -euo pipefail
url=${ANTHROPIC_BASE_URL:-https://api.anthropic.com}/v1/messages
request='{"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Say hello."}]}'
answer=$(mktemp -d)
trap 'rm -r "$answer"' EXIT

lease=$(lessor acquire anthropic --pid $$ --json) # ends with this script
for ((number = 1; number <= ${1:-10}; )); do
  # the key is not an argument of curl: other users can read those
  status=$(jq -r '.credential | "\(.header): \(if .scheme then .scheme + " " else "" end)\(.secret)"' <<<"$lease" |
    curl -sS -H @- -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' -d "$request" "$url" \
      -o "$answer/body" -D "$answer/headers" -w '%{http_code}')
  mapfile -t headers < <(tr -d '\r' <"$answer/headers" | grep -E '^[A-Za-z0-9-]+:')
  next=$(lessor report "$(jq -r .lease <<<"$lease")" --status "$status" "${headers[@]/#/--header=}" \
    --body "$answer/body" --json)
  case $(jq -r .action <<<"$next") in
    continue) echo "$((number++)). $(jq -r .account.label <<<"$lease"): $(jq -r '.content[0].text' "$answer/body")" ;;
    switch) lease=$(jq .lease <<<"$next") && echo "a limit: switched to $(jq -r .account.label <<<"$lease")" ;;
    retry | wait) sleep "$(jq '.after_ms / 1000' <<<"$next")" ;;
    *) jq -r '"stopped: \(.reason) \(.link // "")"' <<<"$next" >&2 && exit 1 ;;
  esac
done
