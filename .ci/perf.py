"""Counts instructions with callgrind; run by .ci/perf: perf.py PROGRAM FIGURES [--update] [NAME...]

Each figure of the socket is the difference of two runs of the daemon that differ only in their number of cycles: its
start and end cancel out. Only the thread that serves the socket is counted, or that of the gateway; the others write at
their own pace.
"""

import glob
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import perf_gateway

TOLERANCE = 0.03
FEW, MANY = 400, 4000
# through the gateway
FEW_REQUESTS, MANY_REQUESTS = 160, 960
FEW_STREAMS, MANY_STREAMS = 10, 60
PIPELINED = 16
MODEL = "claude-sonnet-4-5"
HANG = 120


class Daemon:
    """The program under callgrind, in a home of its own."""

    def __init__(self, program, home, out=None):
        self.socket = os.path.join(home, "run/lessor.sock")
        self.out = out
        self.env = {"PATH": os.environ["PATH"], "HOME": home, "LESSOR_HOME": home}
        self.process = subprocess.Popen(
            tool(out) + [program, "daemon"], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def connect(self):
        end = time.monotonic() + HANG
        while True:
            try:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(self.socket)
                connection.settimeout(HANG)
                return connection
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("the daemon does not serve")
                time.sleep(0.01)

    def stop(self):
        with self.connect() as connection:
            connection.sendall(json_call(1, "daemon.stop", {}))
            connection.recv(65536)
        self.process.wait(HANG)

    def instructions(self):
        return sum(count(file) for file in glob.glob(self.out + ".*-01"))

    def all_instructions(self):
        return sum(count(file) for file in glob.glob(self.out + ".*"))

    def gateway_instructions(self):
        """Those of the gateway's thread: the one that has done by far the most."""
        return max(count(file) for file in glob.glob(self.out + ".*"))


def tool(out):
    if out is None:
        return []
    return ["valgrind", "-q", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}.%p"]


def count(file):
    with open(file, encoding="utf-8", errors="replace") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith(("summary:", "totals:"))) // 2


def json_call(number, method, params):
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


class Json:
    """JSON lines."""

    def __init__(self, connection):
        self.connection, self.file = connection, connection.makefile("rb")

    def acquire(self):
        return json_call(1, "lease.acquire", {"provider": "anthropic", "model": MODEL})

    def release(self, lease):
        return json_call(2, "lease.release", {"lease": lease})

    def report(self, lease):
        return json_call(3, "lease.report", {"lease": lease, "ok": True})

    def send(self, calls):
        self.connection.sendall(b"".join(calls))

    def answer(self):
        answer = json.loads(self.file.readline())
        return answer["result"].get("lease")


class Binary:
    """Frames: their length, then bincode."""

    def __init__(self, connection):
        self.connection, self.file = connection, connection.makefile("rb")
        self.send([b"LSR\x01", self.frame(bytes([0, 0, 1]) + b"x" + bytes([1, 1]))])
        self.answer()

    @staticmethod
    def frame(body):
        return struct.pack("<I", len(body)) + body

    def acquire(self):
        # provider, model, then nothing else: pool, session, label, account, exclude, priority, wait, ttl, bind; the
        # credential; agent, exclusive, request id, only, directory
        text = bytes([9]) + b"anthropic" + bytes([1, len(MODEL)]) + MODEL.encode()
        return self.frame(bytes([1, 1]) + text + bytes(9) + bytes([1]) + bytes(5))

    def release(self, lease):
        return self.frame(bytes([2, 3, len(lease)]) + lease + bytes([0]))

    def report(self, lease):
        return self.frame(bytes([3, 6, len(lease)]) + lease + bytes([1, 1]) + bytes(6))

    def send(self, calls):
        self.connection.sendall(b"".join(calls))

    def answer(self):
        header = self.file.read(4)
        if len(header) < 4:
            raise SystemExit("the daemon does not understand a frame: see src/protocol/call/lease.rs for new fields")
        body = self.file.read(struct.unpack("<I", header)[0])
        # an answer, its id, a lease, the length of its id
        if body[0] == 0 and body[2] == 1:
            return body[4 : 4 + body[3]]
        if body[0] != 0:
            raise SystemExit(f"refused: {body}")
        return None


def cycle(client, depth, _):
    """Acquires and releases."""
    client.send([client.acquire()] * depth)
    leases = [client.answer() for _ in range(depth)]
    client.send([client.release(lease) for lease in leases])
    for _ in leases:
        client.answer()


def report(client, depth, state):
    """Reports successes on one lease."""
    if "lease" not in state:
        client.send([client.acquire()])
        state["lease"] = client.answer()
    client.send([client.report(state["lease"])] * depth)
    for _ in range(depth):
        client.answer()


