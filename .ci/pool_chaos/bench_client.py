"""One client of one daemon, for .ci/pool-figures: acquires and releases as fast as it can.

Arguments: the socket, seconds, connections, and the user id to run as (or -1). Prints cycles, seconds, and the median
time of a cycle in microseconds.
"""

import json
import os
import selectors
import socket
import statistics
import sys
import time

ACQUIRE = {
    "provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "wait_ms": 10_000,
    "credential": False,
    "agent": "chaos",
}


class Cycle:
    """A connection that acquires, releases, and begins again."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.rest = b""
        self.begun = 0.0
        self.times = []

    def acquire(self):
        self.begun = time.perf_counter()
        self.send("lease.acquire", ACQUIRE)

    def send(self, method, params):
        self.socket.sendall(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"
        )

    def read(self):
        self.rest += self.socket.recv(65536)
        while b"\n" in self.rest:
            line, _, self.rest = self.rest.partition(b"\n")
            answer = json.loads(line)
            if "error" in answer:
                raise SystemExit(f"refused: {answer['error']}")
            if lease := answer["result"].get("lease"):
                self.send("lease.release", {"lease": lease})
            else:
                self.times.append(time.perf_counter() - self.begun)
                self.acquire()


def main():
    path, seconds, connections, uid = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    cycles = [Cycle(path) for _ in range(connections)]
    wait = selectors.DefaultSelector()
    for cycle in cycles:
        wait.register(cycle.socket, selectors.EVENT_READ, cycle)
        cycle.acquire()
    begin = time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        for key, _ in wait.select(1):
            key.data.read()
    times = [one for cycle in cycles for one in cycle.times]
    median = statistics.median(times) * 1e6 if times else 0
    print(json.dumps({"cycles": len(times), "seconds": passed, "median_us": median}))


if __name__ == "__main__":
    main()
