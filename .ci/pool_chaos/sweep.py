"""Leases all accounts at once, for the end of .ci/pool-chaos: every seat that agents have left must come free.

Arguments: the socket, the user id to run as (or -1), how long to wait in ms, the labels of the accounts. Prints how
many were leased, and what the daemon said of the others.
"""

import json
import os
import socket
import sys


def main():
    path, uid, wait, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    wanted = {
        "provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "wait_ms": wait,
        "credential": False,
        "agent": "chaos",
    }
    for number, name in enumerate(names):
        call = {"jsonrpc": "2.0", "id": number, "method": "lease.acquire", "params": {**wanted, "account": name}}
        client.sendall(json.dumps(call).encode() + b"\n")
    client.settimeout(wait / 1000 + 30)
    refused, leased = [], 0
    with client.makefile() as lines:
        for _ in names:
            answer = json.loads(lines.readline())
            if "error" in answer:
                refused.append(f"{names[answer['id']]}: {answer['error']['message']}")
            else:
                leased += 1
    print(json.dumps({"leased": leased, "refused": refused}))


if __name__ == "__main__":
    main()
