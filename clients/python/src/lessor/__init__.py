"""Leases LLM accounts from the lessor daemon. Each call has a blocking form, with `_sync` at the end of its name."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

from ._daemon import ENDS, Connection, Json, LessorError, StaleLeaseError, UnavailableError, begin

__all__ = ["Action", "Forecast", "Lease", "LessorError", "StaleLeaseError", "UnavailableError"]
__all__ += [name + form for name in ("acquire", "call", "events", "forecast", "status") for form in ("", "_sync")]

P = ParamSpec("P")
R = TypeVar("R")
_loop: list[asyncio.AbstractEventLoop] = []  # of the blocking calls, in a thread
# how many leases could be granted now, how many of them on an account of their own, and when (time.time()) more can
Forecast = NamedTuple("Forecast", [("grantable", int), ("unshared", int), ("next_at", float | None)])
os.register_at_fork(after_in_child=_loop.clear)


def _blocking(method: Callable[P, Awaitable[R]]) -> Callable[P, R]:
    @wraps(method)
    def call(*args: P.args, **options: P.kwargs) -> R:
        async def run() -> R:
            return await method(*args, **options)

        if not _loop:
            _loop.append(loop := asyncio.new_event_loop())
            threading.Thread(target=loop.run_forever, name="lessor", daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(run(), _loop[0])
        try:
            return future.result()
        finally:
            future.cancel()  # after Ctrl-C: takes a waiting request out of the queue

    return call


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(min(seconds, 1e9) * 1000)


class Action(NamedTuple):
    """What to do after the provider's answer. A `switch` is made already: the lease is on the new account."""

    action: str  # `continue`, `retry`, `switch`, `wait` or `stop`
    again: bool  # whether to send the request again, `after` seconds from now
    after: float
    reason: str | None
    link: str | None  # where the user can do something about it


class Lease:
    """When the daemon ends, the lease is resumed on the next one. `ended` says why a lease has ended, once known."""

    def __init__(self, bound: bool, connection: Connection, lease: Json) -> None:
        self._bound, self._connection, self._connected = bound, connection, asyncio.Event()
        self.ended: LessorError | None = None
        self._set(lease)
        self._keeper = asyncio.create_task(self._keep())

    def _set(self, lease: Json) -> None:
        self._info, credential = lease, lease["credential"]
        self.id, self.fence, self.provider = str(lease["lease"]), int(lease["fence"]), str(lease["provider"])
        self.account: dict[str, str | None] = lease["account"]  # `id`, `label`, `email`, `tier`
        self.secret, scheme = str(credential["secret"]), credential["scheme"]
        self.headers: dict[str, str] = {credential["header"]: f"{scheme} {self.secret}" if scheme else self.secret}

    async def report(
        self, status: int | None = None, headers: Mapping[str, str] | Message = {}, body: str | bytes = "", *,
        ok: bool | None = None, reason: str | None = None, retry_after: float | None = None,
    ) -> Action:  # fmt: skip
        """Reports what the provider answered (`status`, `headers`, `body`), or that it was `ok`, or a `reason`."""
        text = (body.decode(errors="replace") if isinstance(body, bytes) else body)[:16384]
        report = {"status": status, "headers": dict(headers) or None, "body": text or None, "ok": ok}
        answer = await self._call("lease.report", report | {"reason": reason, "retry_after_ms": _ms(retry_after)})
        self._set(answer["lease"] or self._info)
        again = answer["action"] in ("retry", "switch", "wait")
        return Action(answer["action"], again, answer["after_ms"] / 1000, answer["reason"], answer["link"])

    async def credential(self, force: bool = False) -> dict[str, str]:
        """The current headers; with `force` those of a new credential, after the provider has refused the old one."""
        self._set(self._info | {"credential": await self._call("lease.credential", {"force": force})})
        return self.headers

    async def renew(self) -> None:
        """Extends the lease by its `ttl`. If the user has moved it, it is on the new account then."""
        self._set(await self._call("lease.renew", {}))

    async def release(self) -> None:
        """Ends the lease; does nothing if it has ended."""
        try:
            with suppress(LessorError):  # it has ended, or ends with its connection
                await (self._connection.call if self._bound else self._call)("lease.release", {"lease": self.id})
        finally:
            self.ended = self.ended or StaleLeaseError("this lease was released", "stale_lease")
            self._keeper.cancel()
            self._connection.close()

    async def _call(self, method: str, params: Json) -> Any:
        """Calls; again on the next daemon, which has the lease as it was, so that the same call does no harm."""
        for left in (3, 2, 1, 0):
            await self._connected.wait()
            if self.ended:
                raise self.ended
            connection = self._connection
            try:
                return await connection.call(method, params | {"lease": self.id})
            except LessorError as error:
                if not left or error.kind not in ENDS:
                    raise
            await asyncio.wait([connection.ended])  # a daemon that stops keeps the lease until it ends the connection

    async def _keep(self) -> None:
        """Resumes at once when the daemon ends: the next one lets holders come back before it serves others."""
        try:
            while True:
                self._connected.set()
                await asyncio.wait([self._connection.ended])
                self._connected.clear()
                method, same = "lease.resume" if self._bound else "lease.renew", {"lease": self.id, "fence": self.fence}
                self._connection, lease = await begin(method, same, again=True)
                self._set(lease)
        except LessorError as error:
            self.ended = error
            self._connected.set()

    def __repr__(self) -> str:
        return f"<Lease {self.id} fence={self.fence} account={self.account['label'] or self.account['id']}>"

    report_sync, credential_sync = _blocking(report), _blocking(credential)
    renew_sync, release_sync = _blocking(renew), _blocking(release)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release_sync()


