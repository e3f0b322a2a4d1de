"""All that a run of .ci/pool-chaos starts: provider, database, links, hosts; and how a pool is set up on them."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time

from hosts import Host
from ledger import Ledger
from postgres import Postgres
from proxy import Proxy

from provider import Provider

PORT = 5650


def faketime(directory):
    """The library that changes a process's time of day, fetched into the directory if it is not installed."""
    arch = os.uname().machine
    place = f"usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1"
    if os.path.exists("/" + place):
        return "/" + place
    try:
        subprocess.run(["apt-get", "download", "libfaketime"], cwd=directory, check=True, capture_output=True)
        package = next(name for name in os.listdir(directory) if name.endswith(".deb"))
        subprocess.run(["dpkg", "-x", package, "faketime"], cwd=directory, check=True, capture_output=True)
        return os.path.join(directory, "faketime", place)
    except (OSError, subprocess.CalledProcessError, StopIteration):
        return None


class World:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.names = [f"login{number}" for number in range(options.accounts)]
        self.ledger = Ledger(options.hosts, options.strict)
        self.began = time.monotonic()  # when agents began, once they have
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.provider = Provider(self.names, options.token_life, self.ledger.served, options.seed, options.strict)
        self.on_loop(self.provider.start(options.hosts))
        self.ledger.token_ends = self.provider.ends
        # the injected fault: daemons with the same logins that know nothing of each other
        self.is_separate = options.inject == "separate"
        self.is_pool = options.pool and not self.is_separate
        self.postgres, self.links = None, []
        library = faketime(directory) if options.clock else None
        self.has_clock = library is not None
        if options.pool:
            self.postgres = Postgres(os.path.join(directory, "postgres"), options.port)
            self.links = [Proxy(options.port) for _ in range(options.hosts)]
            for link in self.links:
                self.on_loop(link.start())
        self.hosts = [
            Host(number, options.program, directory, self.ledger.saw, library) for number in range(options.hosts)
        ]

    def on_loop(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def set_link(self, host, mode):
        async def change():
            self.links[host].set(mode)

        self.on_loop(change())

    def start(self):
        for host in self.hosts:
            host.configure(self.provider.ports[host.number], self.options.poll)
            host.start()
        if self.is_pool:
            self.set_up_pool()
        end = time.monotonic() + 30
        for name in self.names:
            # the first host may not have its connection yet
            while True:
                try:
                    self.log_in(name)
                    break
                except RuntimeError as error:
                    if "cannot be reached now" not in str(error) or time.monotonic() > end:
                        raise
                    time.sleep(0.2)
        if self.is_pool:
            self.all_have_accounts()

    def set_up_pool(self):
        """The commands that an operator gives, and a shorter ttl, because rounds should be short."""
        first, *others = self.hosts
        secret = os.path.join(first.home, "password")
        with open(secret, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(self.postgres.password + "\n")
        first.give(secret)
        url = self.postgres.url(self.links[0].port)
        rules = ["--per-account", "1", "--max-per-account", "1", "--overflow", "wait"]
        first.run("pool", "init", url, "--password-file", secret, "--name", "host0", *rules)
        ttl, margin = int(self.options.ttl * 1000), int(self.options.margin * 1000)
        self.postgres.sql(f"UPDATE lessor.pool SET ttl_ms = {ttl}, margin_ms = {margin}")
        for host in others:
            token = first.run("pool", "join-token", "--refresher", "--name", f"host{host.number}").strip()
            host.run("pool", "join", "--token-stdin", text=token + "\n")
        linger = f'[pool]\nlinger = "{int(self.options.linger * 1000)}ms"\n'
        for host, link in zip(self.hosts, self.links):
            # the token names the first host's link
            host.replace_in_config({f":{self.links[0].port}/": f":{link.port}/", "[pool]\n": linger})
            host.stop()
            host.start()
        end = time.monotonic() + 20
        for host, link in zip(self.hosts, self.links):
            while not link.writers and time.monotonic() < end:
                time.sleep(0.05)
            if not link.writers:
                raise RuntimeError(f"host {host.number} does not use its own link to the database")

    def log_in(self, name):
        document = json.dumps(self.provider.log_in(name))
        arguments = ["account", "add", "anthropic", "--oauth-stdin", "--label", name, "--use", "any"]
        for host in self.hosts if self.is_separate else self.hosts[:1]:
            host.run(*arguments, text=document)
        if self.is_pool:
            # if it is not the pool's at once
            self.hosts[0].run("pool", "migrate", may_fail=True)

    def all_have_accounts(self):
        """Waits until every host knows the accounts that were added on the first one."""
        end = time.monotonic() + 20
        for host in self.hosts:
            while True:
                found = {account["label"] for account in json.loads(host.run("account", "list", "--json"))}
                if found >= set(self.names):
                    break
                if time.monotonic() > end:
                    missing = ", ".join(sorted(set(self.names) - found))
                    raise RuntimeError(f"host {host.number} does not know these accounts of the pool: {missing}")
                time.sleep(0.2)

    def log_in_again(self, name):
        """What the user of a lost login does."""
        for host in self.hosts if self.is_separate else self.hosts[:1]:
            host.run("account", "remove", name, "--yes", may_fail=True)
        self.log_in(name)

    def lost_logins(self):
        async def take():
            names = []
            while not self.provider.lost.empty():
                names.append(self.provider.lost.get_nowait())
            return names

        return self.on_loop(take())

    def start_agents(self, inject):
        self.began = time.monotonic()
        counts = [self.options.agents // self.options.hosts] * self.options.hosts
        for number in range(self.options.agents % self.options.hosts):
            counts[number] += 1
        for host, count in zip(self.hosts, counts):
            host.start_agents(
                count,
                self.provider.ports[host.number],
                seed=self.options.seed,
                hold=[self.options.hold[0], self.options.hold[1]],
                long=[self.options.ttl, 3 * self.options.ttl],
                think=self.options.think,
                wait_ms=int(self.options.ttl * 4000),
                inject=inject if host.number == 0 else None,
            )

    def sweep(self, host, wait):
        """Leases every account at once on a host that has no agents any more: how many it got, and what it said."""
        uid = "-1" if host.uid is None else str(host.uid)
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sweep.py")
        command = [sys.executable, "-B", script, host.socket, uid, str(int(wait * 1000)), *self.names]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=wait * 2 + 60)
        return json.loads(done.stdout or '{"leased": 0, "refused": ["no answer"]}')

    def end_agents(self):
        for host in self.hosts:
            host.end_agents()

    def end(self):
        for host in self.hosts:
            host.end()
        if self.postgres:
            self.postgres.stop("fast")
