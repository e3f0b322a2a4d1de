// Starts as many agents as the accounts allow now, and keeps them busy through limits until all tasks are done.
// Try it on simulated accounts: lessor demo --serve --quota 5 -- node orchestrator.ts
import { acquire, forecast, type Lease } from "lessor"
import { setTimeout as sleep } from "node:timers/promises"
import { ask, model, tasks } from "./tasks.ts"

const [todo, done] = [tasks(60), new Map<string, number>()]

async function agent(): Promise<void> {
  await using lease: Lease = await acquire("anthropic", { model, wait: 60 })
  for (let task = todo.shift(); task !== undefined; task = todo.shift()) {
    const response = await ask(lease, task)
    const { action, after_ms, reason } = await lease.report(response)
    if (action === "stop") throw new Error(`${task}: ${reason}`)
    if (action === "continue") done.set(lease.account.label!, (done.get(lease.account.label!) ?? 0) + 1)
    else { todo.push(task); await sleep(after_ms) }
  }
}

const { grantable } = await forecast("anthropic", { model })
await Promise.all(Array.from({ length: grantable }, agent))
console.log(`${grantable} agents did ${[...done.values()].reduce((sum, number) => sum + number, 0)} tasks:`, Object.fromEntries(done))
