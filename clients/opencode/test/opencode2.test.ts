/** The two parts for opencode 2, called as its plugin API calls them, against the simulated provider. What calls is not
 * opencode 2 itself. */
import assert from "node:assert/strict"
import { test } from "node:test"
import type { HttpRequest, ModelRequest, ServerContext, TuiContext } from "../src/opencode2.js"
import { rebase, redirect } from "../src/leases.js"
import server from "../src/index.js"
import tui from "../src/tui.js"
import { Demo, until } from "./demo.js"

/** What opencode 2 does for a model request: both hooks, then the request. */
class Host {
  readonly #hooks = new Map<string, (event: never) => Promise<void> | void>()
  readonly context: ServerContext = {
    options: {},
    session: {
      hook: async (name: string, callback: (event: never) => Promise<void> | void) => {
        this.#hooks.set(name, callback)
      },
    },
  }

  async request(sessionID: string, kind = "primary"): Promise<Response> {
    const of = { sessionID, model: { providerID: "anthropic", id: "claude-sonnet-4-5" }, kind }
    const model: ModelRequest = {
      ...of,
      baseURL: "https://api.anthropic.com/v1",
      headers: { "x-session-affinity": sessionID },
    }
    await this.#hooks.get("model.request")!(model as never)
    const headers = {
      ...model.headers,
      "content-type": "application/json",
      authorization: "Bearer of-the-configuration",
    }
    const body = JSON.stringify({ model: of.model.id, max_tokens: 8, messages: [{ role: "user", content: "Hi." }] })
    const http: HttpRequest = {
      ...of,
      request: new Request(`${model.baseURL}/messages`, { method: "POST", headers, body }),
    }
    await this.#hooks.get("http.request")!(http as never)
    return fetch(http.request)
  }
}

test("the hooks lease per session, and a limit is a toast and no 429", { timeout: 60_000 }, async () => {
  await using demo = await Demo.with([3, 1000, 1000])
  process.env["LESSOR_HOME"] = demo.home
  const host = new Host()
  const end = await server.setup(host.context)
  const toasts: Parameters<TuiContext["ui"]["toast"]["show"]>[0][] = []
  const close = tui.setup({
    data: { session: { get: (session) => (session === "ses_1" || session === "ses_2" ? {} : undefined) } },
    ui: { toast: { show: (toast) => void toasts.push(toast) } },
  })
  // title and first step at once
  const first = await Promise.all([host.request("ses_1"), host.request("ses_1", "title")])
  const second = await host.request("ses_2")
  const accounts = [...first, second].map((response) => response.headers.get("x-lessor-account"))
  assert.equal(accounts[0], accounts[1])
  assert.notEqual(accounts[0], accounts[2])
  const moved = new Set<string | null>()
  await until("the toast of a switch", async () => {
    const response = await host.request("ses_1")
    assert.equal(response.status, 200)
    moved.add(response.headers.get("x-lessor-account"))
    return toasts.length ? true : undefined
  })
  assert(moved.size >= 1 && ![...moved].includes(accounts[2]!))
  assert.equal(toasts[0]!.sessionID, "ses_1")
  assert.match(toasts[0]!.message, /^lessor: .+ → .+ \(.+: limited until \d\d:\d\d\)$/)
  close()
  await end()
  assert.equal((await demo.client.status())["leases"], 0)
})

test("a session goes on after its lease has moved and the daemon was killed", { timeout: 60_000 }, async () => {
  await using demo = await Demo.with([1, 1000])
  process.env["LESSOR_HOME"] = demo.home
  const host = new Host()
  const end = await server.setup(host.context)
  const accountOf = async () => (await host.request("ses_1")).headers.get("x-lessor-account")
  const before = await accountOf()
  const after = await until("a switch", async () => {
    const account = await accountOf()
    return account !== before ? account : undefined
  })
  demo.kill()
  // opencode sends a request again whose connection was refused
  assert.equal(await until("an answer", () => accountOf().catch(() => undefined)), after)
  await end()
  await until("its lease has ended", async () => (await demo.client.status())["leases"] === 0 || undefined)
})

test("a request changes in its address and its credential only", async () => {
  const access = { base: "http://127.0.0.1:1/google", header: "x-goog-api-key", value: "lk_1" }
  const headers = {
    authorization: "Bearer a",
    "x-api-key": "b",
    "user-agent": "opencode/2.0.14",
    "x-session-affinity": "ses_1",
  }
  const request = new Request("https://generativelanguage.googleapis.com/v1beta/models/g:stream?alt=sse&key=c", {
    method: "POST",
    headers,
    body: "{}",
  })
  const redirected = redirect(request, access)
  assert.equal(redirected.url, "http://127.0.0.1:1/google/v1beta/models/g:stream?alt=sse")
  assert.deepEqual(Object.fromEntries(redirected.headers), {
    "content-type": "text/plain;charset=UTF-8",
    "user-agent": "opencode/2.0.14",
    "x-goog-api-key": "lk_1",
    "x-session-affinity": "ses_1",
  })
  assert.equal(await redirected.text(), "{}")
  const openai = { ...access, base: "http://127.0.0.1:1/openai" }
  const login = redirect(
    new Request("https://chatgpt.com/backend-api/codex/responses", { method: "POST", body: "{}" }),
    openai,
  )
  assert.equal(login.url, "http://127.0.0.1:1/openai/responses")
  assert.equal(rebase("https://api.openai.com/v1", openai), "http://127.0.0.1:1/openai/v1")
  assert.equal(rebase("https://chatgpt.com/backend-api/codex", openai), "http://127.0.0.1:1/openai")
  assert.equal(rebase(undefined, openai), "http://127.0.0.1:1/openai/v1")
})
