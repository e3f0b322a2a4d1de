/** What the agents of the orchestrator do: one request each task. */
import type { Lease } from "lessor"

export const model = "claude-sonnet-4-5"
const url = `${process.env["ANTHROPIC_BASE_URL"] ?? "https://api.anthropic.com"}/v1/messages`

export const tasks = (count: number): string[] => Array.from({ length: count }, (_, number) => `Greet in language ${number}.`)

export function ask(lease: Lease, task: string): Promise<Response> {
  const body = JSON.stringify({ model, max_tokens: 64, messages: [{ role: "user", content: task }] })
  const headers = { ...lease.headers, "anthropic-version": "2023-06-01", "content-type": "application/json" }
  return fetch(url, { method: "POST", headers, body, signal: lease.signal })
}
