"""The attacks of .ci/gateway-attacks. Prints a line for each: what, resident memory before and after, times of the owner."""

import atexit
import gzip
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib

MIB = 1 << 20
LIMIT_MIB, LIMIT_MS = 128, 100
BOMB = gzip.compress(b" " * MIB, 6) * 500


def refuse(connection):
    """An upstream: reads requests; answers each with the bomb that its path names, or with success."""
    reader = connection.makefile("rb")
    while True:
        line = reader.readline()
        if not line:
            return
        length = 0
        while (header := reader.readline()) not in (b"\r\n", b""):
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while length > 0:
            length -= len(reader.read(min(length, MIB)))
        coding, body = None, b"{}"
        for name, bomb in BOMBS.items():
            if f"/{name}".encode() in line:
                coding, body = name, bomb
        status = "400 Bad" if coding else "200 OK"
        extra = f"content-encoding: {coding}\r\n" if coding else ""
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{extra}content-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)


# zstd: a window of 8 MiB and blocks that repeat one byte; brotli: a window and a block of 16 MiB each, cut off
BOMBS = {
    "gzip": BOMB,
    "deflate": zlib.compress(b" " * (256 * MIB), 6),
    "zstd": b"\x28\xb5\x2f\xfd\x00\x68" + ((128 * 1024 << 3 | 2).to_bytes(3, "little") + b" ") * 4000,
    "br": b"\xcf\xff\xff\xff" + b" " * 100_000,
}


def serve():
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def run():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=lambda: quietly(refuse, connection), daemon=True).start()

    # a process of its own, so that the attack in this one does not delay it
    child = os.fork()
    if child == 0:
        run()
    atexit.register(os.kill, child, signal.SIGKILL)
    port = listener.getsockname()[1]
    listener.close()
    return port


def quietly(work, *given):
    try:
        return work(*given)
    except OSError:
        return None


