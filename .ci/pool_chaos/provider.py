"""A simulated provider with its authorization server, for .ci/pool-chaos.

It plays the parts of Anthropic's API that the harness needs: messages, usage, models, profile and the token endpoint.
Refresh tokens may be used once: a second use revokes the login, as strict authorization servers do. Each host has a
port of its own here, so that every request shows which host sent it. All times are of the monotonic clock.
"""

import asyncio
import datetime
import json
import random
import time
from urllib.parse import parse_qs

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
TOKEN_PATH = "/v1/oauth/token"


class Login:
    """An account at the provider: its living refresh token and the access tokens that it has given out."""

    def __init__(self, name):
        self.name = name
        self.generation = 0  # how many refresh tokens there were before the living one
        self.family = 0  # how many times its user had to log in again
        self.revoked = False

    def refresh_token(self):
        return f"refresh.{self.name}.{self.family}.{self.generation}"


class Provider:
    """Serves all hosts. `record` is called with a dict for every request that has ended."""

    def __init__(self, names, token_life, record, seed, is_strict=False):
        self.logins = {name: Login(name) for name in names}
        self.token_life = token_life
        self.is_strict = is_strict  # a refresh ends the access tokens before it at once
        self.record = record
        self.ends = {}  # access token -> (name, monotonic time of its end)
        self.first_use = {}  # refresh token -> the record of its first use
        self.chance = random.Random(f"provider {seed}")
        self.ports = []
        self.count = 0
        self.slowest = 0.05  # of the token endpoint, in seconds
        self.lost = asyncio.Queue()  # names of logins that were revoked

    async def start(self, hosts):
        for host in range(hosts):
            server = await asyncio.start_server(self.serve_as(host), "127.0.0.1", 0)
            self.ports.append(server.sockets[0].getsockname()[1])

    def log_in(self, name):
        """What a user's login gives: an access token, a refresh token and when the first one ends (epoch ms)."""
        login = self.logins[name]
        if login.revoked or login.generation:
            login.family, login.generation, login.revoked = login.family + 1, 0, False
        access = self.new_access(login)
        return {
            "access_token": access,
            "refresh_token": login.refresh_token(),
            "expires_at": int((time.time() + self.token_life) * 1000),
            "email": f"{name}@chaos.invalid",
            "account_id": f"account-{name}",
            "tier": "pro",
        }

    def new_access(self, login):
        if self.is_strict:
            for token, (name, end) in list(self.ends.items())[-100:]:
                if name == login.name:
                    self.ends[token] = (name, min(end, time.monotonic()))
        self.count += 1
        token = f"access.{login.name}.{login.family}.{self.count}"
        self.ends[token] = (login.name, time.monotonic() + self.token_life)
        return token

    def refresh_behind(self, name):
        """The injected fault: a refresh by a program that tells the pool nothing."""
        login = self.logins[name]
        now = time.monotonic()
        entry = {"host": 0, "path": TOKEN_PATH, "arrived": now, "answered": now, "ended": now, "account": name}
        entry.update(token=login.refresh_token(), reuse=False)
        self.first_use[login.refresh_token()] = entry
        login.generation += 1
        self.record(entry)

    def account_of(self, headers):
        """The account of a request's access token, or None if it has none that lives; and then, why not."""
        token = headers.get("authorization", "").removeprefix("Bearer ")
        name, end = self.ends.get(token, (None, 0))
        if name is None:
            return None, "its token is unknown"
        if self.logins[name].revoked or token.split(".")[2] != str(self.logins[name].family):
            return None, f"the login of {name} is revoked"
        ago = time.monotonic() - end
        return (None, f"the token of {name} had ended {ago:.2f} s before") if ago > 0 else (name, None)

    def serve_as(self, host):
        async def serve(reader, writer):
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    _, target, _ = head[0].split(" ", 2)
                    pairs = (line.partition(":") for line in head[1:] if line)
                    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
                    body = await reader.readexactly(int(headers.get("content-length") or 0))
                    await self.answer(host, target.partition("?")[0], headers, body, (reader, writer))
                    if "close" in headers.get("connection", ""):
                        break
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                pass
            finally:
                writer.close()

        return serve

    async def answer(self, host, path, headers, body, connection):
        reader, writer = connection
        entry = {"host": host, "path": path, "arrived": time.monotonic()}
        try:
            if path == TOKEN_PATH:
                await self.refresh(entry, headers, body, writer)
                return
            name, why = self.account_of(headers)
            entry.update(account=name, why=why, sent=float(headers.get("x-chaos-sent", 0)))
            entry["lease"] = headers.get("x-chaos-lease")
            entry["agent"] = headers.get("x-chaos-agent")
            if name is None:
                await send(writer, 401, {"type": "error", "error": {"type": "authentication_error", "message": "no"}})
            elif path.endswith("/messages"):
                end = time.monotonic() + float(headers.get("x-chaos-takes", 0.02))
                while time.monotonic() < end:
                    await asyncio.sleep(0.005)
                    # the gateway cuts a request whose lease has ended
                    if reader.at_eof() or writer.transport.is_closing():
                        raise ConnectionResetError
                # before the answer is written: its reader may act on it while this process waits for its turn
                entry["ended"] = time.monotonic()
                await send(writer, 200, message())
            elif path.endswith("/usage"):
                await send(writer, 200, usage())
            elif path.endswith("/models"):
                await send(writer, 200, {"data": [], "has_more": False})
            else:
                await send(writer, 404, {"type": "error", "error": {"type": "not_found_error", "message": path}})
        finally:
            entry.setdefault("ended", time.monotonic())
            self.record(entry)

    async def refresh(self, entry, headers, body, writer):
        """The token endpoint. A refresh token that was used already revokes the login."""
        if "json" in headers.get("content-type", ""):
            asked = json.loads(body)
        else:
            asked = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        token = asked.get("refresh_token", "")
        name = token.split(".")[1] if token.count(".") == 3 else None
        login = self.logins.get(name)
        entry.update(account=name, token=token, answered=None, reuse=False)
        first = self.first_use.get(token)
        await asyncio.sleep(self.chance.uniform(0.002, self.slowest))
        if login is None or token.split(".")[2] != str(login.family) or login.revoked:
            entry["refused"] = "unknown or revoked"
        elif first is not None or token != login.refresh_token():
            entry.update(refused="used twice", reuse=True, first=first)
            login.revoked = True
            self.lost.put_nowait(name)
        else:
            self.first_use[token] = entry
            login.generation += 1
        if "refused" in entry:
            refusal = {"error": "invalid_grant", "error_description": "the refresh token is not valid"}
            await send(writer, 400, refusal)
        else:
            fresh = {"access_token": self.new_access(login), "refresh_token": login.refresh_token()}
            await send(writer, 200, {"token_type": "Bearer", "expires_in": int(self.token_life), **fresh})
        entry["answered"] = time.monotonic()


async def send(writer, status, document):
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()


def message():
    return {
        "id": "msg_chaos",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "ok"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def usage():
    resets = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
    window = {"utilization": 10.0, "resets_at": resets.isoformat()}
    return {"five_hour": window, "seven_day": window, "seven_day_opus": None}
