/** A daemon of a test's own, in a temporary home. */
import { execFileSync, spawn, type ChildProcess } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Client } from "../src/index.js"

/** Waits until `check` returns something, at most 10 s. */
export async function until<Value>(what: string, check: () => Value | undefined | Promise<Value | undefined>): Promise<Value> {
  for (const deadline = Date.now() + 10_000; ; await new Promise((done) => setTimeout(done, 5))) {
    const value = await check()
    if (value !== undefined) return value
    if (Date.now() > deadline) throw new Error(`not within 10 s: ${what}`)
  }
}

export class Daemon {
  readonly home = mkdtempSync(join(tmpdir(), "lessor-ts-"))
  readonly env: NodeJS.ProcessEnv = { ...process.env, LESSOR_HOME: this.home }
  readonly client: Client

  constructor() {
    for (const name of ["LESSOR_SOCKET", "LESSOR_CONFIG", "LESSOR_NO_START"]) delete this.env[name]
    this.client = new Client(this.env)
  }

  /** A daemon with this many accounts of anthropic, a1, a2, … */
  static async with(accounts: number): Promise<Daemon> {
    const daemon = new Daemon()
    for (let number = 1; number <= accounts; number++) {
      const secret = `sk-ant-api03-secret-${number}`
      await daemon.client.call("account.add", { provider: "anthropic", kind: "api_key", label: `a${number}`, secret })
    }
    return daemon
  }

  /** The process id of the daemon that runs, by its lock file. */
  get pid(): number { return JSON.parse(readFileSync(join(this.home, "data/daemon.lock"), "utf8")).pid }

  /** Kills the daemon as a crash does. */
  kill(): void { process.kill(this.pid, "SIGKILL") }

  lessor(...args: string[]): string { return execFileSync("lessor", args, { env: this.env, encoding: "utf8", stdio: "pipe" }) }

  /** Another process that holds a lease, and the account it has. */
  async holder(): Promise<{ child: ChildProcess; account: string }> {
    const program = fileURLToPath(new URL(`holder${import.meta.url.slice(-3)}`, import.meta.url))
    const child = spawn(process.execPath, [program], { env: this.env, stdio: ["ignore", "pipe", "inherit"] })
    const account = await new Promise<string>((done) => child.stdout!.once("data", (text) => done(String(text).trim())))
    return { child, account }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try { this.lessor("stop") } catch { /* it does not run any more */ }
    rmSync(this.home, { recursive: true, force: true })
  }
}
