"""A host, for .ci/pool-chaos: a daemon and its agents, with a home and (as root) a user id of their own."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time

FIRST_UID = 20001
CONFIG = """
[leases]
per_account = 1
overflow = "wait"
grace = "1s"
[selection]
reuse_window = "0s"
session_ttl = "1s"
[quota]
poll = "{poll}"
[refresh]
min_life = "2s"
[providers.anthropic]
base_url = "http://127.0.0.1:{provider}"
usage_url = "http://127.0.0.1:{provider}"
[providers.anthropic.oauth]
base_url = "http://127.0.0.1:{provider}"
token_url = "http://127.0.0.1:{provider}/v1/oauth/token"
client_id = "chaos"
"""


class Host:
    """`on_line` is called with each thing that its agents saw."""

    def __init__(self, number, program, directory, on_line, faketime=None):
        self.number, self.program, self.on_line = number, program, on_line
        self.home = os.path.join(directory, f"host{number}")
        self.uid = FIRST_UID + number if os.geteuid() == 0 else None
        self.log = os.path.join(directory, f"host{number}.log")
        self.socket = os.path.join(self.home, "run/lessor.sock")
        os.makedirs(self.home, mode=0o700)
        self.offset = os.path.join(directory, f"host{number}.offset")
        self.env = {"PATH": os.environ["PATH"], "HOME": self.home, "LESSOR_HOME": self.home, "LESSOR_NO_START": "1"}
        self.env["LESSOR_LOG"] = os.environ.get("LESSOR_LOG", "info")
        self.faked = {}
        if faketime:
            self.skew(0)
            self.faked = {"LD_PRELOAD": faketime, "FAKETIME_TIMESTAMP_FILE": self.offset}
            self.faked.update(FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1")
        self.daemon = self.agents = None
        atexit.register(self.end)
        self.give(self.home)

    def give(self, path):
        if self.uid is not None:
            os.chown(path, self.uid, self.uid)

    def who(self):
        return {} if self.uid is None else {"user": self.uid, "group": self.uid, "extra_groups": []}

    def configure(self, provider, poll, more=""):
        self.write_config(CONFIG.format(provider=provider, poll=poll) + more)

    def replace_in_config(self, changes):
        with open(os.path.join(self.home, "config.toml"), encoding="utf-8") as file:
            text = file.read()
        for old, new in changes.items():
            if old not in text:
                raise RuntimeError(f"host {self.number}: its configuration does not contain {old!r}")
            text = text.replace(old, new)
        self.write_config(text)

    def write_config(self, text):
        path = os.path.join(self.home, "config.toml")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        self.give(path + ".new")
        os.replace(path + ".new", path)

    def start(self, timeout=60):
        """Starts the daemon and waits until it says that it is ready."""
        with open(self.log, "ab") as log:
            begin = log.tell()
            command = [self.program, "daemon"]
            env = {**self.env, **self.faked}
            self.daemon = subprocess.Popen(
                command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.who()
            )
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with open(self.log, "rb") as log:
                log.seek(begin)
                if any(line.startswith(b"ready:") for line in log):
                    return
            if self.daemon.poll() is not None:
                raise RuntimeError(f"host {self.number}: the daemon ended with {self.daemon.returncode}: {self.log}")
            time.sleep(0.01)
        raise RuntimeError(f"host {self.number}: the daemon was not ready within {timeout} s: {self.log}")

    def stop(self):
        """Ends the daemon as its operator does."""
        self.daemon.terminate()
        self.daemon.wait(60)

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()

    def freeze(self, with_agents):
        """Stops all processes of the host, or its daemon only."""
        self.daemon.send_signal(signal.SIGSTOP)
        if with_agents and self.agents:
            self.agents.send_signal(signal.SIGSTOP)

    def thaw(self):
        # the daemon first: a whole machine that wakes up has no order either
        self.daemon.send_signal(signal.SIGCONT)
        if self.agents:
            self.agents.send_signal(signal.SIGCONT)

    def skew(self, seconds):
        """Sets the host's time of day this far from the true one; the boot clock goes on."""
        with open(self.offset + ".new", "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(f"{seconds:+d}\n")
        os.replace(self.offset + ".new", self.offset)

    def run(self, *arguments, text=None, may_fail=False, timeout=60):
        """A command of lessor's on this host; what it printed."""
        command = [self.program, *arguments]
        done = subprocess.run(
            command,
            env=self.env,
            cwd="/",
            input=text or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **self.who(),
        )
        if done.returncode and not may_fail:
            raise RuntimeError(f"host {self.number}: lessor {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def start_agents(self, count, provider, **settings):
        config = {"host": self.number, "socket": self.socket, "agents": count, "provider": provider, **settings}
        config["uid"] = self.uid
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agents.py")
        with open(self.log + ".agents", "ab") as log:
            self.agents = subprocess.Popen(
                [sys.executable, "-B", script],
                env=self.env,
                cwd="/",
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.tell(config)
        threading.Thread(target=self.read_agents, daemon=True).start()

    def read_agents(self):
        for line in self.agents.stdout:
            self.on_line({"host": self.number, **json.loads(line)})

    def tell(self, command):
        try:
            self.agents.stdin.write(json.dumps(command) + "\n")
            self.agents.stdin.flush()
        except BrokenPipeError:
            pass

    def end_agents(self):
        if self.agents and self.agents.poll() is None:
            self.agents.stdin.close()
            try:
                self.agents.wait(10)
            except subprocess.TimeoutExpired:
                self.agents.kill()

    def end(self):
        for process in (self.agents, self.daemon):
            if process and process.poll() is None:
                process.send_signal(signal.SIGCONT)
        self.end_agents()
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(20)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
