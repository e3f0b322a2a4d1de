#!/usr/bin/env bash
# Starts as many agents as can have an account now, and keeps that many at work until all tasks are done. Each leases its
# own account; when that meets a limit, the gateway continues its request on another account, or when the limit ends.
# Try it on simulated accounts: lessor demo --serve --accounts 4 --quota 5 -- examples/shell/orchestrator.sh
set -euo pipefail

# what an agent does, started by `lessor run`, which sets the address of the gateway and a key for it
if [[ ${1:-} == agent ]]; then
  curl -sS --fail --retry 5 -H @- -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \
    -d '{"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Say hello."}]}' \
    "$ANTHROPIC_BASE_URL/v1/messages" <<<"x-api-key: $ANTHROPIC_API_KEY" | jq -r '.content[0].text' | sed "s/^/$2. /"
  exit
fi

agents=$(lessor forecast anthropic --json | jq .grantable) # ends with status 4 if none can start now
echo "$agents agents" >&2
seq "${1:-40}" | xargs -P "$agents" -I TASK lessor run -p anthropic -- "$0" agent TASK