@dataclass
class Acquiring:
    """To await, or for `async with`, which releases the lease at the end."""

    request: Coroutine[Any, Any, Lease]

    def __await__(self) -> Generator[Any, None, Lease]:
        return self.request.__await__()

    async def __aenter__(self) -> Lease:
        self._lease = await self
        return self._lease

    async def __aexit__(self, *_: object) -> None:
        await self._lease.release()


def acquire(
    provider: str, *, model: str | None = None, wait: float | None = None, pid: int | None = None,
    ttl: float | None = None, account: str | None = None, only: list[str] | None = None, exclude: list[str] = [],
    agent: str | None = None, session: str | None = None, label: str | None = None, pool: str | None = None,
    priority: int = 0, exclusive: bool = False, directory: str | None = None,
) -> Acquiring:  # fmt: skip
    """Leases an account, and waits `wait` seconds for one. The lease ends with this process, or with `pid`."""
    params = {name: value for name, value in locals().items() if name not in ("wait", "pid", "ttl")}
    params |= {"wait_ms": _ms(wait), "ttl_ms": _ms(ttl), "bind": {"pid": pid} if pid else "connection"}
    params["request_id"] = os.urandom(16).hex()  # the daemon knows a repeated request by it

    async def request() -> Lease:
        return Lease(not pid, *await begin("lease.acquire", params, None if wait is None else wait + 30))

    return Acquiring(request())


async def forecast(
    provider: str, *, model: str | None = None, count: int | None = None, only: list[str] | None = None,
    agent: str | None = None, directory: str | None = None,
) -> Forecast:  # fmt: skip
    """How many leases could be granted now, and when there will be more."""
    answer = await call("forecast", **locals())
    return Forecast(answer["grantable"], answer["unshared"], answer["next_at"] and answer["next_at"] / 1000)


async def status() -> Json:
    """The document of `lessor status --json`."""
    return dict(await call("status"))


async def call(method: str, /, **params: Any) -> Any:
    """Any method of docs/protocol.md that is about no lease of this client, such as `account.list`."""
    connection, _ = await begin("hello", {})  # the call itself is not repeated
    try:
        return await connection.call(method, params)
    finally:
        connection.close()


async def events(*kinds: str, recent: bool = False) -> AsyncGenerator[Json, None]:
    """Events from now on, with `recent` also the latest ones. After a lost connection, `client.reconnected`."""
    again = False
    while True:
        connection, _ = await begin("events.subscribe", {"kinds": kinds, "recent": recent}, again=again)
        try:
            if again:
                yield {"kind": "client.reconnected", "at": int(time.time() * 1000)}
            while event := await connection.events.get():
                yield event
        finally:
            connection.close()
        again, recent = True, False


def events_sync(*kinds: str, recent: bool = False) -> Iterator[Json]:
    return iter(_blocking(events(*kinds, recent=recent).__anext__), {})


acquire_sync, forecast_sync = _blocking(acquire), _blocking(forecast)
status_sync, call_sync = _blocking(status), _blocking(call)
