"""The blocking forms of the calls."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import lessor
import pytest
from conftest import Home, until


def test_sixteen_threads_have_sixteen_accounts(home: Home) -> None:
    home.add_accounts(16)
    all_hold = threading.Barrier(16)

    def work(_: int) -> str | None:
        with lessor.acquire_sync("anthropic", wait=10) as lease:
            all_hold.wait()
            assert lease.report_sync(200).action == "continue"
            return lease.account["label"]

    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(work, range(16)))) == 16
    assert home.leases() == []


def test_every_call_has_a_blocking_form(home: Home) -> None:
    home.add_accounts(2)
    assert lessor.forecast_sync("anthropic").unshared == 2
    lease = lessor.acquire_sync("anthropic", label="blocking")
    before = lease.account
    assert lease.report_sync(429, {"retry-after": "60"}, b"{}").action == "switch" and lease.account != before
    assert lease.credential_sync() == lease.headers
    lease.renew_sync()
    assert lessor.status_sync()["leases"] == 1
    assert [account["label"] for account in lessor.call_sync("account.list")] == ["a0", "a1"]
    with pytest.raises(lessor.UnavailableError):
        lessor.acquire_sync("anthropic", wait=0)
    lease.release_sync()
    assert home.leases() == []


def test_a_lease_outlives_a_killed_daemon(home: Home) -> None:
    home.add_accounts(1)
    with lessor.acquire_sync("anthropic") as lease:
        before = (lease.id, lease.fence)
        home.kill()
        until(lambda: [(row["lease"], row["fence"]) for row in home.leases()] == [before], "the lease is resumed")
        assert lease.report_sync(200).action == "continue"


def test_events_can_be_iterated(home: Home) -> None:
    home.add_accounts(1)
    with lessor.acquire_sync("anthropic"):
        pass
    kinds = []
    for event in lessor.events_sync("lease.granted", "lease.ended", recent=True):
        kinds.append(event["kind"])
        if event["kind"] == "replay.end":
            break
    assert kinds == ["lease.granted", "lease.ended", "replay.end"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_blocking_calls_work_inside_an_event_loop_and_after_a_fork(home: Home) -> None:
    home.add_accounts(2)

    async def main() -> None:
        with lessor.acquire_sync("anthropic") as lease:
            child = os.fork()
            if child == 0:
                with lessor.acquire_sync("anthropic", wait=5) as other:
                    os._exit(0 if other.account != lease.account else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert lease.report_sync(200).action == "continue"

    asyncio.run(main())


def test_an_interrupted_wait_leaves_the_queue(home: Home) -> None:
    home.add_accounts(1)
    program = "import lessor; lessor.acquire_sync('anthropic', wait=60)"
    with lessor.acquire_sync("anthropic"), subprocess.Popen([sys.executable, "-c", program], stderr=-1) as waiter:
        until(lambda: len(lessor.status_sync()["queue"]) == 1, "the request waits")
        waiter.send_signal(signal.SIGINT)
        until(lambda: not lessor.status_sync()["queue"], "the request has left the queue")
        assert b"KeyboardInterrupt" in waiter.communicate()[1]
