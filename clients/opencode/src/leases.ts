/** The leases of opencode's sessions: one for each session and provider. Requests go through lessor's gateway with the
 * key of the lease: at a limit the gateway sends them again with another account, and opencode sees no refusal. */
import { Client, type Event, type Lease } from "../../typescript/src/index.js"

/** The plugin's options in opencode's configuration. */
export type Options = {
  /** The providers to lease for [default: all that have accounts]. */
  providers?: string[]
  /** The seconds after its last request at which a session's lease is released [default: 1800]. */
  idle?: number
}

/** Where a session sends its requests of one provider, and what with. */
export type Access = { base: string; header: string; value: string }

/** A text to show, and the session that it is about. */
export type Notice = { session: string; message: string }

/** The header of a key, by provider; those of others are not known to opencode and lessor by the same name. */
const HEADERS: Record<string, (key: string) => [header: string, value: string]> = {
  anthropic: (key) => ["x-api-key", key],
  openai: (key) => ["authorization", `Bearer ${key}`],
  google: (key) => ["x-goog-api-key", key],
}
/** All headers that may have a credential. */
const CREDENTIALS = ["authorization", "x-api-key", "x-goog-api-key"]
/** What requests with a ChatGPT login begin with instead of `/v1`; the gateway takes either. */
const CHATGPT = /^\/backend-api\/codex/

type Held = { lease: Lease; access: Access; timer: NodeJS.Timeout }

/** The label of a session's leases: no other process has it. */
const label = (session: string) => `opencode ${session} ${process.pid}`

export class SessionLeases {
  readonly #client: Client
  readonly #options: Options
  /** By session, then by provider. */
  readonly #held = new Map<string, Map<string, Promise<Held>>>()

  constructor(options: Options = {}, client = new Client()) {
    this.#options = options
    this.#client = client
  }

  /** The providers that sessions lease for, with their addresses at the gateway. */
  async providers(): Promise<Map<string, string>> {
    const status = (await this.#client.status()) as {
      gateway: { url: string } | null
      gateway_trouble: string | null
      providers: { provider: string }[]
    }
    if (!status.gateway?.url)
      throw new Error(`lessor's gateway is not available: ${status.gateway_trouble ?? "it is off"}; see: lessor status`)
    const wanted = this.#options.providers ?? status.providers.map(({ provider }) => provider)
    return new Map(
      wanted
        .filter((provider) => provider in HEADERS)
        .map((provider) => [provider, `${status.gateway!.url}/${provider}`]),
    )
  }

  /** Where this session sends its next request of a provider. It gets a lease if it has none, and may wait for it. */
  async access(session: string, provider: string): Promise<Access> {
    const leases = this.#held.get(session) ?? new Map<string, Promise<Held>>()
    this.#held.set(session, leases)
    const before = leases.get(provider)
    const isLost = before !== undefined && (await before).lease.signal.aborted
    // requests of one session may begin at the same time: the first leases for all
    if (before === undefined || (isLost && leases.get(provider) === before)) {
      const held = isLost
        ? this.#end(session, provider).then(() => this.#acquire(session, provider))
        : this.#acquire(session, provider)
      leases.set(provider, held)
      held.catch(() => {
        if (leases.get(provider) === held) leases.delete(provider)
      })
    }
    const { access, timer } = await leases.get(provider)!
    timer.refresh()
    return access
  }

  async #acquire(session: string, provider: string): Promise<Held> {
    // bound to the process: such a lease outlives the daemon also after the gateway has moved it
    const options = { session, agent: "opencode", label: label(session), bind: { pid: process.pid } }
    const lease = await this.#client.acquire(provider, options)
    const { key, url, trouble } = await lease.gateway()
    if (!url) {
      await lease.release()
      throw new Error(`lessor's gateway is not available: ${trouble}; see: lessor status`)
    }
    const [header, value] = HEADERS[provider]!(key)
    const timer = setTimeout(() => void this.#release(session, provider), (this.#options.idle ?? 1800) * 1000)
    timer.unref()
    return { lease, access: { base: `${url}/${provider}`, header, value }, timer }
  }

  async #release(session: string, provider: string): Promise<void> {
    const held = this.#held.get(session)?.get(provider)
    this.#held.get(session)?.delete(provider)
    // one that was never granted is not held
    const lease = await held?.catch(() => undefined)
    if (!lease) return
    clearTimeout(lease.timer)
    await lease.lease.release()
    await this.#end(session, provider)
  }

  /** Ends what the daemon has of this session: after a move by the gateway, the lease has another id. */
  async #end(session: string, provider: string): Promise<void> {
    const rows = await this.#client.call<{ lease: string; provider: string; label: string | null }[]>("lease.list")
    const ours = rows.filter((row) => row.provider === provider && row.label === label(session))
    await Promise.all(ours.map(({ lease }) => this.#client.call("lease.release", { lease }).catch(() => {})))
  }

  /** Releases the leases of a session. */
  async end(session: string): Promise<void> {
    const providers = [...(this.#held.get(session)?.keys() ?? [])]
    await Promise.all(providers.map((provider) => this.#release(session, provider)))
    this.#held.delete(session)
  }

  async endAll(): Promise<void> {
    await Promise.all([...this.#held.keys()].map((session) => this.end(session)))
  }

  /** The switches of the sessions of this process. */
  async *switches(signal: AbortSignal): AsyncGenerator<Notice, void> {
    for await (const notice of switches(this.#client, signal)) if (this.#held.has(notice.session)) yield notice
  }
}

/** The switches of all sessions of opencode: a lease that has moved to another account. */
export async function* switches(client: Client, signal: AbortSignal): AsyncGenerator<Notice, void> {
  for await (const event of client.events({ kinds: ["lease.moved"], signal })) {
    if (event.session && event["agent"] === "opencode") yield { session: event.session, message: text(event) }
  }
}

function text({ account, from, reason, until, scope }: Event): string {
  const name = (account: Event["account"]) => account?.label ?? account?.email ?? account?.id ?? "?"
  const limit = until ? `limited until ${new Date(until).toTimeString().slice(0, 5)}` : "limited"
  return `lessor: ${name(from)} → ${name(account)} (${name(from)}: ${scope ? limit : (reason ?? "moved")})`
}

/** The request, to lessor's gateway and with the key of the lease. Nothing else of it changes. */
export function redirect(request: Request, access: Access): Request {
  const url = new URL(request.url)
  const isThere = url.href.startsWith(`${access.base}/`)
  url.searchParams.delete("key")
  const target = isThere ? url : new URL(`${access.base}${url.pathname.replace(CHATGPT, "")}${url.search}`)
  const redirected = new Request(target, request)
  for (const header of CREDENTIALS) redirected.headers.delete(header)
  redirected.headers.set(access.header, access.value)
  return redirected
}

/** A provider's base URL, at lessor's gateway. */
export function rebase(base: string | undefined, access: Access): string {
  const path = base && !base.startsWith(access.base) ? new URL(base).pathname.replace(CHATGPT, "") : "/v1"
  return `${access.base}${path === "/" ? "" : path}`
}
