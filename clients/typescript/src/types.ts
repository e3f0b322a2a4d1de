/** The messages of the protocol, with the names that they have there (docs/protocol.md). Times are epoch ms. */
type Text = string | null
export type Account = { id: string; label: Text; email: Text; tier?: string }
export type Credential = {
  kind: string; secret: string; header: string; scheme: Text; account_id: Text; [field: string]: unknown
}
export type LeaseInfo = {
  lease: string; fence: number; account: Account; provider: string; pool: Text; model: Text; quota_key: string
  shared_with: number; expires_at: number | null; project_id: Text
}
/** What to do after a report. A `switch` has already been followed: the lease is on its new account. */
export type Decision = {
  action: "continue" | "retry" | "switch" | "wait" | "stop"
  after_ms: number; reason: Text; scope: Text; evidence: Text; link: Text
}
/** What an upstream answered: its response, that it worked, or your own conclusion. */
export type Report = {
  status?: number; headers?: Record<string, string | string[]>; body?: string; ok?: boolean; usage?: object
  reason?: string; retry_after_ms?: number
}
export type ForecastOptions = { model?: string; count?: number; only?: string[]; agent?: string; directory?: string }
type Room = { id: string; label: Text; room: number; why: Text; until: number | null }
export type Forecast = { grantable: number; unshared: number; next_at: number | null; set: Text; accounts: Room[] }
/** `client.reconnected` is this client's own event: the daemon ended, and events may be missing before it. */
export type Event = {
  kind: string; at: number; account?: Account | null; from?: Account | null; lease?: Text; reason?: Text
  until?: number | null; session?: Text; [field: string]: unknown
}
export type GatewayAccess = { key: string; url: Text; socket: Text; trouble: Text }
/** The options of `lessor acquire` (docs/scripting.md); `wait` and `ttl` are seconds. `signal` gives up waiting. */
export type AcquireOptions = {
  model?: string; pool?: string; session?: string; label?: string; account?: string; agent?: string; directory?: string
  only?: string[]; exclude?: string[]; priority?: number; exclusive?: boolean; wait?: number; ttl?: number
  bind?: "connection" | "ttl" | { pid: number }; signal?: AbortSignal
}
