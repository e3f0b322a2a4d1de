"""Starts as many agents as have an account of their own now, and keeps them busy until all jobs are done."""

import asyncio

import lessor
from provider import send


async def agent(name: str, jobs: list[str]) -> None:
    async with lessor.acquire("anthropic", label=name, wait=60) as lease:
        while jobs:
            job, again = jobs.pop(), True
            while again:  # after a limit: on another account, or when the first one is free
                status, headers, body = await asyncio.to_thread(send, lease.headers, job)
                action = await lease.report(status, headers, body)
                if again := action.again:
                    print(f"{name} met a limit: {action.action}, {action.after:.1f} s")
                await asyncio.sleep(action.after)
            print(f"{job}: {status} by {name} on {lease.account['label']}")


async def main() -> None:
    jobs = [f"job {number}" for number in range(40, 0, -1)]
    forecast = await lessor.forecast("anthropic")
    await asyncio.gather(*(agent(f"agent {number}", jobs) for number in range(1, forecast.unshared + 1)))


asyncio.run(main())