class Gateway:
    def __init__(self, upstream):
        self.home = tempfile.mkdtemp(prefix="lessor-attacks-")
        url = f"http://127.0.0.1:{upstream}"
        with open(f"{self.home}/config.toml", "w") as config:
            config.write(f'[quota]\npoll = "off"\n[providers.anthropic]\nbase_url = "{url}"\n')
        self.environment = {**os.environ, "LESSOR_HOME": self.home}
        lessor = os.environ["LESSOR"]
        log = open(f"{self.home}/daemon.log", "w")
        self.daemon = subprocess.Popen([lessor, "daemon"], env=self.environment, stdout=log, stderr=log)
        while not os.path.exists(f"{self.home}/run/lessor.sock"):
            time.sleep(0.02)
        for label in "abcdefgh":
            self.call("account.add", {"provider": "anthropic", "kind": "api_key", "secret": f"k-{label}", "label": label})
        access = self.call("gateway.key", {"agent": "test"})
        self.key, self.port = access["key"], int(access["url"].rsplit(":", 1)[1])

    def call(self, method, params):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(f"{self.home}/run/lessor.sock")
            stream.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
            answer = json.loads(stream.makefile().readline())
            return answer.get("result", answer)

    def resident(self, what="VmRSS"):
        with open(f"/proc/{self.daemon.pid}/status") as status:
            return int(re.search(rf"{what}:\s+(\d+)", status.read())[1]) // 1024

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port))

    def request(self, path="/anthropic/v1/messages", body=b"{}", headers=""):
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {self.key}\r\n{headers}"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def owner(self):
        """The times of the owner's requests, in ms: by TCP, by the Unix socket."""
        times = {"tcp": [], "unix": []}
        for _ in range(30):
            for way in times:
                began = time.monotonic()
                if way == "tcp":
                    stream = self.connect()
                else:
                    stream = socket.socket(socket.AF_UNIX)
                    stream.connect(f"{self.home}/run/gateway.sock")
                with stream:
                    stream.settimeout(30)
                    stream.sendall(self.request())
                    try:
                        line = stream.recv(64)
                    except TimeoutError:
                        line = b""
                # one that is not served counts as the longest time
                if not line.startswith(b"HTTP/1.1 200"):
                    began -= 30
                times[way].append((time.monotonic() - began) * 1000)
        return times

    def stop(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait()


def half_heads(port, count, length):
    head = b"GET /anthropic/v1/models HTTP/1.1\r\nhost: localhost\r\nx: "
    streams = []
    for _ in range(count):
        stream = socket.create_connection(("127.0.0.1", port))
        quietly(stream.sendall, head + b"x" * (length - len(head)))
        streams.append(stream)
    return streams


def other_user(gateway, count, length):
    """A process of another user that keeps so many half-sent heads open."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        os.read(read, 1)
        return child
    os.setgid(65534)
    os.setuid(65534)
    streams = half_heads(gateway.port, count, length)
    os.write(write, b"x")
    while True:
        for at, stream in enumerate(streams):
            stream.setblocking(False)
            try:
                closed = stream.recv(512) == b"" or True
            except BlockingIOError:
                closed = False
            except OSError:
                closed = True
            if closed:
                stream.close()
                streams[at] = (quietly(half_heads, gateway.port, 1, length) or [stream])[0]


def together(count, work):
    threads = [threading.Thread(target=lambda: quietly(work), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def read_all(stream):
    with stream:
        stream.settimeout(120)
        while stream.recv(MIB):
            pass


def send_and_read(gateway, request):
    stream = gateway.connect()
    stream.sendall(request)
    read_all(stream)


def attacks():
    yield "none", lambda gateway: None
    for length in (100, 8_000, 60_000):
        yield f"1500 half heads of {length} bytes, same user", lambda gateway, length=length: half_heads(gateway.port, 1500, length)
    yield "2730 half heads of 60000 bytes, same user", lambda gateway: half_heads(gateway.port, 2730, 60_000)
    if os.geteuid() == 0:
        for count in (100, 3000):
            yield f"{count} half heads, another user", lambda gateway, count=count: other_user(gateway, count, 2_000)
    close = "connection: close\r\n"
    for coding in BOMBS:
        path = f"/anthropic/v1/{coding}"
        yield f"64 refusals that are {coding} bombs", lambda gateway, path=path: together(
            64, lambda: send_and_read(gateway, gateway.request(path, headers=close)))
    for coding, bomb in BOMBS.items():
        yield f"16 requests that are {coding} bombs", lambda gateway, coding=coding, bomb=bomb: together(
            16, lambda: send_and_read(gateway, gateway.request(body=bomb, headers=f"{close}content-encoding: {coding}\r\n")))
    large = b"x" * (30 * MIB)
    yield "24 bodies of 30 MiB", lambda gateway: together(
        24, lambda: send_and_read(gateway, gateway.request(body=large, headers=close)))


def main():
    upstream = serve()
    failed = False
    print(f"{'attack':48} {'RSS MiB':>8} {'peak':>6} {'TCP p50':>8} {'max':>7} {'Unix p50':>9} {'max':>7}")
    for what, attack in attacks():
        gateway = Gateway(upstream)
        gateway.owner()
        running = attack(gateway)
        times = gateway.owner()
        if isinstance(running, list) and running and isinstance(running[0], threading.Thread):
            for thread in running:
                thread.join(120)
        rss, peak = gateway.resident(), gateway.resident("VmHWM")
        tcp, unix = times["tcp"], times["unix"]
        if isinstance(running, int):
            os.kill(running, signal.SIGKILL)
            os.waitpid(running, 0)
        is_good = peak <= LIMIT_MIB and (statistics.median(tcp) <= LIMIT_MS >= statistics.median(unix))
        failed |= not is_good
        print(f"{what:48} {rss:8} {peak:6} {statistics.median(tcp):8.1f} {max(tcp):7.1f} {statistics.median(unix):9.1f}"
              f" {max(unix):7.1f}{'' if is_good else '  over the limit'}", flush=True)
        del running
        gateway.stop()
    sys.exit(failed)


main()
