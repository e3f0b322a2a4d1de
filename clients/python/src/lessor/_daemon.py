"""Finds the daemon, or starts one as lessor's own commands do, and calls it: JSON-RPC 2.0, one message per line."""

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from subprocess import DEVNULL, PIPE, CalledProcessError, run
from typing import Any

if sys.platform == "win32":
    raise ImportError("lessor's Python client needs Unix sockets: use it in WSL, or call `lessor acquire --json`")
import fcntl

Json = dict[str, Any]
ENDS = ("lost_connection", "shutting_down")  # kinds of errors by which a daemon ends


class LessorError(Exception):
    """`kind` is the daemon's name for the reason (docs/protocol.md), or `no_daemon`, `lost_connection`, `no_answer`."""

    def __init__(self, message: str, kind: str, data: Json = {}) -> None:
        self.message, self.kind, wait = message, kind, data.get("retry_after_ms")
        self.hint: str | None = data.get("hint")  # what helps, mostly a command
        self.retry_after: float | None = None if wait is None else wait / 1000  # seconds; it cannot succeed earlier
        self.accounts: list[Json] = data.get("accounts") or []  # what blocks each: `name`, `why`, `until`

    def __str__(self) -> str:
        return f"{self.message} ({self.kind})" + (f"\nhint: {self.hint}" if self.hint else "")


class UnavailableError(LessorError):
    """No account can serve now: `all_limited`, `no_capacity` or `wait_timeout`."""


class StaleLeaseError(LessorError):
    """The lease has ended: acquire a new one."""


_CLASSES: dict[str, type[LessorError]] = {"stale_lease": StaleLeaseError, "unknown_lease": StaleLeaseError}
_CLASSES |= dict.fromkeys(("all_limited", "no_capacity", "wait_timeout"), UnavailableError)


class Connection:
    """Its end frees the account of a lease that is bound to it, and takes a waiting request out of the queue."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self.close, self._last_id = reader, writer, writer.close, 0
        self._calls: dict[int, asyncio.Future[Json]] = {}
        self.events: asyncio.Queue[Json | None] = asyncio.Queue()  # None at the end of the connection
        self.ended = asyncio.create_task(self._read())

    async def call(self, method: str, params: Json, timeout: float | None = 60) -> Any:
        self._last_id += 1
        self._calls[self._last_id] = answer = asyncio.get_running_loop().create_future()
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        self._writer.write(json.dumps(message).encode() + b"\n")
        done, _ = await asyncio.wait([answer, self.ended], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            lost = ("the connection to the daemon was lost", "lost_connection")
            raise LessorError(*(lost if done else (f"the daemon does not answer {method}", "no_answer")))
        if error := answer.result().get("error"):
            kind = error["data"]["kind"]
            raise _CLASSES.get(kind, LessorError)(error["message"], kind, error["data"])
        return answer.result()["result"]

    async def _read(self) -> None:
        try:
            with suppress(OSError, ValueError, KeyError):  # an end like any other
                while (line := await self._reader.readline()) and self.events.qsize() < 4096:  # more: they are not read
                    message = json.loads(line)
                    if "method" in message:
                        self.events.put_nowait(message["params"])
                    else:  # a refusal of the whole connection has no id
                        self._calls.pop(message["id"] or self._last_id).set_result(message)
        finally:
            self.close()
            self.events.put_nowait(None)


async def begin(method: str, params: Json, timeout: float | None = 60, again: bool = False) -> tuple[Connection, Any]:
    """Connects and calls; again on the next daemon if that one ends meanwhile."""
    begun, wait = time.monotonic(), params.get("wait_ms")
    for left in (3, 2, 1, 0):
        connection = await connect(again)
        try:
            await connection.call("hello", {"client": "lessor-python 0.1.0", "protocol": [1, 1]}, 15)
            again = True
            rest = {} if wait is None else {"wait_ms": max(0, wait - int((time.monotonic() - begun) * 1000))}
            return connection, await connection.call(method, params | rest, timeout)
        except BaseException as error:
            connection.close()
            if not left or getattr(error, "kind", "") not in ENDS:
                raise
        await asyncio.sleep(0.05)
    raise AssertionError


async def connect(again: bool) -> Connection:
    """With `again`, after a daemon that was stopped, waits for the next one instead of starting it."""
    (socket, lock), begun = _places(), time.monotonic()
    path, may_start = socket, os.environ.get("LESSOR_NO_START", "") in ("", "0")
    while True:
        try:
            return Connection(*await asyncio.open_unix_connection(path, limit=4 << 20))
        except OSError as error:
            why = f"no daemon at {path}: {error.strerror or error}"
        other, died = _read_lock(lock)
        path = other if other and path == socket else socket
        if path != socket:
            continue
        if may_start and (died or not again):
            await asyncio.to_thread(_start, why)
            may_start = False  # another start does not help if that daemon is gone already
        elif not again or time.monotonic() - begun > (30 if died else 10):
            raise LessorError(why, "no_daemon", {"hint": "start one: lessor " + ("ping" if again else "daemon")})
        await asyncio.sleep(0.025)


def _start(why: str) -> None:
    """`lessor ping` starts a daemon that outlives this process, or says why it cannot."""
    try:
        run(["lessor", "ping"], stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, check=True)
    except OSError as error:
        why = f"{why}; the program `lessor` cannot be started: {error.strerror}"
        raise LessorError(why, "no_daemon", {"hint": "install lessor, or add its directory to PATH"}) from None
    except CalledProcessError as failed:
        raise LessorError(f"no daemon can be started: {failed.stderr.decode().strip()}", "no_daemon") from None


def _places() -> tuple[str, str]:
    """The paths of the socket and of the daemon's lock file."""
    env = {name: path for name, path in os.environ.items() if os.path.isabs(path)}  # a relative one does not count
    home = os.path.expanduser("~")
    data = env.get("XDG_DATA_HOME", home + "/.local/share") + "/lessor"
    state = env.get("XDG_STATE_HOME", home + "/.local/state") + "/lessor"
    if sys.platform == "darwin":
        data, state = (home + "/Library/Application Support/lessor" + end for end in ("", "/state"))
    run = env["XDG_RUNTIME_DIR"] + "/lessor" if "XDG_RUNTIME_DIR" in env else state + "/run"
    if own := os.environ.get("LESSOR_HOME"):
        data, run = own + "/data", own + "/run"
    return os.path.abspath(os.environ.get("LESSOR_SOCKET") or run + "/lessor.sock"), data + "/daemon.lock"


def _read_lock(path: str) -> tuple[str | None, bool]:
    """The socket that the lock file names, and whether its daemon was killed: one that is stopped empties the file."""
    socket, died = None, False
    with suppress(OSError, ValueError, KeyError), open(path) as file:
        socket = str(json.load(file)["socket"])
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        died = True
    return socket, died
