/** The part of opencode 2's plugin API that is used, as `@opencode/plugin` declares it. */

/** What both requests of a session have; `kind` is `primary`, `title`, `compaction` or `generate`. */
type OfSession = {
  readonly sessionID: string
  readonly model: { readonly providerID: string; readonly id: string }
  readonly kind: string
}
export type ModelRequest = OfSession & { baseURL?: string; headers: Record<string, string> }
export type HttpRequest = OfSession & { request: Request }

export type ServerContext = {
  readonly options: Record<string, unknown>
  readonly session: {
    hook(name: "model.request", callback: (event: ModelRequest) => Promise<void> | void): Promise<unknown>
    hook(name: "http.request", callback: (event: HttpRequest) => Promise<void> | void): Promise<unknown>
  }
}

export type TuiContext = {
  readonly data: { readonly session: { get(session: string): unknown } }
  readonly ui: {
    readonly toast: {
      show(toast: {
        message: string
        title?: string
        variant?: "info" | "warning"
        duration?: number
        sessionID?: string
      }): void
    }
  }
}
