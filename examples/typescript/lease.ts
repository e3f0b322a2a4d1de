// Leases an account, sends a request with it, and follows what the daemon says: at a limit, the lease becomes another
// account's. Try it on simulated accounts: lessor demo --serve -- node lease.ts
import { acquire } from "lessor"
import { setTimeout as sleep } from "node:timers/promises"

const url = `${process.env["ANTHROPIC_BASE_URL"] ?? "https://api.anthropic.com"}/v1/messages`
const model = "claude-sonnet-4-5"
const body = JSON.stringify({ model, max_tokens: 64, messages: [{ role: "user", content: "Say hello." }] })

await using lease = await acquire("anthropic", { model, wait: 30 })
for (let tries = 1; ; tries++) {
  const headers = { ...lease.headers, "anthropic-version": "2023-06-01", "content-type": "application/json" }
  const response = await fetch(url, { method: "POST", headers, body, signal: lease.signal })
  const { action, after_ms, reason } = await lease.report(response)
  if (action === "stop" || tries === 20) throw new Error(`${lease.account.label}: ${reason ?? response.status}`)
  if (action === "continue") { console.log(`${lease.account.label}: ${await response.text()}`); break }
  await sleep(after_ms)
}
