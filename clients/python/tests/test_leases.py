"""Leases with asyncio, against the real daemon."""

import asyncio
import json
import signal
import subprocess
import sys
import time

import lessor
import pytest
from conftest import DEADLINE, Home, until

LIMIT = {"retry-after": "2"}
BODY = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}})
FREE_WITHIN = 0.25


async def queued(count: int) -> None:
    """Waits until so many requests are in the daemon's queue."""
    async with asyncio.timeout(DEADLINE):
        while len((await lessor.status())["queue"]) != count:
            await asyncio.sleep(0.005)


def test_sixteen_tasks_have_sixteen_accounts(home: Home) -> None:
    home.add_accounts(16)

    async def main() -> None:
        all_hold = asyncio.Barrier(16)

        async def task() -> str | None:
            async with lessor.acquire("anthropic", wait=10) as lease:
                await all_hold.wait()
                assert lease.headers == {"x-api-key": lease.secret}
                return lease.account["label"]

        labels = await asyncio.gather(*(task() for _ in range(16)))
        assert sorted(map(str, labels)) == sorted(f"a{number}" for number in range(16))

    asyncio.run(main())
    assert home.leases() == []


def test_more_tasks_than_accounts_take_turns(home: Home) -> None:
    home.add_accounts(2)

    async def main() -> None:
        held: set[str] = set()

        async def task() -> None:
            async with lessor.acquire("anthropic", wait=20) as lease:
                assert lease.id not in held and len(held) < 2
                held.add(lease.id)
                await asyncio.sleep(0)
                held.remove(lease.id)

        await asyncio.gather(*(task() for _ in range(200)))

    asyncio.run(main())


