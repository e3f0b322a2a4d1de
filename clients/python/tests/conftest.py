"""A daemon in a home of its own for each test. `LESSOR` names the program, otherwise PATH does."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which(os.environ.get("LESSOR", "lessor")) or "lessor"
DEADLINE = 20.0
CONFIG = """
[daemon]
idle_exit = "1m"
[gateway]
enabled = false
[leases]
overflow = "wait"
[quota]
poll = "off"
"""


class Home:
    """A LESSOR_HOME with a daemon that is started by whoever needs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "config.toml").write_text(CONFIG)

    def run(self, *arguments: str, given: str = "", status: int = 0) -> str:
        command = [PROGRAM, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def add_accounts(self, count: int) -> None:
        for number in range(count):
            key, label = f"sk-ant-api03-key-{number}", f"a{number}"
            self.run("account", "add", "anthropic", "--api-key-stdin", "--label", label, given=key)

    def leases(self) -> list[Any]:
        return list(self.json("leases"))

    def pid(self) -> int:
        return int(self.json("ping")["pid"])

    def kill(self) -> int:
        """Kills the daemon, and waits until its process has ended."""
        pid = int(json.loads((self.path / "data" / "daemon.lock").read_text())["pid"])
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}/fd").exists() or state_of(pid) in "ZX", "the daemon is dead")
        return pid


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def until(condition: Callable[[], object], what: str) -> float:
    """Waits for a condition; answers after how many seconds it held."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < DEADLINE, f"not in time: {what}"
        time.sleep(0.002)
    return time.monotonic() - begun


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    for name in [name for name in os.environ if name.startswith("LESSOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LESSOR_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.path.dirname(PROGRAM), prepend=os.pathsep)
    yield Home(tmp_path)
    subprocess.run([PROGRAM, "stop", "--yes", "--no-start"], capture_output=True, timeout=DEADLINE)
