"""The agents of one host, for .ci/pool-chaos: one process, with the user id of the host's daemon.

Reads a configuration as one JSON line, then commands, from stdin. Writes what happened as JSON lines to stdout, each
with the monotonic time at which an agent saw it. Agents know a lease only by what the daemon tells them.
"""

import asyncio
import contextlib
import encodings.idna  # noqa: F401 (the host's user may not be able to read Python's library later)
import encodings.latin_1  # noqa: F401
import json
import os
import random
import sys
import time

MODEL = "claude-sonnet-4-5"
# What the agents of a host are, in turn.
KINDS = ("hold", "direct", "lease-gateway", "pid", "gateway", "hold", "exclusive", "direct")


def say(what, **facts):
    print(json.dumps({"at": time.monotonic(), "what": what, **facts}), flush=True)


class Refused(Exception):
    """The daemon answered a call with an error."""


class Socket:
    """A connection to the daemon. Events about leases end them the moment they are read."""

    def __init__(self, path, on_event=None):
        self.path, self.on_event = path, on_event
        self.writer = self.task = None
        self.calls, self.number = {}, 0

    async def open(self):
        reader, self.writer = await asyncio.open_unix_connection(self.path, limit=1 << 20)
        self.task = asyncio.create_task(self.read(reader))

    async def read(self, reader):
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if message.get("method") == "event":
                    if self.on_event:
                        self.on_event(message["params"])
                elif call := self.calls.pop(message.get("id"), None):
                    self.answer(*call, message)
        except (OSError, ValueError):
            pass
        finally:
            self.close()
            if self.on_event:
                self.on_event({"kind": "cut"})

    def answer(self, future, at_once, message):
        if future.done():
            return
        # before the next line is read, which may be the event that ends what was granted
        if at_once and "result" in message:
            at_once(message["result"])
        future.set_result(message)

    def close(self):
        if self.writer:
            self.writer.transport.abort()
        for future, _ in self.calls.values():
            if not future.done():
                future.set_exception(ConnectionResetError())
        self.calls.clear()

    async def call(self, method, at_once=None, **params):
        if self.task is None or self.task.done():
            raise ConnectionResetError
        self.number += 1
        answer = asyncio.get_running_loop().create_future()
        self.calls[self.number] = (answer, at_once)
        call = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.writer.write(json.dumps(call).encode() + b"\n")
        message = await answer
        if "error" in message:
            error = message["error"]
            raise Refused(error.get("data", {}).get("kind", "rpc"), error.get("message", ""))
        return message["result"]


