/** Leases an account of its own, says which, and keeps it until it is killed. */
import { acquire } from "../src/index.js"

const lease = await acquire("anthropic", { exclusive: true, wait: 5 })
console.log(lease.account.label)
setInterval(() => {}, 60_000)
