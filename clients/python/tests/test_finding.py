"""How the daemon is found and started, and the errors when that fails."""

import asyncio
import os
from pathlib import Path

import lessor
import pytest
from conftest import Home


def refused(*arguments: str, **options: object) -> lessor.LessorError:
    with pytest.raises(lessor.LessorError) as error:
        lessor.acquire_sync(*arguments, **options)  # type: ignore[arg-type]
    return error.value


def test_a_daemon_is_started_once(home: Home) -> None:
    async def main() -> set[int]:
        answers = await asyncio.gather(*(lessor.status() for _ in range(16)))
        return {answer["pid"] for answer in answers}

    assert asyncio.run(main()) == {home.pid()}


def test_a_program_that_is_missing_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = refused("anthropic")
    assert error.kind == "no_daemon" and "`lessor` cannot be started: No such file or directory" in error.message
    assert error.hint == "install lessor, or add its directory to PATH"
    # a daemon that runs needs no program
    home.run("ping")
    assert lessor.status_sync()["version"]


def test_no_daemon_is_started_against_the_users_will(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESSOR_NO_START", "1")
    error = refused("anthropic")
    assert (error.kind, error.hint) == ("no_daemon", "start one: lessor daemon")
    assert str(home.path / "run" / "lessor.sock") in error.message
    monkeypatch.setenv("LESSOR_NO_START", "0")
    assert lessor.status_sync()["version"]


def test_a_configuration_that_is_not_valid_is_reported(home: Home) -> None:
    (home.path / "config.toml").write_text("x = [")
    error = refused("anthropic")
    assert error.kind == "no_daemon" and "config.toml:1" in error.message and "lessor config" in str(error)


def test_refusals_say_what_helps(home: Home) -> None:
    assert "lessor account add anthropic" in str(refused("anthropic"))
    assert "known providers" in str(refused("antropic"))
    home.add_accounts(1)
    assert "`priority` is 11" in str(refused("anthropic", priority=11))
    assert "a0" in str(refused("anthropic", only=["a1"]))
    assert "`model`: invalid type" in str(refused("anthropic", model=5))
    assert refused("anthropic", priority=float("nan")).message.startswith("not JSON")
    with pytest.raises(TypeError, match="waiting"):
        lessor.acquire_sync("anthropic", waiting=5)  # type: ignore[call-arg]


def test_a_daemon_with_another_socket_is_found_by_its_lock(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = str(tmp_path / "other.sock")
    home.run("ping", "--socket", socket)
    monkeypatch.setenv("LESSOR_NO_START", "1")
    assert lessor.status_sync()["socket"] == socket
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("LESSOR_HOME", "/nowhere")
        elsewhere.setenv("LESSOR_SOCKET", socket)
        assert lessor.status_sync()["socket"] == socket


@pytest.mark.parametrize("runtime", [True, False])
def test_without_lessor_home_the_places_are_those_of_the_system(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: bool
) -> None:
    monkeypatch.delenv("LESSOR_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    if runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    home.run("ping")
    monkeypatch.setenv("LESSOR_NO_START", "1")
    assert lessor.status_sync()["pid"] == home.pid()
    monkeypatch.delenv("LESSOR_NO_START")
    home.run("stop", "--yes")
