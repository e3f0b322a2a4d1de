/** A simulated provider and a daemon, by `lessor demo --serve`, and opencode with the plugin on it. */
import { spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { Client } from "../../typescript/src/index.js"

/** Waits until `check` returns something, at most 30 s. */
export async function until<Value>(
  what: string,
  check: () => Value | undefined | Promise<Value | undefined>,
): Promise<Value> {
  for (const deadline = Date.now() + 30_000; ; await new Promise((done) => setTimeout(done, 20))) {
    const value = await check()
    if (value !== undefined) return value
    if (Date.now() > deadline) throw new Error(`not within 30 s: ${what}`)
  }
}

/** The first line of a program's output that this matches. */
async function line(child: ChildProcess, pattern: RegExp): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) if (pattern.test(line)) return line
  throw new Error(`it ended without a line like ${pattern}`)
}

export type Row = {
  session: string | null
  account: { label: string }
  status: number | null
  attempts: { status: number | null }[]
}

export class Demo {
  readonly #child: ChildProcess
  readonly home: string
  readonly client: Client

  private constructor(child: ChildProcess, home: string) {
    this.#child = child
    this.home = home
    this.client = new Client({ ...process.env, LESSOR_HOME: home })
  }

  /** Accounts with these quotas in a window that does not end during a test. */
  static async with(quotas: number[]): Promise<Demo> {
    const options = ["--accounts", String(quotas.length), "--quota", quotas.join(","), "--window", "3600"]
    const child = spawn("lessor", ["demo", "--serve", "--json", ...options], { stdio: ["pipe", "pipe", "inherit"] })
    return new Demo(child, JSON.parse(await line(child, /^\{/)).home)
  }

  /** The requests that the gateway has served, the oldest first. */
  async requests(): Promise<Row[]> {
    return (
      await this.client.call<{ requests: Row[] }>("history.query", { of: "requests", limit: 200 })
    ).requests.reverse()
  }

  /** Kills the daemon as a crash does. */
  kill(): void {
    process.kill(JSON.parse(readFileSync(join(this.home, "data/daemon.lock"), "utf8")).pid, "SIGKILL")
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, "exit")
    this.#child.stdin!.end()
    await ended
  }
}

/** What `GET /event` of opencode tells. */
type OpencodeEvent = { type: string; properties: Record<string, unknown> }

/** `opencode serve` with the plugin, in a home of its own. */
export class Opencode {
  readonly #child: ChildProcess
  readonly home: string
  readonly #stop = new AbortController()
  readonly url: string
  readonly events: OpencodeEvent[] = []

  private constructor(child: ChildProcess, home: string, url: string) {
    this.#child = child
    this.home = home
    this.url = url
  }

  static async start(demo: Demo, plugin: string): Promise<Opencode> {
    const home = mkdtempSync(join(tmpdir(), "lessor-opencode-"))
    mkdirSync(join(home, "work"))
    // it installs a package of types for its plugins first, and without a network tries again for a minute
    writeFileSync(join(home, ".npmrc"), "fetch-retries=0\n")
    const config = {
      plugin: [plugin],
      model: "anthropic/claude-sonnet-4-5",
      small_model: "anthropic/claude-sonnet-4-5",
      enabled_providers: ["anthropic"],
      autoupdate: false,
      share: "disabled",
    }
    const env: NodeJS.ProcessEnv = {
      PATH: process.env["PATH"],
      HOME: home,
      LANG: "C.UTF-8",
      LESSOR_HOME: demo.home,
      OPENCODE_CONFIG_CONTENT: JSON.stringify(config),
      // nothing but the demo is asked
      OPENCODE_DISABLE_MODELS_FETCH: "1",
      OPENCODE_DISABLE_AUTOUPDATE: "1",
    }
    const program = process.env["OPENCODE"] ?? "opencode"
    const child = spawn(program, ["serve", "--port", "0", "--hostname", "127.0.0.1"], {
      env,
      cwd: join(home, "work"),
      stdio: ["ignore", "pipe", "inherit"],
    })
    const opencode = new Opencode(child, home, /http:\S+/.exec(await line(child, /listening on http/))![0])
    const response = await fetch(`${opencode.url}/event`, { signal: opencode.#stop.signal })
    void opencode.#read(response).catch((error) => {
      if (!opencode.#stop.signal.aborted) throw error
    })
    return opencode
  }

  async #read(response: Response): Promise<void> {
    let rest = ""
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n")
      rest = lines.pop()!
      for (const line of lines) if (line.startsWith("data: ")) this.events.push(JSON.parse(line.slice(6)))
    }
  }

  async session(): Promise<string> {
    return (await this.#post<{ id: string }>("/session", {})).id
  }

  /** Sends a prompt, and waits for the answer. */
  async prompt(session: string, text: string): Promise<{ text: string; error: unknown }> {
    type Answer = { info: { error?: unknown }; parts: { type: string; text?: string }[] }
    const { info, parts } = await this.#post<Answer>(`/session/${session}/message`, { parts: [{ type: "text", text }] })
    return { text: parts.map((part) => part.text ?? "").join(""), error: info.error }
  }

  async remove(session: string): Promise<void> {
    await fetch(`${this.url}/session/${session}`, { method: "DELETE" })
  }

  async #post<Result>(path: string, body: object): Promise<Result> {
    const response = await fetch(this.url + path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    return (await response.json()) as Result
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    const ended = once(this.#child, "exit")
    this.#child.kill()
    await ended
    rmSync(this.home, { recursive: true, force: true })
  }
}

/** opencode's terminal on a session, in a pseudo-terminal, and the text that it has drawn. */
export class Terminal {
  readonly #child: ChildProcess
  #drawn = ""

  constructor(opencode: Opencode, session: string) {
    const program = process.env["OPENCODE"] ?? "opencode"
    const command = `stty cols 120 rows 40; exec ${program} attach ${opencode.url} --session ${session}`
    const env = { ...process.env, TERM: "xterm-256color", HOME: opencode.home, OPENCODE_DISABLE_AUTOUPDATE: "1" }
    this.#child = spawn("script", ["-qfec", command, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"], env })
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.#drawn += text
    })
  }

  /** What was drawn since the beginning, without the control sequences. */
  get text(): string {
    return this.#drawn.replace(/\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b\[[0-9;?>]*[a-zA-Z]/g, "")
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, "exit")
    this.#child.kill()
    await ended
  }
}
