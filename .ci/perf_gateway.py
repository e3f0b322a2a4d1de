"""The load of the gateway for perf.py: an upstream on loopback, and clients that send requests to it through the gateway."""

import socket
import threading

BODY = b'{"model":"claude-sonnet-4-5","x":"' + b"x" * 2000 + b'"}'
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"x":"' + b"x" * 992 + b'"}'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"hello"}}\n\n'
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
EVENTS = 50
LAST_CHUNK = b"0\r\n\r\n"
HANG = 120


class Connection:
    """A connection, with what was read of it and not used yet."""

    def __init__(self, stream):
        self.stream, self.unread = stream, b""
        stream.settimeout(HANG)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self):
        piece = self.stream.recv(65536)
        self.unread += piece
        return piece

    def take(self, length):
        while len(self.unread) < length:
            if not self.read():
                raise SystemExit("a connection has ended")
        taken, self.unread = self.unread[:length], self.unread[length:]
        return taken

    def take_to(self, mark):
        """Up to the end of this mark; `None` if the connection ends before it."""
        while mark not in self.unread:
            if not self.read():
                return None
        return self.take(self.unread.index(mark) + len(mark))

    def message(self):
        """The head and the body of a message with a known length."""
        head = self.take_to(b"\r\n\r\n")
        if head is None:
            return None, b""
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head, self.take(int(lengths[0].split(b":")[1]) if lengths else 0)


class Upstream:
    """Answers with a document or, below /stream, with events: each when the client has taken the one before."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.taken = threading.Semaphore(0)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(Connection(stream),), daemon=True).start()

    def serve(self, connection):
        while True:
            head, _ = connection.message()
            if head is None:
                return
            if b"/stream" not in head.split(b"\r\n")[0]:
                connection.stream.sendall(ANSWER)
                continue
            connection.stream.sendall(STREAM)
            for _ in range(EVENTS):
                connection.stream.sendall(CHUNK)
                self.taken.acquire()
            connection.stream.sendall(LAST_CHUNK)


class Client:
    def __init__(self, upstream, port, key, path):
        self.upstream, self.path = upstream, path
        self.connection = Connection(socket.create_connection(("127.0.0.1", port)))
        head = f"POST /anthropic/v1/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\n"
        head += "anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\n"
        head += f"x-api-key: {key}\r\ncontent-length: {len(BODY)}\r\n\r\n"
        self.request = head.encode() + BODY

    def send(self, times):
        for _ in range(times):
            self.connection.stream.sendall(self.request)
            head = self.stream() if self.path == "stream" else self.connection.message()[0]
            if head is None or b" 200 " not in head.split(b"\r\n")[0]:
                raise SystemExit(f"refused: {head}")
        self.connection.stream.close()

    def stream(self):
        head = self.connection.take_to(b"\r\n\r\n")
        for _ in range(EVENTS):
            self.connection.take_to(EVENT)
            self.upstream.taken.release()
        self.connection.take_to(LAST_CHUNK)
        return head


def send(upstream, port, key, path, times, connections):
    """Sends so many requests in all, one after the other on each connection."""
    clients = [Client(upstream, port, key, path) for _ in range(connections)]
    threads = [threading.Thread(target=client.send, args=(times // connections,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
