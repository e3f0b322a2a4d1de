/** Leases accounts from the lessor daemon. */
import { Connection, LessorError } from "./connection.js"
import type * as Wire from "./types.js"
export { LessorError } from "./connection.js"
export type * from "./types.js"
type Granted = Wire.LeaseInfo & { credential: Wire.Credential | null }
/** After these, a call may be made again on a new connection. */
const isEnd = (error: unknown) => error instanceof LessorError && ["lost", "shutting_down"].includes(error.kind)
/** Talks to one daemon: the one that `env` chooses by LESSOR_HOME, LESSOR_SOCKET, LESSOR_NO_START and PATH. */
export class Client {
  readonly #env: NodeJS.ProcessEnv
  constructor(env: NodeJS.ProcessEnv = process.env) { this.#env = env }
  /** Leases an account, or waits for one. The lease has a connection of its own and, without `bind`, ends with it. */
  async acquire(provider: string, options: Wire.AcquireOptions = {}): Promise<Lease> {
    const { wait, ttl, signal, bind = "connection", ...rest } = options
    const params = { provider, bind, request_id: crypto.randomUUID(), ttl_ms: ttl && Math.round(ttl * 1000), ...rest }
    const deadline = Date.now() + (wait ?? 0) * 1000
    for (let connection = await Connection.open(this.#env); ; connection = await Connection.next(this.#env)) {
      const leave = () => { connection.socket.destroy() }
      signal?.addEventListener("abort", leave)
      try {
        signal?.throwIfAborted()
        const left = wait && Math.max(0, Math.round(deadline - Date.now()))
        const granted = await connection.call<Granted>("lease.acquire", { ...params, wait_ms: left })
        return new Lease(this.#env, connection, granted, bind === "connection")
      } catch (error) {
        leave()
        signal?.throwIfAborted()
        if (!isEnd(error)) throw error
      } finally { signal?.removeEventListener("abort", leave) }
    }
  }
  /** How many leases could be granted now, and when more. */
  forecast(provider: string, options: Wire.ForecastOptions = {}): Promise<Wire.Forecast> {
    return this.call("forecast", { provider, ...options })
  }
  /** The daemon, its accounts, leases, queue and warnings: `lessor schema status`. */
  status(): Promise<Record<string, unknown>> { return this.call("status") }
  /** Any call of docs/protocol.md, on a connection of its own. It is not repeated if the daemon ends during it. */
  async call<Result>(method: string, params: object = {}): Promise<Result> {
    const connection = await Connection.open(this.#env)
    return connection.call<Result>(method, params).finally(() => connection.socket.destroy())
  }
  /** Events, until `signal` aborts. After the end of a daemon it goes on with the next one, and says so. */
  async *events(options: { kinds?: string[]; signal?: AbortSignal } = {}): AsyncGenerator<Wire.Event, void> {
    for (let connection = await Connection.open(this.#env); ; connection = await Connection.next(this.#env)) {
      const leave = () => { connection.socket.destroy() }
      options.signal?.addEventListener("abort", leave)
      try {
        await connection.call("events.subscribe", { kinds: options.kinds ?? [] })
        yield* connection.events()
      } catch (error) { if (!isEnd(error)) throw error } finally { leave() }
      if (options.signal?.aborted) return
      yield { kind: "client.reconnected", at: Date.now() }
    }
  }
}
/** A leased account. `await using` releases it. */
export class Lease implements AsyncDisposable {
  readonly #lost = new AbortController()
  /** Aborted when the lease is lost, with the error as its reason (`stale_lease`, `no_daemon`, …): for `fetch`. */
  readonly signal: AbortSignal = this.#lost.signal
  readonly #env: NodeJS.ProcessEnv
  readonly #isBoundHere: boolean
  #connection!: Promise<Connection>
  #info!: Wire.LeaseInfo
  #credential: Wire.Credential | null = null
  #isReleased = false
  constructor(env: NodeJS.ProcessEnv, connection: Connection, granted: Granted, isBoundHere: boolean) {
    [this.#env, this.#isBoundHere] = [env, isBoundHere]
    this.#adopt(granted)
    this.#use(Promise.resolve(connection))
  }
  /** The lease as it was last granted: account, fence, model, … */
  get info(): Wire.LeaseInfo { return this.#info }
  get account(): Wire.Account { return this.#info.account }
  /** The headers that authenticate a request with this account. They are secret. */
  get headers(): Record<string, string> {
    if (!this.#credential) throw new LessorError("no credential yet: lease.credential()", "credential_unavailable")
    const { kind, header, scheme, secret, account_id } = this.#credential
    const beside = this.#info.provider === "anthropic" && kind !== "api_key" ? { "anthropic-beta": "oauth-2025-04-20" }
      : account_id ? { "chatgpt-account-id": account_id } : {}
    return { [header]: scheme ? `${scheme} ${secret}` : secret, ...beside }
  }
  /** The current credential, also for `headers`; with `force` a new one, after the upstream refused the old one. */
  async credential(options: { force?: boolean } = {}): Promise<Wire.Credential> {
    return this.#credential = await this.#call<Wire.Credential>("lease.credential", options)
  }
  /** Reports what the upstream answered, and follows a `switch`: this lease then is the new account's. */
  async report(answer: Response | Wire.Report): Promise<Wire.Decision> {
    const { ok, status, headers } = answer as Response
    const report = !(answer instanceof Response) ? answer : ok ? { ok, headers: Object.fromEntries(headers) }
      : { status, headers: Object.fromEntries(headers), body: (await answer.clone().text()).slice(0, 16_384) }
    const { lease, ...decision } = await this.#call<Wire.Decision & { lease: Granted | null }>("lease.report", report)
    if (lease) this.#adopt(lease)
    return decision
  }
  /** Extends the lease by its lifetime; it may have been moved to another account. */
  async renew(): Promise<void> { this.#adopt(await this.#call("lease.renew", { fence: this.#info.fence })) }
  /** The gateway's address, and a key for this lease that follows it. */
  gateway(): Promise<Wire.GatewayAccess> { return this.#call("gateway.key") }
  async release(): Promise<void> {
    if (this.#isReleased) return
    this.#isReleased = true
    // if this fails, the lease has ended already, or ends with the connection
    const connection = await this.#connection.catch(() => undefined)
    await connection?.call("lease.release", this.#reference()).catch(() => {}).then(() => connection.socket.destroy())
  }
  [Symbol.asyncDispose](): Promise<void> { return this.release() }
  #reference() { return { lease: this.#info.lease, fence: this.#info.fence } }
  #adopt({ credential, ...info }: Granted): void { [this.#info, this.#credential] = [info, credential] }
  /** When the connection ends, the lease is presented to the next daemon at once: soon others get its account. */
  #use(connection: Promise<Connection>): void {
    this.#connection = connection
    const follow = () => { if (!this.#isReleased) this.#use(this.#resume()) }
    connection.then((open) => open.closed).then(follow, (error) => this.#lost.abort(error))
  }
  async #resume(): Promise<Connection> {
    const connection = await Connection.next(this.#env)
    // the daemon remembers leases that are bound to a process or to their time
    if (!this.#isBoundHere) return connection
    try {
      this.#adopt(await connection.call("lease.resume", this.#reference()))
      return connection
    } catch (error) { connection.socket.destroy(); throw error }
  }
  /** Makes a call about the lease, and once more if the daemon ends during it. */
  async #call<Result>(method: string, params: object = {}): Promise<Result> {
    if (this.#isReleased) throw new LessorError("this lease was released: acquire a new one", "stale_lease")
    const connection = await this.#connection
    try { return await connection.call<Result>(method, { lease: this.#info.lease, ...params }) } catch (error) {
      if (!isEnd(error)) throw error
      // then `#use` has begun to resume
      await connection.closed.then(() => new Promise(setImmediate))
      return (await this.#connection).call(method, { lease: this.#info.lease, ...params })
    }
  }
}
const client = new Client()
/** The calls of `Client`, to the environment's daemon. */
export const acquire = client.acquire.bind(client), forecast = client.forecast.bind(client)
export const status = client.status.bind(client), events = client.events.bind(client)
