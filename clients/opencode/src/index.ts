/** The plugin in opencode's server: opencode 2 calls `setup`, opencode 1 (1.18.29 and later) `server`. */
import type { Config, Hooks, PluginInput } from "@opencode-ai/plugin"
import { rebase, redirect, SessionLeases, type Options } from "./leases.js"
import type { ServerContext } from "./opencode2.js"

/** What each provider's client appends its paths to. */
const VERSIONS: Record<string, string> = { anthropic: "/v1", openai: "/v1", google: "/v1beta" }
/** How long a toast is shown, ms. */
const SHOWN = 8000

/** opencode 2. The toasts are in `tui.ts`, which runs in the terminal. */
async function setup(context: ServerContext): Promise<() => Promise<void>> {
  const leases = new SessionLeases(context.options as Options)
  const providers = await leases.providers()
  await context.session.hook("model.request", async (event) => {
    if (!providers.has(event.model.providerID)) return
    const access = await leases.access(event.sessionID, event.model.providerID)
    event.baseURL = rebase(event.baseURL, access)
    event.headers[access.header] = access.value
  })
  // after the credential of opencode's own configuration was added
  await context.session.hook("http.request", async (event) => {
    if (!providers.has(event.model.providerID)) return
    event.request = redirect(event.request, await leases.access(event.sessionID, event.model.providerID))
  })
  return () => leases.endAll()
}

/** opencode 1. */
async function server({ client }: PluginInput, options: Options = {}): Promise<Hooks> {
  const leases = new SessionLeases(options)
  const providers = await leases.providers()
  const stop = new AbortController()
  void (async () => {
    for await (const { message } of leases.switches(stop.signal)) {
      await client.tui.showToast({ body: { message, variant: "info", duration: SHOWN } }).catch(() => {})
    }
  })().catch((error: unknown) =>
    client.app.log({ body: { service: "lessor", level: "error", message: String(error) } }),
  )
  return {
    config: async (config: Config) => {
      for (const [provider, base] of providers) {
        const settings = ((config.provider ??= {})[provider] ??= {})
        // an address of the user's own stays
        if (settings.options?.baseURL) providers.delete(provider)
        else
          settings.options = {
            ...settings.options,
            baseURL: `${base}${VERSIONS[provider]}`,
            apiKey: "leased-by-lessor",
          }
      }
    },
    "chat.headers": async ({ sessionID, model }, output) => {
      if (!providers.has(model.providerID)) return
      const { header, value } = await leases.access(sessionID, model.providerID)
      output.headers[header] = value
    },
    event: async ({ event }) => {
      if (event.type === "session.deleted") await leases.end(event.properties.info.id)
    },
    dispose: async () => {
      stop.abort()
      await leases.endAll()
    },
  }
}

export default { id: "lessor", setup, server }
