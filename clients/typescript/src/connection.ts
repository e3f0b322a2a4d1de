/** A connection to the daemon: finds it as lessor's own programs do, starts it if there is none, sends JSON lines. */
import { execFile } from "node:child_process"
import { once } from "node:events"
import { readFileSync, statSync } from "node:fs"
import { createConnection, type Socket } from "node:net"
import { homedir } from "node:os"
import { isAbsolute, join, resolve } from "node:path"
import { promisify } from "node:util"
import type { Event } from "./types.js"
type Unusable = { id: string; name?: string | null; why: string; until: number | null }
type ErrorData = { kind?: string; retry_after_ms?: number | null; hint?: string | null; accounts?: Unusable[] }
type Message = { id?: number; result?: never; error?: { message: string; data?: ErrorData }; params?: Event }
/** Why a call failed. The kinds `lost` and `no_daemon` are this client's, all others the daemon's. */
export class LessorError extends Error {
  override readonly name = "LessorError"
  constructor(message: string, readonly kind: string, readonly data: ErrorData = {}) {
    super(data.hint ? `${message} (${data.hint})` : message)
  }
  /** Seconds until it may work, where that is known. */
  get retryAfter(): number | undefined { return this.data.retry_after_ms ? this.data.retry_after_ms / 1000 : undefined }
  get hint(): string | undefined { return this.data.hint ?? undefined }
  /** Why each account could not serve. */
  get accounts(): Unusable[] { return this.data.accounts ?? [] }
}
const lost = () => new LessorError("the connection to the daemon was lost", "lost")
/** The socket that these variables choose; of the lock file, the one in use, and whether its daemon died. */
function locate(env: NodeJS.ProcessEnv): { socket: string; other: string | undefined; hasDied: boolean } {
  const { LESSOR_HOME: home, LESSOR_SOCKET: given, XDG_RUNTIME_DIR: runtime = "" } = env
  const [os, pipe, mac] = [process.platform, "\\\\.\\pipe\\", join(homedir(), "Library/Application Support")]
  const xdg = (name: string, other: string) => (isAbsolute(env[name] ?? "") ? env[name]! : join(homedir(), other))
  const shared = os === "win32" ? env["APPDATA"] ?? "" : os === "darwin" ? mac : xdg("XDG_DATA_HOME", ".local/share")
  const data = home ? resolve(home, "data") : join(shared, os === "win32" ? "lessor/data" : "lessor")
  const state = os === "linux" ? join(xdg("XDG_STATE_HOME", ".local/state"), "lessor") : join(data, "state")
  const run = home ? resolve(home, "run") : isAbsolute(runtime) ? join(runtime, "lessor") : join(state, "run")
  const usual = os === "win32" ? `${pipe}lessor-${env["USERNAME"]}` : join(run, "lessor.sock")
  const socket = !given ? usual : given.startsWith(pipe) ? given : resolve(given)
  let other: string | undefined
  try {
    const lock = JSON.parse(readFileSync(join(data, "daemon.lock"), "utf8"))
    other = lock.socket
    return { socket, other, hasDied: !process.kill(lock.pid, 0) }
  } catch (error) { return { socket, other, hasDied: (error as NodeJS.ErrnoException).code === "ESRCH" } }
}
/** Runs `lessor ping`, which starts a daemon and waits until it serves. */
const start = (env: NodeJS.ProcessEnv) => promisify(execFile)("lessor", ["ping"], { env }).then(() => {}, (error) => {
  const why = error.code === "ENOENT" ? "the program lessor is not in PATH" : error.stderr.trim()
  throw new LessorError(`the daemon could not be started: ${why}`, "no_daemon")
})
/** One start at a time for each socket, however many leases need it. */
const starting = new Map<string, Promise<void>>()
export class Connection {
  readonly closed: Promise<void>
  readonly #calls = new Map<number, { done: (value: never) => void; fail: (error: LessorError) => void }>()
  readonly #events: Event[] = []
  #wake = () => {}
  #last = 0
  #rest = ""
  private constructor(readonly socket: Socket) {
    socket.setEncoding("utf8").on("data", (text) => this.#read(String(text))).on("error", () => {})
    this.closed = new Promise<void>((done) => socket.once("close", () => done())).then(() => {
      this.#calls.forEach((call) => call.fail(lost()))
      this.#wake()
    })
  }
  /** Connects; starts a daemon if there is none, unless `LESSOR_NO_START` or `mayStart` forbids it. */
  static async open(env: NodeJS.ProcessEnv, mayStart = true): Promise<Connection> {
    const { socket, other = socket } = locate(env)
    const isForbidden = !mayStart || !["", "0", undefined].includes(env["LESSOR_NO_START"])
    for (const path of new Set([socket, other])) {
      const found = await Connection.#greet(path).catch((error: LessorError) => error)
      if (found instanceof Connection) return found
      if (found.kind !== "no_daemon" || (path === other && isForbidden)) throw found
    }
    if (!starting.has(socket)) starting.set(socket, start(env).finally(() => starting.delete(socket)))
    await starting.get(socket)
    return Connection.#greet(locate(env).other ?? socket)
  }
  /** After the end of a daemon: connects to the next one, and starts it if this one died; gives up after 10 s. */
  static async next(env: NodeJS.ProcessEnv): Promise<Connection> {
    for (const end = Date.now() + 10_000; ; await new Promise((done) => setTimeout(done, 50))) {
      try { return await Connection.open(env, locate(env).hasDied) } catch (error) { if (Date.now() > end) throw error }
    }
  }
  static async #greet(path: string): Promise<Connection> {
    const none = (why: string) => new LessorError(`no daemon at ${path}: ${why}; start it: lessor ping`, "no_daemon")
    const connection = new Connection(createConnection(path))
    const { socket } = connection
    try {
      await once(socket, "connect").catch((error: Error) => { throw none(error.message) })
      // a socket of another user, in a directory that others can write to, would get this user's calls
      if (process.getuid && statSync(path).uid !== process.getuid()) throw none("it belongs to another user")
      await connection.call("hello", { client: "lessor-typescript 0.1.0", protocol: [1, 1] })
      return connection
    } catch (error) {
      socket.destroy()
      throw (error as LessorError).kind === "lost" ? none("it is shutting down") : error
    }
  }
  call<Result>(method: string, params: object = {}): Promise<Result> {
    return new Promise((done, fail) => {
      if (this.socket.destroyed) return fail(lost())
      this.#calls.set(++this.#last, { done, fail })
      this.socket.write(`${JSON.stringify({ jsonrpc: "2.0", id: this.#last, method, params })}\n`)
    })
  }
  /** The events that were subscribed to, until the connection ends. */
  async *events(): AsyncGenerator<Event, void> {
    for (; this.#events.length || !this.socket.destroyed; yield* this.#events.splice(0)) {
      if (!this.#events.length) await new Promise<void>((done) => { this.#wake = done })
    }
  }
  #read(text: string): void {
    const lines = (this.#rest + text).split("\n")
    this.#rest = lines.pop()!
    for (const { id = -1, result, error, params } of lines.map((line) => JSON.parse(line) as Message)) {
      if (params) { this.#events.push(params); this.#wake() }
      const call = this.#calls.get(id)
      this.#calls.delete(id)
      if (error) call?.fail(new LessorError(error.message, error.data?.kind ?? "internal", error.data))
      else call?.done(result!)
    }
  }
}