class Bench:
    def __init__(self, program, directory):
        self.program, self.directory, self.runs = program, directory, 0
        self.homes = {}

    def home(self, accounts):
        """A fresh copy of a home with so many accounts."""
        if accounts not in self.homes:
            home = self.fresh()
            os.makedirs(home)
            with open(os.path.join(home, "config.toml"), "w", encoding="utf-8") as config:
                config.write('[daemon]\nlog = "warn"\n')
            daemon = Daemon(self.program, home)
            client = Json(daemon.connect())
            for number in range(accounts):
                params = {"provider": "anthropic", "kind": "api_key", "label": f"account-{number}"}
                params["secret"] = f"sk-perf-{number:040}"
                client.send([json_call(1, "account.add", params)])
                client.answer()
            daemon.stop()
            self.homes[accounts] = home
        copy = self.fresh()
        shutil.copytree(self.homes[accounts], copy, ignore=shutil.ignore_patterns("*.sock"))
        return copy

    def fresh(self):
        self.runs += 1
        return os.path.join(self.directory, str(self.runs))

    def served(self, kind, load, times, depth, accounts):
        out = self.fresh()
        daemon = Daemon(self.program, self.home(accounts), out)
        state, client = {}, kind(daemon.connect())
        for _ in range(times // depth):
            load(client, depth, state)
        client.connection.close()
        daemon.stop()
        return daemon.instructions()

    def each(self, kind, load, depth=1, accounts=10):
        few, many = (self.served(kind, load, times, depth, accounts) for times in (FEW, MANY))
        return (many - few) / (MANY - FEW)

    def start(self, accounts, of=Daemon.instructions):
        """From the first instruction to the end of a daemon that has served one call. On the thread of the socket, most is
        before the first client is greeted; the state is restored on another thread."""
        out = self.fresh()
        daemon = Daemon(self.program, self.home(accounts), out)
        daemon.stop()
        return of(daemon)

    def requests(self, path, times, connections):
        upstream, home, out = perf_gateway.Upstream(), self.home(10), self.fresh()
        with open(os.path.join(home, "config.toml"), "a", encoding="utf-8") as config:
            config.write(f'[providers.anthropic]\nbase_url = "http://127.0.0.1:{upstream.port}"\n')
        daemon = Daemon(self.program, home, out)
        with daemon.connect() as connection:
            connection.sendall(json_call(1, "gateway.key", {}))
            access = json.loads(connection.makefile("rb").readline())["result"]
        port = int(access["url"].rsplit(":", 1)[1])
        perf_gateway.send(upstream, port, access["key"], path, times, connections)
        daemon.stop()
        return daemon.gateway_instructions()

    def each_request(self, path="messages", connections=1, times=(FEW_REQUESTS, MANY_REQUESTS)):
        few, many = (self.requests(path, each, connections) for each in times)
        return (many - few) / (times[1] - times[0])

    def command(self, *words):
        """One command against a daemon that runs already."""
        home = self.home(10)
        daemon = Daemon(self.program, home)
        daemon.connect().close()
        out = self.fresh()
        done = subprocess.run(
            tool(out) + [self.program, *words],
            env=daemon.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        daemon.stop()
        if done.returncode != 0:
            raise SystemExit(f"{words}: {done.stderr.decode()}")
        return sum(count(file) for file in glob.glob(out + ".*"))


FIGURES = {
    "acquire + release, JSON": lambda bench: bench.each(Json, cycle),
    "acquire + release, bincode": lambda bench: bench.each(Binary, cycle),
    "acquire + release, JSON, 16 pipelined": lambda bench: bench.each(Json, cycle, PIPELINED),
    "acquire + release, bincode, 16 pipelined": lambda bench: bench.each(Binary, cycle, PIPELINED),
    "acquire + release, bincode, 1000 accounts": lambda bench: bench.each(Binary, cycle, 1, 1000),
    # more than 4096 are not accepted
    "acquire + release, bincode, 4000 accounts": lambda bench: bench.each(Binary, cycle, 1, 4000),
    "report, JSON": lambda bench: bench.each(Json, report),
    "report, bincode": lambda bench: bench.each(Binary, report),
    "gateway request": lambda bench: bench.each_request(),
    "gateway request, 32 connections": lambda bench: bench.each_request(connections=32),
    "gateway answer of 50 events": lambda bench: bench.each_request("stream", times=(FEW_STREAMS, MANY_STREAMS)),
    "start and end, 10 accounts": lambda bench: bench.start(10),
    "start and end, 1000 accounts": lambda bench: bench.start(1000),
    "all threads, 10 accounts": lambda bench: bench.start(10, Daemon.all_instructions),
    "all threads, 1000 accounts": lambda bench: bench.start(1000, Daemon.all_instructions),
    "lessor ping": lambda bench: bench.command("ping"),
    "lessor token": lambda bench: bench.command("token", "anthropic"),
    "lessor status --oneline": lambda bench: bench.command("status", "--oneline"),
    "lessor statusline": lambda bench: bench.command("statusline"),
}


def known_figures(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as lines:
        pairs = (line.rsplit(None, 1) for line in lines if line.strip() and not line.startswith("#"))
        return {name: int(figure) for name, figure in pairs}


def main():
    program, path, *rest = sys.argv[1:]
    names = [word for word in rest if not word.startswith("-")]
    known, found, differs = known_figures(path), {}, []
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(program, directory)
        for name, measure in FIGURES.items():
            if names and not any(word in name for word in names):
                continue
            found[name] = round(measure(bench))
            before = known.get(name)
            change = f"{found[name] / before - 1:+8.1%}" if before else "     new"
            print(f"{name:<44}{found[name]:>12}{change}", flush=True)
            if not before or abs(found[name] / before - 1) > TOLERANCE:
                differs.append(name)
    if "--update" in rest:
        known.update(found)
        with open(path, "w", encoding="utf-8") as file:
            file.write("# Instructions, as counted by .ci/perf\n")
            file.writelines(f"{name:<44}{known[name]:>12}\n" for name in FIGURES if name in known)
    elif differs:
        print(f"differ by more than {TOLERANCE:.0%}: {', '.join(differs)}")
        print("if that is meant: .ci/perf --update, and say in the commit why")
        raise SystemExit(1)


main()
