/** The client against the real daemon. `lessor` must be in PATH. */
import assert from "node:assert/strict"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { test as anyTest } from "node:test"
import { inspect } from "node:util"
import { Client, LessorError, type Event, type Lease } from "../src/index.js"
import { Daemon, until } from "./daemon.js"

/** A test that may take a minute. */
const test = (name: string, run: () => Promise<void>) => anyTest(name, { timeout: 60_000 }, run)

/** The error of a call that fails. */
async function refusal(call: Promise<unknown>): Promise<LessorError> {
  const error = await call.then(() => undefined, (error: unknown) => error)
  assert(error instanceof LessorError, `it was ${inspect(error)}`)
  return error
}

const limited = (seconds: number) => ({ status: 429, headers: { "retry-after": String(seconds) }, body: "{}" })

test("16 tasks lease 16 accounts", async () => {
  await using daemon = await Daemon.with(16)
  const leases = await Promise.all(Array.from({ length: 16 }, () => daemon.client.acquire("anthropic", { wait: 5 })))
  assert.equal(new Set(leases.map((lease) => lease.account.label)).size, 16)
  assert.equal(new Set(leases.map((lease) => lease.info.fence)).size, 16)
  assert.equal((await daemon.client.status())["leases"], 16)
  await Promise.all(leases.map((lease) => lease.release()))
  assert.equal((await daemon.client.status())["leases"], 0)
})

test("the account of a killed process is free within 250 ms", async () => {
  await using daemon = await Daemon.with(1)
  const { child, account } = await daemon.holder()
  assert.equal(account, "a1")
  assert.equal((await refusal(daemon.client.acquire("anthropic", { exclusive: true, wait: 0 }))).kind, "no_capacity")
  const next = daemon.client.acquire("anthropic", { exclusive: true, wait: 10 })
  await until("the request waits", async () => ((await daemon.client.status())["queue"] as unknown[]).length || undefined)
  const killed = performance.now()
  child.kill("SIGKILL")
  await using lease = await next
  const took = performance.now() - killed
  assert.equal(lease.account.label, "a1")
  assert(took <= 250, `it took ${took.toFixed(1)} ms`)
})

test("leases survive a daemon that is killed, with their accounts and fences", async () => {
  await using daemon = await Daemon.with(4)
  const leases = await Promise.all(Array.from({ length: 4 }, () => daemon.client.acquire("anthropic")))
  const before = leases.map((lease) => [lease.account.label, lease.info.fence])
  const killed = daemon.pid
  daemon.kill()
  await Promise.all(leases.map((lease) => lease.renew()))
  assert.notEqual(daemon.pid, killed)
  assert.deepEqual(leases.map((lease) => [lease.account.label, lease.info.fence]), before)
  assert(leases.every((lease) => !lease.signal.aborted))
  assert.equal((await leases[0]!.report({ ok: true })).action, "continue")
  // a later lease has a later fence
  await leases[0]!.release()
  await using later = await daemon.client.acquire("anthropic")
  assert(later.info.fence > Math.max(...before.map(([, fence]) => Number(fence))))
})

test("leases survive a restart of the daemon without a call", async () => {
  await using daemon = await Daemon.with(1)
  await using lease = await daemon.client.acquire("anthropic", { exclusive: true })
  daemon.lessor("restart")
  await until("the lease is back", async () => (await daemon.client.status())["leases"] || undefined)
  assert.equal((await refusal(daemon.client.acquire("anthropic", { exclusive: true, wait: 0 }))).kind, "no_capacity")
  await lease.renew()
})

test("a lease that cannot be resumed says so", async () => {
  await using daemon = await Daemon.with(1)
  const lease = await daemon.client.acquire("anthropic")
  const lost = new Promise((done) => lease.signal.addEventListener("abort", done))
  daemon.lessor("stop")
  // the next daemon knows nothing of it
  rmSync(join(daemon.home, "data"), { recursive: true })
  daemon.lessor("ping")
  await lost
  assert.equal((lease.signal.reason as LessorError).kind, "unknown_lease")
  assert.equal((await refusal(lease.renew())).kind, "unknown_lease")
  await lease.release()
})

test("a request that waits survives a daemon that is killed", async () => {
  await using daemon = await Daemon.with(1)
  const holder = await daemon.client.acquire("anthropic", { exclusive: true })
  const next = daemon.client.acquire("anthropic", { exclusive: true, wait: 30 })
  await until("the request waits", async () => ((await daemon.client.status())["queue"] as unknown[]).length || undefined)
  daemon.kill()
  await holder.renew()
  await holder.release()
  await using lease = await next
  assert.equal(lease.account.label, "a1")
})

test("a 429 switches to another account", async () => {
  await using daemon = await Daemon.with(2)
  await using lease = await daemon.client.acquire("anthropic")
  const before = { account: lease.account.label, headers: lease.headers, id: lease.info.lease }
  const body = JSON.stringify({ type: "error", error: { type: "rate_limit_error", message: "limit" } })
  const decision = await lease.report(new Response(body, { status: 429, headers: { "retry-after": "600" } }))
  assert.equal(decision.action, "switch")
  assert.notEqual(lease.account.label, before.account)
  assert.notDeepEqual(lease.headers, before.headers)
  assert.notEqual(lease.info.lease, before.id)
  assert.equal((await daemon.client.status())["leases"], 1, "the lease before has ended")
  assert.equal((await lease.report(new Response("{}"))).action, "continue")
})

