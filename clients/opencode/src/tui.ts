/** The plugin in opencode 2's terminal: shows switches of the sessions that it knows as toasts. */
import { Client } from "../../typescript/src/index.js"
import { switches } from "./leases.js"
import type { TuiContext } from "./opencode2.js"

function setup(context: TuiContext): () => void {
  const stop = new AbortController()
  void (async () => {
    for await (const { session, message } of switches(new Client(), stop.signal)) {
      if (context.data.session.get(session)) context.ui.toast.show({ message, variant: "info", sessionID: session })
    }
  })().catch((error: unknown) => {
    if (!stop.signal.aborted) context.ui.toast.show({ message: `lessor: ${error}`, variant: "warning" })
  })
  return () => stop.abort()
}

export default { id: "lessor.tui", setup }