def test_a_cancelled_task_frees_its_account(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> float:
        holds = asyncio.Event()

        async def holder() -> None:
            async with lessor.acquire("anthropic"):
                holds.set()
                await asyncio.sleep(DEADLINE)

        task = asyncio.create_task(holder())
        await holds.wait()
        waiter = asyncio.ensure_future(lessor.acquire("anthropic", wait=10))
        await queued(1)
        begun = time.monotonic()
        task.cancel()
        lease = await waiter
        free = time.monotonic() - begun
        await lease.release()
        return free

    assert asyncio.run(main()) < FREE_WITHIN


def test_a_killed_process_frees_its_account(home: Home) -> None:
    home.add_accounts(1)
    program = "import lessor, time; lease = lessor.acquire_sync('anthropic'); print(lease.id, flush=True); time.sleep(60)"

    async def main() -> float:
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            await asyncio.to_thread(holder.stdout.readline)
            waiter = asyncio.ensure_future(lessor.acquire("anthropic", wait=10))
            await queued(1)
            begun = time.monotonic()
            holder.send_signal(signal.SIGKILL)
            lease = await waiter
            free = time.monotonic() - begun
            await lease.release()
            return free

    assert asyncio.run(main()) < FREE_WITHIN


def test_a_cancelled_wait_leaves_the_queue(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        async with lessor.acquire("anthropic"):
            waiter = asyncio.ensure_future(lessor.acquire("anthropic", wait=60))
            await queued(1)
            waiter.cancel()
            await queued(0)

    asyncio.run(main())


def test_a_lease_may_belong_to_another_process(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        with subprocess.Popen(["sleep", "60"]) as child:
            lease = await lessor.acquire("anthropic", pid=child.pid, label="of the child")
            assert [row["bind"] for row in home.leases()] == ["pid"]
            home.kill()
            # the next daemon knows such a lease
            assert (await lease.report(200)).action == "continue"
            child.kill()
        until(lambda: not home.leases(), "the lease ended with its process")
        with pytest.raises(lessor.StaleLeaseError):
            await lease.renew()

    asyncio.run(main())


def test_leases_outlive_a_killed_daemon(home: Home) -> None:
    home.add_accounts(4)

    async def main() -> None:
        leases = [await lessor.acquire("anthropic") for _ in range(4)]
        before = [(lease.id, lease.fence, lease.account["id"]) for lease in leases]
        first = home.kill()
        # resumed without a call of the holder, by a daemon that the client has started
        await asyncio.to_thread(until, lambda: len(home.leases()) == 4, "the leases are resumed")
        assert home.pid() != first
        assert [(lease.id, lease.fence, lease.account["id"]) for lease in leases] == before
        assert sorted((row["lease"], row["fence"], row["account"]["id"]) for row in home.leases()) == sorted(before)
        assert [(await lease.report(200)).action for lease in leases] == ["continue"] * 4
        with pytest.raises(lessor.UnavailableError):
            await lessor.acquire("anthropic", wait=0)
        await leases[0].release()
        async with lessor.acquire("anthropic", wait=10) as later:
            assert later.account["id"] == before[0][2] and later.fence > max(fence for _, fence, _ in before)
        for lease in leases:
            await lease.release()

    asyncio.run(main())
    assert home.leases() == []


def test_a_call_goes_on_over_the_death_of_the_daemon(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        async with lessor.acquire("anthropic") as lease:
            fence = lease.fence
            for _ in range(3):
                home.kill()
                assert (await lease.report(200)).action == "continue"
                assert lease.fence == fence

    asyncio.run(main())


def test_a_restart_ends_no_lease(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        async with lessor.acquire("anthropic") as lease:
            await asyncio.to_thread(home.run, "restart")
            assert (await lease.report(200)).action == "continue"

    asyncio.run(main())


def test_a_wait_goes_on_over_the_death_of_the_daemon(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        async with lessor.acquire("anthropic") as lease:
            waiter = asyncio.ensure_future(lessor.acquire("anthropic", wait=15))
            await queued(1)
            home.kill()
            await queued(1)
            account = lease.account
        second = await waiter
        assert second.account == account
        await second.release()

    asyncio.run(main())


def test_a_reported_limit_moves_the_lease(home: Home) -> None:
    home.add_accounts(2)

    async def main() -> None:
        async with lessor.acquire("anthropic") as lease:
            before = (lease.id, lease.fence, lease.account, lease.headers)
            action = await lease.report(429, LIMIT, BODY)
            assert (action.action, action.again, action.after) == ("switch", True, 0)
            assert lease.account != before[2] and lease.fence > before[1] and lease.headers != before[3]
            assert [row["lease"] for row in home.leases()] == [lease.id]
            # without another account: when to come back
            action = await lease.report(429, LIMIT, BODY)
            assert (action.action, action.again) == ("wait", True) and 0 < action.after <= 2
            assert (await lease.report(400, {}, b'{"error": {"type": "invalid_request_error"}}')).action == "stop"
            assert (await lease.report(ok=True)).again is False
            assert (await lease.credential()) == lease.headers
            await lease.renew()

    asyncio.run(main())
    assert home.leases() == []


def test_a_wait_has_an_eta(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        async with lessor.acquire("anthropic") as lease:
            await lease.report(reason="rate_limit_exceeded", retry_after=2)
        limited = time.monotonic()
        for wait in (0, 0.5):
            with pytest.raises(lessor.UnavailableError) as refused:
                await lessor.acquire("anthropic", wait=wait)
            error = refused.value
            assert error.kind == "all_limited" and error.retry_after and 1 < error.retry_after <= 2
            assert [(row["name"], row["why"]) for row in error.accounts] == [("a0", "limited")]
        forecast = await lessor.forecast("anthropic")
        assert forecast.grantable == 0 and forecast.next_at and 1 < forecast.next_at - time.time() <= 2
        waiter = asyncio.ensure_future(lessor.acquire("anthropic", wait=10, label="patient"))
        await queued(1)
        row = (await lessor.status())["queue"][0]
        assert row["label"] == "patient" and 1 < row["eta_at"] / 1000 - time.time() <= 2
        lease = await waiter
        assert 1.5 < time.monotonic() - limited < 4
        assert (await lessor.forecast("anthropic", count=1)).grantable == 0
        await lease.release()
        assert (await lessor.forecast("anthropic")).unshared == 1

    asyncio.run(main())


def test_a_lease_that_cannot_be_resumed_is_stale(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.add_accounts(1)

    async def main() -> None:
        lease = await lessor.acquire("anthropic")
        monkeypatch.setenv("LESSOR_NO_START", "1")
        home.kill()
        for file in (home.path / "data").glob("lessor.db*"):
            file.unlink()
        monkeypatch.delenv("LESSOR_NO_START")
        home.run("ping")
        with pytest.raises(lessor.StaleLeaseError) as ended:
            await lease.report(200)
        assert lease.ended is ended.value
        await lease.release()

    asyncio.run(main())


def test_a_released_lease_is_stale(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        async with lessor.acquire("anthropic") as lease:
            pass
        await lease.release()
        with pytest.raises(lessor.StaleLeaseError, match="released"):
            await lease.report(200)
        async with lessor.acquire("anthropic") as lease:
            home.run("account", "remove", "a0", "--yes")
            with pytest.raises(lessor.StaleLeaseError):
                await lease.report(200)

    asyncio.run(main())


def test_a_lease_ends_with_its_event_loop(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> lessor.Lease:
        return await lessor.acquire("anthropic")

    lease = asyncio.run(main())
    assert not lease.ended
    until(lambda: not home.leases(), "the lease has ended")


def test_a_stopped_daemon_is_not_started_again(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        lease = await lessor.acquire("anthropic")
        home.run("stop", "--yes")
        with pytest.raises(lessor.LessorError, match="lessor ping") as ended:
            await lease.report(200)
        assert ended.value.kind == "no_daemon" and lease.ended is ended.value
        home.run("ping", "--no-start", status=3)

    asyncio.run(main())


def test_events_go_on_over_the_death_of_the_daemon(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        events = lessor.events("lease.granted")
        first = asyncio.ensure_future(anext(events))
        while not first.done():
            async with lessor.acquire("anthropic"):
                await asyncio.sleep(0.01)
        assert (await first)["kind"] == "lease.granted"
        home.kill()
        while (await anext(events))["kind"] != "client.reconnected":
            pass
        async with lessor.acquire("anthropic", wait=10):
            event = await anext(events)
            assert event["kind"] == "lease.granted" and event["account"]["label"] == "a0"
        await events.aclose()

    asyncio.run(main())


def test_a_secret_is_not_printed(home: Home) -> None:
    home.add_accounts(1)

    async def main() -> None:
        async with lessor.acquire("anthropic") as lease:
            assert lease.secret == "sk-ant-api03-key-0"
            assert lease.secret not in f"{lease} {lease!r} {lease.account}" and "a0" in repr(lease)

    asyncio.run(main())
