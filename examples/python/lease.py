"""Sends a request with a leased account: again, on another account, when that one has reached a limit."""

import time

import lessor
from provider import send

with lessor.acquire_sync("anthropic", wait=60) as lease:
    while True:
        status, headers, body = send(lease.headers, "Say hi.")
        action = lease.report_sync(status, headers, body)
        if not action.again:
            break
        time.sleep(action.after)
print(lease.account["label"], status, body.decode())