async def request(port, path, headers):
    """One POST over HTTP/1.1; the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]})
        lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json"]
        lines += ["anthropic-version: 2023-06-01", "connection: close", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1]) if answer else 0
    finally:
        writer.transport.abort()


class Agent:
    """Acquires a lease, uses it, ends it, thinks, and begins again."""

    def __init__(self, config, number):
        self.config = config
        self.name = f"{config['host']}.{number}"
        self.kind = KINDS[number % len(KINDS)]
        self.chance = random.Random(f"agent {config['seed']} {self.name}")
        self.socket = Socket(config["socket"], self.on_event)
        self.lease = None  # the lease in use, as the daemon granted it
        self.ended = asyncio.Event()
        self.to_learn = None  # a wait that this agent reports as a rate limit of its next lease
        self.key = self.child = None
        # injected faults: this agent uses a lease that it has released, or stops using one only after that
        self.uses_ended = config.get("inject") == "use-after-end" and number == 1
        self.is_late = config.get("inject") == "late-end" and number == 0

    def on_event(self, event):
        if self.lease is None:
            return
        if event["kind"] == "cut" and self.child is None:
            self.end("cut")
        elif event["kind"] in ("lease.revoked", "lease.ended") and event.get("lease") == self.lease["lease"]:
            if self.is_late:
                return
            self.end(event["kind"])

    def end(self, why):
        """From now on the agent does not use the lease."""
        if self.lease is not None:
            say("ended", lease=self.lease["lease"], why=why)
            self.lease = None
            self.ended.set()

    def take(self, lease):
        self.lease = lease
        self.ended.clear()
        token = (lease.get("credential") or {}).get("secret")
        bind = "pid" if self.child else "connection"
        what = {"lease": lease["lease"], "fence": lease["fence"], "account": lease["account"]["label"]}
        say("granted", **what, agent=self.name, kind=self.kind, token=token, bind=bind)

    async def run(self):
        while True:
            try:
                await self.connect()
                await (self.gateway_turn() if self.kind == "gateway" else self.turn())
            except Refused as refused:
                say("refused", agent=self.name, kind=refused.args[0], message=refused.args[1][:300])
                if refused.args[0] in ("stale_lease", "unknown_lease"):
                    self.end("unknown")
                await asyncio.sleep(self.chance.uniform(0.1, 0.5))
            except (OSError, ValueError, IndexError):
                await asyncio.sleep(self.chance.uniform(0.05, 0.3))
            await asyncio.sleep(self.chance.uniform(0, self.config["think"]))

    async def connect(self):
        """A lease that is bound to a process outlives the connection, if the daemon still knows it."""
        if self.socket.task is not None and not self.socket.task.done():
            return
        await self.socket.open()
        await self.socket.call("events.subscribe", kinds=["lease.revoked", "lease.ended"])
        if self.lease is not None:
            try:
                await self.socket.call("lease.renew", lease=self.lease["lease"])
            except Refused:
                self.end("unknown")

    def duration(self):
        """How long a lease is held: mostly short, but some must be longer than it takes to take a seat over."""
        return self.chance.uniform(*self.config["long" if self.chance.random() < 0.1 else "hold"])

    async def turn(self):
        if self.lease is None:
            wanted = {"provider": "anthropic", "model": MODEL, "wait_ms": self.config["wait_ms"], "agent": "chaos"}
            wanted["credential"] = self.kind == "direct" or self.kind == "pid" and self.chance.random() < 0.5
            if self.kind == "exclusive":
                wanted["exclusive"] = True
            if self.kind == "pid":
                self.child = await asyncio.create_subprocess_exec("sleep", "1000")
                wanted["bind"] = {"pid": self.child.pid}
            say("asked", agent=self.name)
            try:
                await self.socket.call("lease.acquire", self.take, **wanted)
            except (Refused, OSError):
                await self.kill_child()
                raise
        await self.use(self.duration())
        await self.finish()

    async def use(self, duration):
        """Holds the lease, with requests if this agent sends any, until it ends or `duration` has passed."""
        end = time.monotonic() + duration
        key = None
        while self.lease is not None and time.monotonic() < end:
            if self.to_learn is not None:
                await self.learn()
                continue
            lease = self.lease
            if self.child is not None:
                with contextlib.suppress(OSError):
                    await self.connect()
                if self.lease is None:
                    break
            if self.kind == "lease-gateway" and key is None:
                key = await self.socket.call("gateway.key", lease=lease["lease"])
            if key is not None:
                await self.send(self.port(key), "/anthropic/v1/messages", {"x-api-key": key["key"]})
            elif token := (lease.get("credential") or {}).get("secret"):
                await self.send(self.config["provider"], "/v1/messages", {"authorization": f"Bearer {token}"})
            left = min(self.chance.uniform(0.05, 0.8), end - time.monotonic())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.ended.wait(), max(left, 0.001))

    async def send(self, port, path, headers):
        lease = self.lease
        if lease is not None:
            headers.update({"x-chaos-lease": lease["lease"]})
        headers.update({"x-chaos-agent": self.name, "x-chaos-takes": f"{self.chance.uniform(0.01, 0.15):.3f}"})
        headers["x-chaos-sent"] = sent = time.monotonic()
        sending = asyncio.create_task(request(port, path, headers))
        stop = asyncio.create_task(self.ended.wait() if lease is not None else asyncio.sleep(60))
        await asyncio.wait([sending, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not sending.done():
            sending.cancel()
        elif sending.exception() is None:
            say("answer", agent=self.name, status=sending.result(), sent=sent, direct=port == self.config["provider"])

    def port(self, key):
        return int(key["url"].rsplit(":", 1)[1].partition("/")[0])

    async def learn(self):
        """Reports a rate limit. The answer may be a lease on another account."""
        wait, self.to_learn = self.to_learn, None
        lease = self.lease
        label = lease["account"]["label"]
        say("limit", account=label, wait=wait, host=self.config["host"])
        self.end("reported")
        headers = {"retry-after": str(wait)}
        error = {"type": "rate_limit_error", "message": "This request would exceed your rate limit."}
        body = json.dumps({"type": "error", "error": error})

        def moved(answer):
            say("limit-reported", account=label, action=answer.get("action"))
            if answer.get("lease"):
                self.take(answer["lease"])

        report = {"lease": lease["lease"], "status": 429, "headers": headers, "body": body}
        answer = await self.socket.call("lease.report", moved, **report)
        if self.lease is None and not answer.get("lease") and answer.get("action") in ("retry", "wait", "continue"):
            # the lease goes on to exist; this agent does not use it
            await self.socket.call("lease.release", lease=lease["lease"])

    async def finish(self):
        try:
            await self.release()
        finally:
            await self.kill_child()
            if self.kind == "lease-gateway":
                # the gateway may have moved its lease to another account: the new one ends with the connection
                self.socket.close()

    async def release(self):
        lease = self.lease
        if lease is not None:
            if not self.is_late:
                self.end("released")
            if self.child is not None and self.chance.random() < 0.5:
                await self.kill_child()
            else:
                await self.socket.call("lease.release", lease=lease["lease"])
            if self.is_late:
                await asyncio.sleep(0.5)
                self.end("released")
            if self.uses_ended and (token := (lease.get("credential") or {}).get("secret")):
                await asyncio.sleep(0.3)
                self.lease = lease
                self.ended.clear()
                await self.send(self.config["provider"], "/v1/messages", {"authorization": f"Bearer {token}"})
                self.lease = None

    async def kill_child(self):
        if self.child is not None:
            child, self.child = self.child, None
            child.kill()
            await child.wait()

    async def gateway_turn(self):
        """Requests with a lasting key: the gateway takes a lease for each."""
        if self.key is None:
            self.key = await self.socket.call("gateway.key", label=f"agent-{self.name}", agent="chaos")
        await self.send(self.port(self.key), "/anthropic/v1/messages", {"x-api-key": self.key["key"]})


async def watch(config):
    """One more connection: sees what the host knows of limits, and whether its daemon answers."""

    def on_event(event):
        if event["kind"] in ("account.limited", "account.ready"):
            account = (event.get("account") or {}).get("label")
            say(event["kind"], host=config["host"], account=account, reason=event.get("reason"))

    while True:
        socket = Socket(config["socket"], on_event)
        try:
            await socket.open()
            await socket.call("events.subscribe", kinds=["account.limited", "account.ready"])
            say("connected", host=config["host"])
            while True:
                await asyncio.sleep(1)
                await socket.call("lease.list")
        except (OSError, Refused):
            socket.close()
            await asyncio.sleep(0.1)


async def main():
    config = json.loads(sys.stdin.readline())
    if config["uid"] is not None:
        os.setgroups([])
        os.setgid(config["uid"])
        os.setuid(config["uid"])
    agents = [Agent(config, number) for number in range(config["agents"])]
    tasks = [asyncio.create_task(agent.run()) for agent in agents] + [asyncio.create_task(watch(config))]
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        # the agent that has a lease now and can report on it at once
        ready = [agent for agent in agents if agent.lease is not None and agent.kind in ("hold", "direct")]
        if command["do"] == "limit" and ready:
            chosen = random.Random(command["seed"]).choice(ready)
            chosen.to_learn = command["wait"]
    for task in tasks:
        if task.done() and task.exception():
            say("broke", why=repr(task.exception()))
        task.cancel()
    for agent in agents:
        if agent.child is not None:
            agent.child.kill()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
