/** The plugin in real opencode 1, against the simulated provider. `lessor` and `opencode` must be in PATH. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { Demo, Opencode, Terminal, until } from "./demo.js"

const plugin = `file://${fileURLToPath(new URL("../src/index.js", import.meta.url))}`

test("two sessions use two accounts, and a limit in one is a toast and no error", { timeout: 300_000 }, async () => {
  await using demo = await Demo.with([4, 1000, 1000])
  await using opencode = await Opencode.start(demo, plugin)
  const sessions = [await opencode.session(), await opencode.session()]
  // one after the other, so that the first gets the account with the small quota
  for (const session of sessions)
    assert.equal((await opencode.prompt(session, "Say hello.")).text, "Hello from the demo.")
  const accountsOf = async (session: string) => {
    const rows = (await demo.requests()).filter((row) => row.session === session)
    return [...new Set(rows.map((row) => row.account.label))]
  }
  const [first, second] = [await accountsOf(sessions[0]!), await accountsOf(sessions[1]!)]
  assert.equal(first.length, 1, inspect(await demo.requests(), { depth: 5 }))
  assert.equal(second.length, 1)
  assert.notEqual(first[0], second[0])

  await using terminal = new Terminal(opencode, sessions[0]!)
  await until("the terminal shows the session", () => terminal.text.includes("Hello from the demo.") || undefined)
  for (let number = 1; number <= 4; number++) {
    const { text, error } = await opencode.prompt(sessions[0]!, `Say hello again, ${number}.`)
    assert.deepEqual([text, error], ["Hello from the demo.", undefined])
  }
  const toast = await until("a toast", () => opencode.events.find(({ type }) => type === "tui.toast.show"))
  const moved = await accountsOf(sessions[0]!)
  assert.equal(moved.length, 2)
  assert.match(
    String(toast.properties["message"]),
    new RegExp(`^lessor: ${moved[0]} → ${moved[1]} \\(${moved[0]}: limited`),
  )
  await until(
    "the terminal shows the toast",
    () => terminal.text.includes(`lessor: ${moved[0]} → ${moved[1]}`) || undefined,
  )
  assert.doesNotMatch(terminal.text, /429|rate limit|retry/i)
  assert.deepEqual(await accountsOf(sessions[1]!), second, "the other session stays")

  // the gateway was refused, opencode was not
  assert(
    (await demo.requests()).every((row) => row.status === 200),
    inspect(await demo.requests(), { depth: 5 }),
  )
  const troubles = opencode.events.filter(
    ({ type, properties }) =>
      type === "session.error" ||
      (type === "session.status" && (properties["status"] as { type: string }).type === "retry"),
  )
  assert.deepEqual(troubles, [])

  assert.equal((await demo.client.status())["leases"], 2)
  await opencode.remove(sessions[0]!)
  await until("its lease has ended", async () => (await demo.client.status())["leases"] === 1 || undefined)
})