test("a request that must wait is told for how long", async () => {
  await using daemon = await Daemon.with(1)
  await using lease = await daemon.client.acquire("anthropic")
  const decision = await lease.report(limited(2))
  assert.equal(decision.action, "wait")
  assert(decision.after_ms > 0 && decision.after_ms <= 3000, inspect(decision))
  const error = await refusal(daemon.client.acquire("anthropic", { wait: 0 }))
  assert.equal(error.kind, "all_limited")
  assert(error.retryAfter! > 0 && error.retryAfter! <= 3, String(error.retryAfter))
  assert.deepEqual(error.accounts.map(({ name, why }) => [name, why]), [["a1", "limited"]])
  const began = Date.now()
  await using next = await daemon.client.acquire("anthropic", { wait: 10 })
  assert(Date.now() - began <= error.retryAfter! * 1000 + 1000)
  assert.equal(next.account.label, "a1")
})

test("forecast says how many leases there are now, and when more", async () => {
  await using daemon = await Daemon.with(2)
  assert.equal((await daemon.client.forecast("anthropic")).unshared, 2)
  await using lease = await daemon.client.acquire("anthropic")
  await lease.report(limited(600))
  const forecast = await daemon.client.forecast("anthropic")
  assert.equal(forecast.unshared, 0)
  assert(forecast.next_at! > Date.now())
  assert.deepEqual(forecast.accounts.map(({ why }) => why).sort(), ["limited", null])
})

test("events go on after the end of a daemon, and say so", async () => {
  await using daemon = await Daemon.with(1)
  const stop = new AbortController()
  const seen: Event[] = []
  const reading = (async () => {
    for await (const event of daemon.client.events({ kinds: ["lease.granted"], signal: stop.signal })) seen.push(event)
  })()
  /** Leases until the subscription has told of a lease with this label. */
  const told = (label: string) => until(label, async () => {
    await using _lease = await daemon.client.acquire("anthropic", { label })
    return seen.some((event) => event["label"] === label) || undefined
  })
  await told("first")
  daemon.kill()
  await told("second")
  assert(seen.some((event) => event.kind === "client.reconnected"))
  stop.abort()
  await reading
})

test("an aborted request leaves the queue", async () => {
  await using daemon = await Daemon.with(1)
  await using _lease = await daemon.client.acquire("anthropic", { exclusive: true })
  const stop = new AbortController()
  const waiting = daemon.client.acquire("anthropic", { exclusive: true, wait: 60, signal: stop.signal })
  const length = async () => ((await daemon.client.status())["queue"] as unknown[]).length
  await until("it waits", async () => (await length()) || undefined)
  stop.abort(new Error("enough"))
  await assert.rejects(waiting, /enough/)
  await until("it has left", async () => ((await length()) === 0) || undefined)
  await assert.rejects(daemon.client.acquire("anthropic", { signal: stop.signal }), /enough/)
})

test("a lease is bound to a process or a time if that is wanted", async () => {
  await using daemon = await Daemon.with(2)
  const leases: Lease[] = [
    await daemon.client.acquire("anthropic", { bind: { pid: process.pid } }),
    await daemon.client.acquire("anthropic", { bind: "ttl", ttl: 60 }),
  ]
  assert(leases[1]!.info.expires_at! - Date.now() <= 60_000)
  daemon.kill()
  for (const lease of leases) await lease.renew()
  for (const lease of leases) await lease.release()
})

test("a secret is in the headers, and nowhere that is printed", async () => {
  await using daemon = await Daemon.with(1)
  await using lease = await daemon.client.acquire("anthropic")
  assert.deepEqual(lease.headers, { "x-api-key": "sk-ant-api03-secret-1" })
  assert.equal((await lease.credential({ force: false })).secret, "sk-ant-api03-secret-1")
  assert.doesNotMatch(inspect(lease, { depth: 9, showHidden: true }) + JSON.stringify([lease, lease.info]), /secret-1/)
  const { key, url } = await lease.gateway()
  assert.match(key, /^lk_/)
  assert.match(url!, /^http:\/\/127\.0\.0\.1:/)
})

test("errors say what is missing", async () => {
  await using daemon = new Daemon()
  const forbidden = await refusal(new Client({ ...daemon.env, LESSOR_NO_START: "1" }).status())
  assert.equal(forbidden.kind, "no_daemon")
  assert.match(forbidden.message, /no daemon at .*lessor\.sock: .*; start it: lessor ping/)
  const missing = await refusal(new Client({ ...daemon.env, PATH: "/nowhere" }).status())
  assert.equal(missing.kind, "no_daemon")
  assert.match(missing.message, /the program lessor is not in PATH/)
  const started = await refusal(daemon.client.acquire("anthropic", { wait: 0 }))
  assert.equal(started.kind, "no_account")
  assert.match(started.hint!, /lessor /)
  assert.equal((await refusal(daemon.client.call("no.such"))).kind, "bad_request")
})

test("a released lease can make no call", async () => {
  await using daemon = await Daemon.with(1)
  const lease = await daemon.client.acquire("anthropic")
  await Promise.all([lease.release(), lease.release()])
  assert.equal((await refusal(lease.report({ ok: true }))).kind, "stale_lease")
})
